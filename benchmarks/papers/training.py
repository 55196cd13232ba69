# SPDX-License-Identifier: MIT
"""Train a recurrent layer and a linear readout on batches drawn during training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bptt
from bptt.layers import Recurrent
from bptt.optim import Optimizer
from bptt.tasks import Task

Array = NDArray[Any]
Loss = Callable[[Array, Array], tuple[float, Array]]
Seed = int | np.random.Generator


class Model:
    """`layer`, then a `bptt.Linear` on its output at each step or, if `last`, at the last step."""

    def __init__(self, layer: Recurrent, outputs: int, last: bool, seed: Seed) -> None:
        self.layer, self.last = layer, last
        self.readout = bptt.Linear(layer.hidden_size, outputs, seed=seed)
        self.parameters = bptt.optim.join(layer=layer.parameters, readout=self.readout.parameters)

    def __call__(self, x: Array) -> Array:
        y, _ = self.layer(x)
        return self.readout(y[-1] if self.last else y)

    def gradients(
        self, x: Array, target: Array, loss: Loss, omega: float = 0.0
    ) -> tuple[float, dict[str, Array]]:
        """Return a batch's loss and gradients by name, with `omega` times Pascanu's penalty."""
        y, _, tape = self.layer.forward(x)
        prediction, readout_tape = self.readout.forward(y[-1] if self.last else y)
        value, slope = loss(prediction, target)
        of_readout = self.readout.backward(readout_tape, slope)
        dy = of_readout.x
        if self.last:
            dy = np.zeros_like(y)
            dy[-1] = of_readout.x
        of_layer = self.layer.backward(tape, dy)
        if omega:
            penalty = bptt.regularise.omega(tape, dy, immediate=True)
            of_layer.params["weight_hh_l0"] += omega * penalty.params["weight_hh_l0"]
        return value, bptt.optim.join(layer=of_layer.params, readout=of_readout.params)


def train(
    model: Model, optimizer: Optimizer, draw: Callable[[], Task], loss: Loss,
    updates: int, every: int, max_norm: float | None = None, omega: float = 0.0,
) -> Iterator[tuple[int, float]]:  # fmt: skip
    """Yield, at regular intervals, the number of updates and the mean loss since the last time.

    Gradients are clipped to the norm `max_norm`, if given. Training ends early if a loss is not
    finite, because all later losses would be NaN.
    """
    losses: list[float] = []
    for n in range(1, updates + 1):
        x, target, _ = draw()
        value, grads = model.gradients(x, target, loss, omega)
        if max_norm is not None:
            bptt.clip_grad_norm(grads, max_norm, nonfinite="skip")
        optimizer.step(grads)
        losses.append(value)
        if not np.isfinite(value):
            return
        if n % every == 0:
            yield n, float(np.mean(losses))
            losses.clear()
