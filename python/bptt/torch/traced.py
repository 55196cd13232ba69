# SPDX-License-Identifier: MIT
"""Calls through the operators, for `torch.compile`, `torch.export` and `torch.func`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from . import ops as ops
from .eager import wants_graph


def in_transform() -> bool:
    """Does something look at each call of PyTorch, such as vmap or a tracer?"""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
    )


@dataclass(frozen=True)
class Call:
    """What a call has beside its tensors. PyTorch's vmap takes it as a whole, unlike a tuple.

    Attributes
    ----------
    counts : tuple of int
        Of states, weights and masks.
    settings, how : tuple
        The last inputs of the operator, and its options of the backward pass.
    wanted : tuple of bool
        Of which tensors a backward pass computes the gradient.
    pulled : int
        The number of cotangents for tangents of gradients.
    """

    counts: tuple[int, int, int]
    settings: tuple[Any, ...]
    how: tuple[Any, ...]
    wanted: tuple[bool, ...] = ()
    pulled: int = 0

    @property
    def results(self) -> int:
        return 1 + self.counts[0]

    @property
    def learnt(self) -> int:
        """The number of tensors that have a gradient: x, states and weights."""
        return 1 + self.counts[0] + self.counts[1]

    def listed(self, tensors: Any) -> Any:
        """x, states, weights, masks, lengths, resets, batch_sizes."""
        states, learnt = self.results, self.learnt
        end = learnt + self.counts[2]
        return (
            tensors[0], list(tensors[1:states]), list(tensors[states:learnt]),
            list(tensors[learnt:end]), *tensors[end:], *self.settings,
        )  # fmt: skip


def recurrence(call: Call, *tensors: Any) -> Any:
    """(x, *states, *weights, *masks, lengths, resets, batch_sizes) -> (y, h, c, tape)."""
    if not torch.compiler.is_compiling():
        return Transformed.apply(call, *tensors)
    if wants_graph(tensors):
        return Traced.apply(call, *tensors)
    # As torch.compile cannot trace a function of which no gradient is needed.
    return Traced.forward(call, *tensors)


class Traced(torch.autograd.Function):
    """`recurrence` with gradients, for compilers."""

    @staticmethod
    def forward(call: Call, *tensors: Any) -> Any:
        return torch.ops.bptt.recurrence(*call.listed(tensors))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.call, *tensors = inputs
        y, _, c, tape = output
        ctx.mark_non_differentiable(tape)
        if ctx.call.results == 2:
            ctx.mark_non_differentiable(c)
        ctx.save_for_backward(y, tape, *tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return _pulled(ctx, cotangents, _gradients)


class Transformed(Traced):
    """`recurrence` with derivatives of first and second order, for the transforms of torch.func."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        Traced.setup_context(ctx, inputs, output)
        ctx.save_for_forward(output[0], output[3], *inputs[1:])  # the same, or vmap mixes them up

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return _pulled(ctx, cotangents, Gradients.apply)

    @staticmethod
    def jvp(ctx: Any, _: Any, *directions: Any) -> Any:
        call, tensors = ctx.call, ctx.saved_tensors[2:]
        found = Tangents.apply(call, *tensors, *directions[: call.learnt])
        return (*found, *[None] * (4 - call.results))


class Gradients(torch.autograd.Function):
    """(call, dy, dh, dc, y, tape, *tensors) -> the gradients."""

    generate_vmap_rule = True

    @staticmethod
    def forward(call: Call, *tensors: Any) -> Any:
        return _gradients(call, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.call, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *directions: Any) -> Any:
        """As second derivatives commute, the tangents along the directions; see `duals`."""
        call = ctx.call
        of_results, of_inputs = _second(call, ctx.saved_tensors, directions)
        none = [None] * (3 - call.results)
        rest = [None] * (len(ctx.saved_tensors) - 5 - call.learnt)
        return None, *of_results, *none, None, None, *of_inputs, *rest

    @staticmethod
    def jvp(ctx: Any, _: Any, *directions: Any) -> Any:
        """Gradients are linear in dy, dh and dc; along the others they have tangents."""
        call, saved = ctx.call, ctx.saved_tensors
        _, tangents = _second(call, saved, directions[5 : 5 + call.learnt])
        moved = [torch.zeros_like(s) if d is None else d for s, d in zip(saved, directions[:3])]
        linear = Gradients.apply(call, *moved, *saved[3:])
        return tuple([a + b if w else b for a, b, w in zip(tangents, linear, call.wanted)])


class Tangents(torch.autograd.Function):
    """(call, *tensors, *directions, *cotangents) -> tangents; has no derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(call: Call, *tensors: Any) -> Any:
        end = len(tensors) - call.pulled
        start = end - call.learnt
        return tuple(
            torch.ops.bptt.recurrence_tangents(
                *call.listed(tensors[:start]), list(tensors[end:]), *call.how,
                list(tensors[start:end]),
            )
        )  # fmt: skip

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(TANGENT)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(TANGENT)


TANGENT = (
    "bptt.torch: a derivative of a tangent is not computed; expected forward mode outside, such as "
    "jvp of grad for a second derivative, and no third one"
)


def _pulled(ctx: Any, cotangents: Any, gradients: Any) -> Any:
    """The gradients of the inputs of `recurrence`."""
    wanted = tuple(ctx.needs_input_grad[1 : 1 + ctx.call.learnt])
    call = replace(ctx.call, wanted=wanted)
    found = gradients(call, *cotangents[:3], *ctx.saved_tensors)
    rest = [None] * (len(ctx.needs_input_grad) - 1 - call.learnt)
    return None, *[d if w else None for d, w in zip(found, wanted)], *rest


def _gradients(call: Call, *tensors: Any) -> Any:
    dy, dh, dc, y, tape, *inputs = tensors
    return tuple(
        torch.ops.bptt.recurrence_backward(
            *call.listed(inputs), dy, [dh, dc][: call.results - 1], *call.how, y, tape,
            list(call.wanted),
        )
    )  # fmt: skip


def _second(call: Call, saved: Any, directions: Any) -> tuple[Any, Any]:
    """The tangents of the results and of the gradients."""
    along = [d if w else None for d, w in zip(directions, call.wanted)]
    pulling = replace(call, pulled=call.results)
    found = Tangents.apply(pulling, *saved[5:], *along, *saved[: call.results])
    return found[: call.results], found[call.results :]
