# SPDX-License-Identifier: MIT
"""The way through PyTorch's autograd in eager mode: one node for all layers of a module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .layout import Layout
from .stack import Sequences, Stack, pull, run
from .tapes import held, hold


@dataclass(frozen=True)
class Call:
    """One call of a module, but for its tensors.

    Attributes
    ----------
    on_trace : callable
        Gets the trace.
    """

    stack: Stack
    layout: Layout
    sequences: Sequences
    on_trace: Callable[[Any], None] | None = None


def infer(call: Call, x: Tensor, state: Sequence[Tensor | None], weights: Sequence[Tensor]) -> Any:
    """y and the final states, without a tape."""
    return _forward(call, x, state, weights, False)[0]


def _forward(
    call: Call, x: Tensor, state: Sequence[Tensor | None], weights: Sequence[Tensor], keep: bool
) -> tuple[tuple[Tensor, ...], list[Any]]:
    layout = call.layout
    y, finals, tapes = run(
        call.stack,
        call.sequences,
        layout.inward(x),
        [layout.state_inward(part) for part in state],
        [weight.detach().contiguous().numpy() for weight in weights],
        keep,
        torch.get_num_threads(),
    )
    return (layout.outward(y), *[layout.state_outward(last) for last in finals]), tapes


class Recurrence(torch.autograd.Function):
    """(call, x, *states, *weights) -> (y, *final states)."""

    @staticmethod
    def forward(ctx: Any, call: Call, x: Tensor, *others: Any) -> tuple[Tensor, ...]:
        states = call.stack.structure.states
        state, weights = others[:states], others[states:]
        results, tapes = _forward(call, x, state, weights, True)
        ctx.call = call
        ctx.set_materialize_grads(False)
        # The tape refers to x, and to y if that is not a copy of it. PyTorch refuses to go on where
        # one of them, or a weight, has changed.
        shared = call.layout.shares_memory and call.stack.structure.directions == 1
        y = results[0] if shared else None
        ctx.save_for_backward(hold(tapes), y, x, *others)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor | None, *dstate: Tensor | None) -> Any:
        call: Call = ctx.call
        layout, states = call.layout, call.stack.structure.states
        holder, _, x, *others = ctx.saved_tensors
        state, weights = others[:states], others[states:]
        tapes = held(holder)
        if tapes is None:  # hooks of saved tensors have made a copy
            tapes = _forward(call, x, state, weights, True)[1]
        needs = ctx.needs_input_grad[1:]
        dx, dinitial, dweights, trace = pull(
            call.stack,
            call.sequences,
            tapes,
            None if dy is None else layout.inward(dy),
            [layout.state_inward(part) for part in dstate],
            (needs[0], any(needs[1 : 1 + states]), needs[1 + states :]),
            torch.get_num_threads(),
        )
        if call.on_trace is not None and trace is not None:
            call.on_trace(trace)
        return (
            None,
            None if dx is None else layout.outward(dx),
            *[None if d is None else layout.state_outward(d) for d in dinitial],
            *[None if d is None else torch.from_numpy(d) for d in dweights],
        )
