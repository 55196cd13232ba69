# SPDX-License-Identifier: MIT
"""What the core does not compute, PyTorch does, and the module says so."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

pytest.importorskip("torch")
import torch
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.rnn import pack_padded_sequence

import bptt.torch
from bptt.torch.backend import Backend
from support.compare import TOLERANCE_OF_TORCH, assert_close
from support.torch_modules import KINDS, B, I, T, check, random_input, results, twins

every_kind = pytest.mark.parametrize("kind", KINDS)


class Marked(torch.Tensor):
    """A subclass, which may mean more than its numbers."""


def marked(x: Any) -> Any:
    return x.as_subclass(Marked)


CALLS: dict[str, tuple[Any, Any, str]] = {
    "bfloat16": (lambda m: m.bfloat16(), lambda x: x.bfloat16(), "input has dtype torch.bfloat16"),
    "float16": (lambda m: m.half(), lambda x: x.half(), "input has dtype torch.float16"),
    "meta": (lambda m: m.to("meta"), lambda x: x.to("meta"), "a tensor is on meta"),
    "subclass": (lambda m: m, marked, "a tensor is a Marked"),
}


@pytest.mark.parametrize(("change", "convert", "why"), CALLS.values(), ids=CALLS.keys())
@every_kind
def test_calls_that_pytorch_computes(kind: str, change: Any, convert: Any, why: str) -> None:
    theirs, ours = (change(m) for m in twins(kind))
    x = convert(torch.randn(T, B, I))
    torch.manual_seed(0)
    want, _ = theirs(x)
    got, _ = ours(x)
    assert ours.backend == "torch"
    assert ours.backend.reason == why
    assert (got.dtype, got.device, got.shape) == (want.dtype, want.device, want.shape)
    assert got.is_meta or torch.equal(got, want)


def test_backend_of_each_call() -> None:
    gru = bptt.torch.GRU(I, 5)
    assert gru.backend == "bptt"
    assert gru.backend.reason == ""
    gru.half()(torch.randn(T, B, I).half())
    assert gru.backend == "torch"
    assert pickle.loads(pickle.dumps(gru.backend)).reason == gru.backend.reason
    gru.float()(torch.randn(T, B, I))
    assert gru.backend == "bptt"
    assert isinstance(gru.backend, Backend)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_jit_trace() -> None:
    theirs, ours = twins("GRU")
    x = torch.randn(T, B, I)
    traced = torch.jit.trace(ours, x, check_trace=False)
    assert ours.backend.reason == "torch.jit traces the call"
    torch.testing.assert_close(traced(2 * x), theirs(2 * x))


EXTRAS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lengths": ({}, {"lengths": [6, 6, 6]}),
    "resets": ({}, {"resets": torch.zeros(T, B, dtype=torch.bool)}),
    "trace": ({}, {"trace": True}),
    "step_clip": ({"step_clip": ("norm", 1.0)}, {}),
    "cut": ({"cut": 3}, {}),
}


@pytest.mark.parametrize("name", EXTRAS)
def test_what_pytorch_lacks_is_refused(name: str) -> None:
    options, more = EXTRAS[name]
    gru = bptt.torch.GRU(I, 5, **options).double()
    with pytest.raises(NotImplementedError, match=f"GRU: {name} is given and PyTorch has to"):
        gru.half()(torch.randn(T, B, I).half(), **more)


@every_kind
def test_errors_are_pytorchs(kind: str) -> None:
    theirs, ours = twins(kind)
    x, h = torch.randn(T, B, I), torch.randn(1, B, 5)
    hx = (h, h) if kind == "LSTM" else h
    bad: list[tuple[Any, ...]] = [
        (x[..., :3],), (x[0, 0],), (x[None],), (x[:0],), (x.double(),), (x.int(),),
        (x, (h[:, :2], h) if kind == "LSTM" else h[:, :2]), (x[:, 0], hx),
        (x, (h.double(), h) if kind == "LSTM" else h.double()),
        (x, (h[0], h[0]) if kind == "LSTM" else h[0]), (None,), (x.numpy(),),
    ]  # fmt: skip
    for arguments in bad:
        with pytest.raises(Exception) as want:  # noqa: PT011
            theirs(*arguments)
        with pytest.raises(type(want.value)) as got:
            ours(*arguments)
        assert str(got.value) == str(want.value)


@every_kind
def test_errors_of_packed_sequences_are_pytorchs(kind: str) -> None:
    theirs, ours = twins(kind)
    x, lengths = torch.randn(T, B, I), torch.tensor([6, 4, 2])

    def hx(*shape: int) -> Any:
        h = torch.randn(*shape)
        return (h, h) if kind == "LSTM" else h

    narrow = pack_padded_sequence(x[..., :3], lengths)
    packed = pack_padded_sequence(x, lengths)
    wrong = [(packed, hx(1, 2, 5)), (packed, hx(2, B, 5)), (packed, hx(1, B, 4)), (narrow, None)]
    for arguments in wrong:
        with pytest.raises(Exception) as want:  # noqa: PT011
            theirs(*arguments)
        with pytest.raises(type(want.value)) as got:
            ours(*arguments)
        assert str(got.value) == str(want.value)


@every_kind
def test_no_sequence(kind: str) -> None:
    theirs, ours = twins(kind)
    x = torch.randn(T, 0, I, requires_grad=True)
    for module in (theirs, ours):
        y, _ = module(x)
        y.sum().backward()
        assert y.shape == (T, 0, 5)
    assert ours.backend == "bptt"


# --- weights that are computed --------------------------------------------------------------------


PARAMETRIZED: dict[str, Any] = {
    "weight_norm": lambda m: parametrizations.weight_norm(m, "weight_hh_l0"),
    "spectral_norm": lambda m: parametrizations.spectral_norm(m, "weight_hh_l0").eval(),
    "orthogonal": lambda m: parametrize.register_parametrization(m, "weight_ih_l0", Doubled()),
    "prune": lambda m: prune.l1_unstructured(m, "weight_hh_l0", 0.4),
}


class Doubled(torch.nn.Module):
    def forward(self, w: Any) -> Any:
        return 2 * w


@pytest.mark.parametrize("change", PARAMETRIZED.values(), ids=PARAMETRIZED.keys())
@every_kind
def test_parametrized_weights(kind: str, change: Any) -> None:
    found = []
    for module in twins(kind, num_layers=2):
        torch.manual_seed(0)
        change(module)
        x, state = random_input(module, "batched")
        found.append(results(module, x, state))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(0.9)
        found.append(results(module, x, state))
    for want, got in zip(found[:2], found[2:]):
        assert_close(got, want, TOLERANCE_OF_TORCH["float32"])


@every_kind
def test_functional_call(kind: str) -> None:
    theirs, ours = twins(kind)
    weights = {n: p.detach() * 2 for n, p in ours.named_parameters()}
    x = torch.randn(T, B, I)
    got = torch.func.functional_call(ours, weights, (x,))
    torch.testing.assert_close(got, torch.func.functional_call(theirs, weights, (x,)))
    check(theirs, ours)  # its own again


def test_weights_in_a_subclass() -> None:
    class Own(bptt.torch.GRU):
        pass

    gru = Own(I, 5)
    assert repr(gru) == "Own(4, 5)"
    gru(torch.randn(T, B, I))
    assert gru.backend == "bptt"
