# SPDX-License-Identifier: MIT
"""Modules of `bptt.torch` beside PyTorch's: same weights, same calls, results by name."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import bptt.torch
from support.compare import TOLERANCE_OF_TORCH, assert_close

T, B, I, H = 6, 3, 4, 5
KINDS = ("RNN", "LSTM", "GRU")
# Lengths of packed sequences: sorted, unsorted, equal.
PACKED = {"sorted": [6, 4, 2], "unsorted": [2, 6, 5], "equal": [6, 6, 6]}


def twins(kind: str, *sizes: int, **options: Any) -> tuple[Any, Any]:
    """PyTorch's module and ours, with the same weights."""
    sizes = sizes or (I, H)
    own = {n: options.pop(n) for n in ("compute", "step_clip", "cut", "trace") if n in options}
    theirs = getattr(torch.nn, kind)(*sizes, **options)
    ours = getattr(bptt.torch, kind)(*sizes, **options, **own)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def random_input(module: Any, form: str, seed: int = 0) -> tuple[Any, list[Any]]:
    """x and an initial state as leaves; `form`: "batched", "unbatched", or of `PACKED`."""
    made = torch.Generator().manual_seed(seed)
    dtype = module.weight_ih_l0.dtype
    axes = () if form == "unbatched" else (B,)
    shape = (B, T, I) if module.batch_first and axes else (T, *axes, I)
    rows = module.num_layers * (1 + module.bidirectional)
    widths = [module.proj_size or module.hidden_size, module.hidden_size]
    widths = widths if module.mode == "LSTM" else widths[:1]

    def leaf(*shape: int) -> Any:
        return torch.randn(*shape, dtype=dtype, generator=made).requires_grad_()

    return leaf(*shape), [leaf(rows, *axes, width) for width in widths]


def results(
    module: Any, x: Any, state: list[Any], form: str = "batched", with_state: bool = True,
    **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """Outputs, and the gradients of a random loss; dropout's masks are those of seed 1."""
    data: Any = x
    if form in PACKED:
        data = pack_padded_sequence(
            x, torch.tensor(PACKED[form]), module.batch_first, enforce_sorted=form != "unsorted"
        )
    hx = None if not with_state else tuple(state) if len(state) > 1 else state[0]
    torch.manual_seed(1)
    y, final = module(data, hx, **more)
    if isinstance(y, PackedSequence):
        y = pad_packed_sequence(y, module.batch_first)[0]
    outputs = [y, *(final if isinstance(final, tuple) else [final])]
    made = torch.Generator().manual_seed(2)
    loss = sum((o * torch.randn(o.shape, dtype=x.dtype, generator=made)).sum() for o in outputs)
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    leaves = {"x": x, **(dict(zip("hc", state)) if with_state else {}), **parameters}
    leaves = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    grads = torch.autograd.grad(loss, list(leaves.values()))
    found = dict(zip(("y", "h_n", "c_n"), outputs))
    found |= {f"d {name}": d for name, d in zip(leaves, grads)}
    return {name: value.detach() for name, value in found.items()}


def check(theirs: Any, ours: Any, form: str = "batched", with_state: bool = True) -> None:
    """Same values, gradients and layouts, and bptt has computed them."""
    x, state = random_input(theirs, form)
    want = results(theirs, x, state, form, with_state)
    got = results(ours, x, state, form, with_state)
    assert ours.backend == "bptt", ours.backend.reason
    dtype = str(x.dtype).removeprefix("torch.")
    assert_close(got, want, TOLERANCE_OF_TORCH[dtype])
    assert got["y"].stride() == want["y"].stride()
