# SPDX-License-Identifier: MIT
"""Calls in eager mode: one node of PyTorch's autograd for all layers of a module."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from .call import Call
from .duals import tangents
from .tapes import held, hold


def wants_graph(tensors: Iterable[Tensor | None]) -> bool:
    """Does PyTorch need to know how results depend on these tensors?"""
    if forward_ad._current_level >= 0:
        return True
    needed = torch.is_grad_enabled()
    return needed and any(tensor is not None and tensor.requires_grad for tensor in tensors)


class Recurrence(torch.autograd.Function):
    """(call, x, *initial states, *weights) -> (y, *final states)."""

    @staticmethod
    def forward(ctx: Any, call: Call, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        results, tapes = call.forward(inputs, True)
        ctx.call = call
        ctx.set_materialize_grads(False)
        # The tape refers to x, and mostly to y. PyTorch refuses to go on where one of them has
        # changed, or a weight.
        ctx.save_for_backward(hold(tapes), results[0] if call.shares_y else None, *inputs)
        if forward_ad._current_level >= 0:
            ctx.inputs = inputs
        return tuple(results)

    @staticmethod
    @torch.compiler.disable
    def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
        holder, _, *inputs = ctx.saved_tensors
        call, needs = ctx.call, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # create_graph=True
            return None, *Gradients.apply(call, needs, len(inputs), *inputs, *cotangents)
        # Nothing is held where hooks of saved tensors have made copies.
        return None, *call.backward(held(holder), inputs, cotangents, needs)

    @staticmethod
    def jvp(ctx: Any, _: Any, *directions: Tensor | None) -> tuple[Tensor, ...]:
        inputs = ctx.inputs
        del ctx.inputs
        return tuple(tangents(ctx.call, inputs, directions))


class Gradients(torch.autograd.Function):
    """The backward pass of `Recurrence`, as a function that has derivatives."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, needs: tuple[bool, ...], count: int, *tensors: Tensor | None
    ) -> tuple[Any, ...]:
        ctx.call, ctx.count = call, count
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        return tuple(call.backward(None, tensors[:count], tensors[count:], needs))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *directions: Tensor | None) -> Any:
        tensors = ctx.saved_tensors
        inputs, cotangents = tensors[: ctx.count], tensors[ctx.count :]
        found = tangents(ctx.call, inputs, directions, cotangents)
        return None, None, None, *found[len(cotangents) :], *found[: len(cotangents)]
