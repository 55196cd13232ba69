# SPDX-License-Identifier: MIT
"""The model and the training loop of the demo's tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._types import Array, State
from ..clip import clip_grad_norm
from ..layers.cells import Recurrent
from ..layers.linear import Linear
from ..optim import Adam, join
from ..schedules import CosineAnnealing
from .console import Console

__all__ = ["Batch", "Reader", "fit", "state_gradient_norms"]

Loss = Callable[[Array, Array], tuple[float, Array]]


class Batch(NamedTuple):
    x: Array  # (T, B, I)
    target: Array  # (B, ...)
    lengths: Array | None = None  # (B,)


class Reader:
    """One recurrent layer, and a linear layer from its final h to the answer."""

    def __init__(self, rnn: Recurrent, outputs: int, seed: int) -> None:
        self.rnn = rnn
        self.head = Linear(rnn.hidden_size, outputs, seed=seed)
        self.parameters = join(rnn=rnn.parameters, head=self.head.parameters)

    def __call__(self, x: Array, lengths: Array | None = None) -> Array:
        _, state = self.rnn(x, lengths=lengths)
        return self.head(hidden(state)[0])

    def gradients(self, batch: Batch, loss: Loss) -> tuple[float, dict[str, Array]]:
        """The loss and its gradient with respect to every parameter."""
        _, state, tape = self.rnn.forward(batch.x, lengths=batch.lengths)
        prediction, head_tape = self.head.forward(hidden(state)[0])
        value, dprediction = loss(prediction, batch.target)
        head = self.head.backward(head_tape, dprediction)
        rnn = self.rnn.backward(tape, dstate=like(state, head.x))
        return value, join(rnn=rnn.params, head=head.params)


def hidden(state: State) -> Array:
    """h, from a state h (RNN, GRU) or (h, c) (LSTM)."""
    return state[0] if isinstance(state, tuple) else state  # type: ignore[no-any-return]


def like(state: State, dh: Array) -> State:
    """The gradient of a final state of one layer, if only h affects the loss."""
    return (dh[None], None) if isinstance(state, tuple) else dh[None]


def fit(
    model: Reader,
    draw: Callable[[], Batch],
    loss: Loss,
    *,
    steps: int,
    lr: float,
    console: Console,
    name: str,
) -> list[float]:
    """Train with Adam, a cosine schedule and gradients clipped to norm 1; return every loss."""
    optimizer = Adam(model.parameters, lr=lr)
    schedule = CosineAnnealing(optimizer, t_max=steps)
    losses = []
    for _ in console.progress(steps, name):
        value, grads = model.gradients(draw(), loss)
        clip_grad_norm(grads, 1.0)
        optimizer.step(grads)
        schedule.step()
        losses.append(value)
    return losses


def state_gradient_norms(model: Reader, batch: Batch, loss: Loss) -> Array:
    """||dL/dh_t|| for t = 1..T, over batch and units, for a loss on the last step.

    The sequence runs as T sequences of one step, each with its own tape, so that the gradient of
    each initial state is the gradient of the state between two steps.
    """
    state: Any = None
    tapes = []
    for x_t in batch.x:
        _, state, tape = model.rnn.forward(x_t[None], state)
        tapes.append(tape)
    prediction, head_tape = model.head.forward(hidden(state)[0])
    dprediction = loss(prediction, batch.target)[1]
    dstate = like(state, model.head.backward(head_tape, dprediction).x)
    norms = []
    for tape in reversed(tapes):
        norms.append(np.linalg.norm(hidden(dstate).astype(np.float64)))
        dstate = model.rnn.backward(tape, dstate=dstate).state
    return np.array(norms[::-1])
