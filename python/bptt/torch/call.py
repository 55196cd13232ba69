# SPDX-License-Identifier: MIT
"""One call of a module, from tensors to tensors, without PyTorch's autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .layout import Layout
from .stack import CellArrays, Sequences, Stack, pull, run

Inputs = Sequence[Any]  # x, and the initial states; perhaps the weights


class Call(NamedTuple):
    """Everything of a call except its x and states.

    Attributes
    ----------
    cells : list
        The weights as arrays in the memory of PyTorch's tensors.
    on_trace : callable
        Called with the trace.
    """

    stack: Stack
    layout: Layout
    sequences: Sequences
    cells: CellArrays
    on_trace: Callable[[Any], None] | None = None

    def forward(self, inputs: Inputs, keep_tape: bool) -> tuple[list[Tensor], list[Any]]:
        """y and the final states, and the tapes."""
        x, state = self.inward(inputs[: 1 + self.stack.states])
        results, tapes = run(
            self.stack, self.sequences, x, state, self.cells, keep_tape, torch.get_num_threads()
        )
        return self.outward(results), tapes

    def backward(
        self, tapes: Any, inputs: Inputs, cotangents: Inputs, needs: tuple[bool, ...]
    ) -> list[Any]:
        """The gradients of `inputs`, None where `needs` has False; without tapes it makes them."""
        if tapes is None:
            tapes = self.forward(inputs, True)[1]
        dy, dstate = self.inward(cotangents)
        grads, trace = pull(
            self.stack, self.sequences, tapes, dy, dstate, needs, torch.get_num_threads()
        )
        if self.on_trace is not None:
            self.on_trace(trace)
        return self.outward(grads)

    def inward(self, tensors: Inputs) -> tuple[Any, list[Any]]:
        """A sequence and states as arrays of the core; None stays None."""
        first, *states = tensors
        layout = self.layout
        x = None if first is None else layout.inward(first)
        return x, [s if s is None else layout.state_inward(s) for s in states]

    def outward(self, arrays: Sequence[Any]) -> list[Any]:
        """A sequence, states, and perhaps weights as tensors; None stays None."""
        layout, count = self.layout, 1 + self.stack.states
        first, *states = arrays[:count]
        return [
            None if first is None else layout.outward(first),
            *[s if s is None else layout.state_outward(s) for s in states],
            *[w if w is None else torch.from_numpy(w) for w in arrays[count:]],
        ]

    @property
    def shares_y(self) -> bool:
        """Is y the memory that the tape refers to?"""
        return self.layout.rows is None and self.stack.structure.directions == 1
