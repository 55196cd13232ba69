# SPDX-License-Identifier: MIT
"""The way through the operators, for `torch.compile`, `torch.export` and `torch.func`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import ops as ops
from .eager import wants_graph


def in_transform() -> bool:
    """Does something look at each call of PyTorch, such as vmap or a tracer?"""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
    )


def recurrence(counts: Any, settings: Any, backward: Any, *tensors: Any) -> Any:
    """As of `TracedRecurrence`, which `torch.compile` cannot trace where no gradient is needed."""
    if torch.compiler.is_compiling() and not wants_graph(tensors):
        x, *others = tensors
        return torch.ops.bptt.recurrence(x, *_listed(counts, others), *settings)
    return TracedRecurrence.apply(counts, settings, backward, *tensors)


class TracedRecurrence(torch.autograd.Function):
    """(counts, settings, x, *states, *weights, *masks, ...) -> (y, h, c, tape)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(counts: Any, inputs: Any, backward: Any, x: Tensor, *others: Any) -> Any:
        return torch.ops.bptt.recurrence(x, *_listed(counts, others), *inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        counts, settings, backward, x, *others = inputs
        y, _, c, tape = output
        ctx.counts, ctx.inputs, ctx.how = counts, settings, backward
        ctx.mark_non_differentiable(tape)
        if counts[0] == 1:
            ctx.mark_non_differentiable(c)
        ctx.save_for_backward(y, tape, x, *others)

    @staticmethod
    def backward(ctx: Any, dy: Tensor, dh: Tensor, dc: Tensor, _: Any) -> Any:
        states, weights, masks = ctx.counts
        wanted = list(ctx.needs_input_grad[3 : 4 + states + weights])
        arguments = ctx.counts, ctx.inputs, ctx.how, wanted, dy, dh, dc, *ctx.saved_tensors
        # What torch.compile makes of a backward pass has no derivative anyway.
        plain = torch.compiler.is_compiling() or not torch.is_grad_enabled()
        grads = (_gradients if plain else TracedGradients.apply)(*arguments)
        found = [d if w else None for d, w in zip(grads, wanted)]
        return None, None, None, *found, *[None] * (masks + 3)


class TracedGradients(torch.autograd.Function):
    """The backward pass of `TracedRecurrence`, which refuses to be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _gradients(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *directions: Any) -> Any:
        raise NotImplementedError(
            "bptt.torch: second derivatives are not computed inside torch.compile or a transform "
            "of torch.func; expected torch.autograd, or a module of torch.nn"
        )


def _gradients(counts: Any, settings: Any, how: Any, wanted: Any, *tensors: Any) -> Any:
    dy, dh, dc, y, tape, x, *others = tensors
    return tuple(
        torch.ops.bptt.recurrence_backward(
            x, *_listed(counts, others), *settings,
            dy, [dh, dc][: counts[0]], y, tape, *how, wanted,
        )
    )  # fmt: skip


def _listed(counts: tuple[int, int, int], others: Any) -> Any:
    """state, weights, masks, lengths, resets, batch_sizes."""
    states, weights, masks = counts
    ends = states, states + weights, states + weights + masks
    return (
        list(others[: ends[0]]), list(others[ends[0] : ends[1]]), list(others[ends[1] : ends[2]]),
        *others[ends[2] :],
    )  # fmt: skip
