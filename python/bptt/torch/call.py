# SPDX-License-Identifier: MIT
"""One call of a module: tensors in, tensors out, with no word of PyTorch's autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .layout import Layout, array_of
from .stack import Sequences, Stack, pull, run

Inputs = Sequence[Any]  # x, the initial states, and the weights


class Call(NamedTuple):
    """What a call has beside its tensors.

    Attributes
    ----------
    on_trace : callable
        Gets the trace.
    """

    stack: Stack
    layout: Layout
    sequences: Sequences
    on_trace: Callable[[Any], None] | None = None

    def forward(self, inputs: Inputs, keep_tape: bool) -> tuple[list[Tensor], list[Any]]:
        """y and the final states, and the tapes."""
        layout, first = self.layout, 1 + self.stack.states
        y, finals, tapes = run(
            self.stack,
            self.sequences,
            layout.inward(inputs[0]),
            [layout.state_inward(part) for part in inputs[1:first]],
            [array_of(weight) for weight in inputs[first:]],
            keep_tape,
            torch.get_num_threads(),
        )
        return self.outward(y, finals, ()), tapes

    def backward(
        self, tapes: Any, inputs: Inputs, cotangents: Inputs, needs: Sequence[bool]
    ) -> list[Any]:
        """The gradients of `inputs`, None where `needs` has False; without tapes it makes them."""
        layout, (dy, *dstate), first = self.layout, cotangents, 1 + self.stack.states
        if tapes is None:
            tapes = self.forward(inputs, True)[1]
        dx, dinitial, dweights, trace = pull(
            self.stack,
            self.sequences,
            tapes,
            None if dy is None else layout.inward(dy),
            [layout.state_inward(part) for part in dstate],
            (needs[0], any(needs[1:first]), needs[first:]),
            torch.get_num_threads(),
        )
        if self.on_trace is not None:
            self.on_trace(trace)
        return self.outward(dx, dinitial, dweights)

    def outward(self, x: Any, states: Sequence[Any], weights: Sequence[Any]) -> list[Any]:
        """Arrays of the core as tensors; None stays None."""
        layout = self.layout
        return [
            None if x is None else layout.outward(x),
            *[None if s is None else layout.state_outward(s) for s in states],
            *[None if w is None else torch.from_numpy(w) for w in weights],
        ]

    @property
    def shares_y(self) -> bool:
        """Is y the memory that the tape refers to?"""
        return self.layout.rows is None and self.stack.structure.directions == 1
