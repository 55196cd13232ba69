# SPDX-License-Identifier: MIT
"""`bptt.torch.RNNCell`, `LSTMCell` and `GRUCell` beside PyTorch's own."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch")
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad

import bptt.torch

CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("RNNCell", {}),
    "relu": ("RNNCell", {"nonlinearity": "relu"}),
    "lstm": ("LSTMCell", {}),
    "gru": ("GRUCell", {}),
}
every_cell = pytest.mark.parametrize(("name", "options"), CELLS.values(), ids=CELLS.keys())
STEPS, B, I, H = 4, 3, 5, 6


def twins(name: str, **options: Any) -> tuple[Any, Any]:
    theirs = getattr(torch.nn, name)(I, H, **options)
    ours = getattr(bptt.torch, name)(I, H, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def unrolled(cell: Any, x: Any, hx: Any) -> Iterator[Any]:
    for step in x:
        hx = cell(step, hx)
        yield hx[0] if isinstance(hx, tuple) else hx


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@every_cell
def test_steps(name: str, options: Any, bias: bool, with_state: bool, batched: bool) -> None:
    theirs, ours = twins(name, bias=bias, dtype=torch.float64, **options)
    axes = (B,) if batched else ()
    x = torch.randn(STEPS, *axes, I, dtype=torch.float64, requires_grad=True)
    h, c = torch.randn(2, *axes, H, dtype=torch.float64, requires_grad=True).unbind()
    hx = None if not with_state else (h, c) if name == "LSTMCell" else h
    found = []
    for cell in (ours, theirs):
        y = torch.stack(list(unrolled(cell, x, hx)))
        leaves = [x, *cell.parameters(), *([h] if with_state else [])]
        found.append([y, *torch.autograd.grad(y.sin().sum(), leaves)])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(list(unrolled(ours, x, hx)), list(found[1][0]))
    assert ours.backend == "bptt"
    assert repr(ours) == repr(theirs)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # PyTorch's own
@every_cell
def test_gradcheck(name: str, options: Any) -> None:
    if "nonlinearity" in options:
        pytest.skip("relu has no second derivative")
    _, cell = twins(name, dtype=torch.float64)
    x = torch.randn(B, I, dtype=torch.float64, requires_grad=True)
    assert gradcheck(cell, x, check_forward_ad=True)
    assert gradgradcheck(cell, x)


@every_cell
def test_copies(name: str, options: Any) -> None:
    _, cell = twins(name, **options)
    x = torch.randn(B, I)
    want = cell(x)
    for other in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
        torch.testing.assert_close(other(x), want, rtol=0, atol=0)


@every_cell
def test_calls_that_pytorch_computes(name: str, options: Any) -> None:
    theirs, ours = twins(name, **options)
    x = torch.randn(B, I)

    def loss(cell: Any) -> Any:
        def of(x: Any) -> Any:
            out = cell(x)
            return (out[1] if isinstance(out, tuple) else out).sum()

        return of

    torch.testing.assert_close(grad(loss(ours))(x), grad(loss(theirs))(x))
    assert ours.backend.reason == "a transform or tracer sees the call"
    for module in (ours, theirs):
        module.bfloat16()
    torch.testing.assert_close(ours(x.bfloat16()), theirs(x.bfloat16()))
    assert ours.backend.reason == "input has dtype torch.bfloat16"
