# SPDX-License-Identifier: MIT
"""The modules inside PyTorch's autograd: derivatives, changed tensors, graphs that stay and go."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

import bptt.torch
from bptt.torch import tapes
from support.compare import TOLERANCE_OF_TORCH, assert_close
from support.torch_modules import KINDS, random_input, results, twins

every_kind = pytest.mark.parametrize("kind", KINDS)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deep": {"num_layers": 2, "bidirectional": True, "batch_first": True},
    "no bias": {"bias": False, "num_layers": 2},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def as_function(module: Any, x: Any) -> tuple[Callable[..., Any], list[Any]]:
    """The module as a function of x and the weights, and such arguments."""
    names = [name for name, _ in module.named_parameters()]

    def call(x: Any, *weights: Any) -> tuple[Any, ...]:
        y, final = functional_call(module, dict(zip(names, weights)), (x,))
        return y, *(final if isinstance(final, tuple) else (final,))

    return call, [x, *module.parameters()]


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # PyTorch's own
@every_option
@every_kind
def test_gradcheck(kind: str, options: dict[str, Any]) -> None:
    _, ours = twins(kind, 2, 3, dtype=torch.float64, **options)
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    call, arguments = as_function(ours, x)
    assert gradcheck(call, arguments, check_forward_ad=True)
    assert gradgradcheck(call, arguments)
    assert ours.backend == "bptt"


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@every_kind
def test_second_derivatives_are_pytorchs(kind: str) -> None:
    options = {"proj_size": 3} if kind == "LSTM" else {}
    found = []
    for module in twins(kind, num_layers=2, dtype=torch.float64, **options):
        x, state = random_input(module, "batched")
        y, _ = module(x, tuple(state) if len(state) > 1 else state[0])
        (d,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        # The gradient of y is one everywhere: nothing but the graph says that d can be derived.
        loss = y.sum() + (d**2).sum()
        leaves = [x, *state, *module.parameters()]
        grads = torch.autograd.grad(loss, leaves)
        found.append({str(i): d.detach() for i, d in enumerate(grads)})
    assert_close(found[1], found[0], TOLERANCE_OF_TORCH["float64"])


@every_kind
def test_third_derivatives_are_refused(kind: str) -> None:
    _, ours = twins(kind, dtype=torch.float64)
    x, _ = random_input(ours, "batched")
    (d,) = torch.autograd.grad(ours(x)[0].pow(3).sum(), x, create_graph=True)
    (d2,) = torch.autograd.grad(d.pow(2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        d2.sum().backward()


def test_a_limited_gradient_has_no_derivative() -> None:
    gru = bptt.torch.GRU(4, 5, step_clip=("norm", 1.0))
    x = torch.randn(6, 3, 4, requires_grad=True)
    (d,) = torch.autograd.grad(gru(x)[0].pow(2).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="GRU: step_clip or cut is given"):
        d.sum().backward()


# --- changed between forward and backward ---------------------------------------------------------


@every_option
@pytest.mark.parametrize("what", ["x", "h", "weight_ih_l0", "weight_hh_l0"])
@every_kind
def test_a_changed_argument_is_refused(kind: str, what: str, options: dict[str, Any]) -> None:
    _, ours = twins(kind, **options)
    x, state = random_input(ours, "batched")
    y, _ = ours(x, tuple(state) if len(state) > 1 else state[0])
    changed = {"x": x, "h": state[0]}.get(what)
    with torch.no_grad():
        (getattr(ours, what) if changed is None else changed).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("change", [torch.relu_, lambda y: y.mul_(2), lambda y: y[0].zero_()])
@every_kind
def test_a_changed_result_is_refused(kind: str, change: Any) -> None:
    _, ours = twins(kind)
    x, _ = random_input(ours, "batched")
    y, _ = ours(x)
    change(y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@every_kind
def test_a_result_that_the_tape_does_not_need_may_change(kind: str) -> None:
    found = []
    for module in twins(kind, bidirectional=True):
        x, _ = random_input(module, "batched")
        y, final = module(x)
        last = final[0] if isinstance(final, tuple) else final
        if kind != "LSTM":  # PyTorch's own LSTM needs it
            y.mul_(3)
        last.mul_(2)
        grads = torch.autograd.grad(y.sum() + last.sum(), [x, *module.parameters()])
        found.append({str(i): d for i, d in enumerate(grads)})
    assert_close(found[1], found[0], TOLERANCE_OF_TORCH["float32"])


# --- the graph ------------------------------------------------------------------------------------


@every_kind
def test_retain_graph(kind: str) -> None:
    _, ours = twins(kind, num_layers=2)
    x, _ = random_input(ours, "batched")
    y, _ = ours(x)
    first = torch.autograd.grad(y.sum(), [x, *ours.parameters()], retain_graph=True)
    second = torch.autograd.grad(y.sum(), [x, *ours.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()


def test_tapes_end_with_the_graph() -> None:
    gc.collect()
    before = len(tapes._held)
    gru = bptt.torch.GRU(4, 5, num_layers=2)
    x = torch.randn(6, 3, 4)
    y, _ = gru(x)
    assert len(tapes._held) == before + 1
    y.sum().backward()
    assert len(tapes._held) == before
    y, _ = gru(x)
    del y, _
    assert len(tapes._held) == before


@pytest.mark.parametrize("reentrant", [False, True])
@every_kind
def test_checkpoint(kind: str, reentrant: bool) -> None:
    _, ours = twins(kind, num_layers=2, dropout=0.3)
    x, _ = random_input(ours, "batched")
    leaves = [x, *ours.parameters()]
    torch.manual_seed(0)
    want = torch.autograd.grad(ours(x)[0].pow(2).sum(), leaves)
    before = len(tapes._held)
    torch.manual_seed(0)
    y = checkpoint(lambda x: ours(x)[0], x, use_reentrant=reentrant)
    assert len(tapes._held) == before  # nothing is kept but x
    y.pow(2).sum().backward()
    assert all(torch.equal(leaf.grad, d) for leaf, d in zip(leaves, want))


@every_kind
def test_saved_tensors_that_hooks_copy(kind: str) -> None:
    _, ours = twins(kind, num_layers=2)
    x, state = random_input(ours, "batched")
    want = results(ours, x, state)
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, torch.clone):
        got = results(ours, x, state)
    assert all(torch.equal(got[name], want[name]) for name in want)


def watched(module: Any) -> list[str]:
    seen: list[str] = []
    module.register_forward_pre_hook(lambda *_: seen.append("before"))
    module.register_forward_hook(lambda *_: seen.append("after"))
    module.register_full_backward_hook(lambda *_: seen.append("backward"))
    return seen


@every_kind
def test_hooks_see_and_change_gradients(kind: str) -> None:
    found = []
    for module in twins(kind):
        x, _ = random_input(module, "batched")
        seen = watched(module)
        module.weight_hh_l0.register_hook(lambda d: 2 * d)
        y, _ = module(x)
        y.register_hook(lambda d: 3 * d)
        y.sum().backward()
        assert seen == ["before", "after", "backward"]
        found.append({name: p.grad for name, p in module.named_parameters()} | {"x": x.grad})
    assert_close(found[1], found[0], TOLERANCE_OF_TORCH["float32"])


FROZEN = [
    ("x",), ("weight_ih_l0",), ("weight_hh_l1", "bias_hh_l0"), ("x", "weight_ih_l0", "bias_ih_l1"),
    ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"),
]  # fmt: skip


@pytest.mark.parametrize("frozen", FROZEN, ids=",".join)
@every_kind
def test_frozen_parts(kind: str, frozen: tuple[str, ...]) -> None:
    theirs, ours = twins(kind, num_layers=2)
    found = []
    for module in (theirs, ours):
        x, state = random_input(module, "batched")
        for name in frozen:
            (x if name == "x" else getattr(module, name)).requires_grad_(False)
        for part in state:
            part.requires_grad_(False)
        found.append(results(module, x, state))
    assert found[0].keys() == found[1].keys()
    assert_close(found[1], found[0], TOLERANCE_OF_TORCH["float32"])


def test_frozen_parts_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    from bptt import _core
    from bptt.torch import stack

    asked = []

    class Spy:
        forward = staticmethod(_core.forward)

        @staticmethod
        def backward(caller: str, tape: Any, dy: Any, dstate: Any, how: Any) -> Any:
            asked.append(how[6])
            return _core.backward(caller, tape, dy, dstate, how)

    monkeypatch.setattr(stack, "_core", Spy)
    gru = bptt.torch.GRU(4, 5, num_layers=3)
    gru.weight_ih_l0.requires_grad_(False)
    gru(torch.randn(6, 3, 4))[0].sum().backward()
    first = 0b011100  # w_hh and the biases, neither x nor w_ih nor the state
    assert asked == [0b011111, 0b011111, first]
    asked.clear()
    for name, parameter in gru.named_parameters():
        parameter.requires_grad_("_l2" in name)
    gru(torch.randn(6, 3, 4))[0].sum().backward()
    assert asked == [0b011110]


@every_kind
def test_nothing_to_derive(kind: str) -> None:
    _, ours = twins(kind)
    y, _ = ours.requires_grad_(False)(torch.randn(6, 3, 4))
    assert not y.requires_grad
    assert y.grad_fn is None
