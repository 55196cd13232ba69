# SPDX-License-Identifier: MIT
"""A small model with the interface that `bptt.fit` needs, chained by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import bptt
from bptt.layers.base import LayerGrads
from bptt.optim import join, split

__all__ = ["Chain"]


class Chain:
    """A GRU and a readout of its last state, or of every step."""

    def __init__(
        self, inputs: int = 2, hidden: int = 5, outputs: int = 2, *, every: bool = False,
        seed: int = 0, **options: Any,
    ) -> None:  # fmt: skip
        self.gru = bptt.GRU(inputs, hidden, seed=seed, **options)
        self.readout = bptt.Linear(hidden, outputs, seed=seed + 1, dtype=self.gru.dtype)
        self.parameters = join(gru=self.gru.parameters, readout=self.readout.parameters)
        self.every, self.batch_first = every, self.gru.batch_first
        self.calls: list[tuple[Any, Any]] = []  # x and lengths of each training call

    def __call__(self, x: Any, *, lengths: Any = None) -> Any:
        y, h = self.gru(x, lengths=lengths)
        return self.readout(y if self.every else h[-1])

    def forward(self, x: Any, *, lengths: Any = None) -> Any:
        y, h, tape = self.gru.forward(x, lengths=lengths)
        out, readout_tape = self.readout.forward(y if self.every else h[-1])
        return out, (tape, h, readout_tape)

    def backward(self, tape: Any, d: Any, *, trace: bool = False, grads: Any = None) -> LayerGrads:
        below, h, readout_tape = tape
        end = self.readout.backward(readout_tape, d)
        dh = np.zeros_like(h)
        if not self.every:
            dh[-1] = end.x
        dy = end.x if self.every else None
        of = self.gru.backward(below, dy, dh, trace=trace, grads=["params"])
        return LayerGrads(join(gru=of.params, readout=end.params), None, None, of.trace)

    def loss_and_grads(self, x: Any, target: Any, loss: Any, *, lengths: Any = None) -> Any:
        self.calls.append((x, lengths))
        y, tape = self.forward(x, lengths=lengths)
        more = {"lengths": lengths} if self.every and lengths is not None else {}
        value, d = loss(y, target, **more)
        return value, self.backward(tape, d).params

    def state_dict(self) -> dict[str, Any]:
        return join(gru=self.gru.state_dict(), readout=self.readout.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        parts = split(state)
        self.gru.load_state_dict(parts["gru"])
        self.readout.load_state_dict(parts["readout"])
