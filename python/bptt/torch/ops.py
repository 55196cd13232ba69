# SPDX-License-Identifier: MIT
"""The operators `bptt::recurrence`, `recurrence_backward` and `recurrence_tangents`.

With them `torch.compile`, `torch.export` and the transforms of `torch.func` see a call as one
step. Eager mode does not use them, because PyTorch's dispatcher takes longer than a small network
computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.library import Library
from torch.utils._pytree import tree_flatten, tree_unflatten

from .._cells import CELLS
from .._validate import as_lengths_within, own
from ..layers.sequences import as_resets
from .call import Call
from .duals import tangents
from .layout import Layout, array_of, packed_layout
from .stack import CELLS_OF_MODES, Sequences, stack_of
from .tapes import held, hold

# batch_sizes: x holds the rows of a PackedSequence, and so do y and the masks.
INPUTS = (
    "Tensor x, Tensor[] state, Tensor[] weights, Tensor[] masks, Tensor? lengths, Tensor? resets, "
    "Tensor? batch_sizes, str mode, int num_layers, bool bidirectional, str? compute"
)
HOW = "str clip, float bound, str target, int? cut"  # step_clip: a kind, bound and target
BACKWARD = f"Tensor dy, Tensor[] dstate, {HOW}, Tensor y, Tensor tape, bool[] wanted"
COUNT = INPUTS.count(",") + 1
library = Library("bptt", "DEF")
library.define(f"recurrence({INPUTS}) -> (Tensor y, Tensor h, Tensor c, Tensor tape)")
library.define(f"recurrence_backward({INPUTS}, {BACKWARD}) -> Tensor[]")
library.define(
    f"recurrence_tangents({INPUTS}, Tensor[] cotangents, {HOW}, Tensor?[] directions) -> Tensor[]"
)


def states_of(mode: str) -> int:
    return len(CELLS[CELLS_OF_MODES[mode][1]].states)


# --- on arrays ------------------------------------------------------------------------------------


def _call(
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    batch_sizes: Tensor | None,
    mode: str,
    num_layers: int,
    bidirectional: bool,
    compute: str | None,
    *backward: Any,
) -> tuple[Call, tuple[Tensor, ...]]:
    """The call, and its tensors."""
    count = len(weights) // (num_layers * (1 + bidirectional))
    P, H = weights[count - 1].shape if count % 2 else (0, state[-1].shape[-1])
    stack = stack_of(
        mode, (weights[0].shape[1], H, P), num_layers, bidirectional, count > 3, False,
        str(x.dtype).removeprefix("torch."), compute, *backward,
    )  # fmt: skip
    if batch_sizes is None:
        layout, known = Layout("time", *x.shape[:2]), None
    else:
        layout, known = packed_layout(batch_sizes)
    T, B, s = layout.steps, layout.batch, stack.structure
    known = known if lengths is None else as_lengths_within(s.caller, lengths, T, B)
    borders = None if resets is None else own(as_resets(s, resets, T, B), np.bool_)
    sequences = Sequences(known, borders, [layout.inward(mask) for mask in masks])
    cells = stack.cells([array_of(weight) for weight in weights])
    return Call(stack, layout, sequences, cells), (x, *state)


def _forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    call, tensors = _call(*inputs)
    (y, h, *rest), tapes = call.forward(tensors, True)
    return y, h, rest[0] if rest else h.new_empty(0), hold(tapes)


def _backward(*arguments: Any) -> list[Tensor]:
    inputs, (dy, dstate, *how, _, tape, wanted) = arguments[:COUNT], arguments[COUNT:]
    call, tensors = _call(*inputs, *_backward_how(how))
    found = call.backward(held(tape), tensors, (dy, *dstate), tuple(wanted))
    return [d if w else dy.new_empty(0) for d, w in zip(found, wanted, strict=True)]


def _tangents(*arguments: Any) -> list[Tensor]:
    """The tangents of y and the states; with cotangents also of the gradients."""
    inputs, (cotangents, *how, directions) = arguments[:COUNT], arguments[COUNT:]
    call, tensors = _call(*inputs, *_backward_how(how))
    return tangents(call, (*tensors, *inputs[2]), directions, cotangents or None)


def _backward_how(how: Sequence[Any]) -> tuple[Any, ...]:
    clip, bound, target, cut = how
    return (clip, bound, target) if clip != "none" else None, cut, None


library.impl("recurrence", _forward, "CPU")
library.impl("recurrence_backward", _backward, "CPU")
library.impl("recurrence_tangents", _tangents, "CPU")


# --- on shapes alone ------------------------------------------------------------------------------


def _fake_forward(*inputs: Any) -> tuple[Tensor, ...]:
    x, state, _, _, _, _, _, mode, _, bidirectional, _ = inputs
    y = x.new_empty(*x.shape[:-1], (1 + bidirectional) * state[0].shape[-1])
    h = torch.empty_like(state[0], memory_format=torch.contiguous_format)
    c = h.new_empty(state[1].shape if states_of(mode) > 1 else 0)
    return y, h, c, x.new_empty(1, dtype=torch.int64)


def _fake_backward(*arguments: Any) -> list[Tensor]:
    (x, state, weights), wanted = arguments[:3], arguments[-1]
    return [
        of.new_empty(of.shape if is_wanted else 0)
        for of, is_wanted in zip((x, *state, *weights), wanted, strict=True)
    ]


def _fake_tangents(*arguments: Any) -> list[Tensor]:
    (x, state, weights), cotangents = arguments[:3], arguments[COUNT]
    y, h, c, _ = _fake_forward(*arguments[:COUNT])
    found = [y, h, c][: 1 + len(state)]
    return found + [of.new_empty(of.shape) for of in (x, *state, *weights) if cotangents]


torch.library.register_fake("bptt::recurrence", _fake_forward, lib=library)
torch.library.register_fake("bptt::recurrence_backward", _fake_backward, lib=library)
torch.library.register_fake("bptt::recurrence_tangents", _fake_tangents, lib=library)


# --- vmap: one call after the other ---------------------------------------------------------------


def _results(run_one: Any, info: Any, in_dims: Any, arguments: Any) -> list[Any]:
    """Of each call."""
    values, spec = tree_flatten(arguments)
    dims = tree_flatten(in_dims, is_leaf=lambda d: d is None)[0]
    assert len(values) == len(dims)
    return [
        run_one(*tree_unflatten(
            [v if d is None else v.select(d, k) for v, d in zip(values, dims)], spec
        ))
        for k in range(info.batch_size)
    ]  # fmt: skip


def _vmap_forward(info: Any, in_dims: Any, *inputs: Any) -> Any:
    y, h, c, tapes = zip(*_results(torch.ops.bptt.recurrence, info, in_dims, inputs))
    if torch._C._functorch.is_batchedtensor(tapes[0]):  # by an outer vmap
        tape = torch.stack(tapes)  # copies, which hold nothing
    else:
        tape = hold(*map(held, tapes)).unsqueeze(1)
    return (torch.stack(y), torch.stack(h), torch.stack(c), tape), (0, 0, 0, 0)


def _vmap_lists(run_one: Any) -> Any:
    def rule(info: Any, in_dims: Any, *arguments: Any) -> Any:
        found = [torch.stack(parts) for parts in zip(*_results(run_one, info, in_dims, arguments))]
        return found, [0] * len(found)

    return rule


torch.library.register_vmap("bptt::recurrence", _vmap_forward, lib=library)
for name in ("recurrence_backward", "recurrence_tangents"):
    rule = _vmap_lists(getattr(torch.ops.bptt, name))
    torch.library.register_vmap(f"bptt::{name}", rule, lib=library)
