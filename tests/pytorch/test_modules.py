# SPDX-License-Identifier: MIT
"""`bptt.torch.RNN`, `LSTM` and `GRU` beside PyTorch's own, with every combination of options."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from typing import Any

import pytest

pytest.importorskip("torch")
import torch

import bptt.torch
from support.torch_modules import KINDS, PACKED, check, random_input, results, twins

FORMS = ("batched", "unbatched", *PACKED)
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [*KINDS, "projected"])
def test_every_combination_of_options(kind: str, dtype: str, form: str) -> None:
    flags = itertools.product((1, 2, 3), *[(False, True)] * 5)
    for layers, bidirectional, bias, batch_first, dropout, with_state in flags:
        if dropout and layers == 1:
            continue
        options: dict[str, Any] = {
            "num_layers": layers, "bidirectional": bidirectional, "bias": bias,
            "batch_first": batch_first, "dropout": 0.4 * dropout, "dtype": getattr(torch, dtype),
        }  # fmt: skip
        if kind == "projected":
            options["proj_size"] = 3
        check(*twins(kind if kind in KINDS else "LSTM", **options), form, with_state)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("form", FORMS)
def test_nonlinearity(nonlinearity: str, form: str) -> None:
    check(*twins("RNN", nonlinearity=nonlinearity, dtype=torch.float64), form)


@pytest.mark.parametrize("dropout", [0.0, 0.3, 1.0])
@every_kind
def test_dropout_leaves_the_generator_as_pytorch_does(kind: str, dropout: float) -> None:
    states = []
    for module in twins(kind, num_layers=3, dropout=dropout):
        x, _ = random_input(module, "batched")
        torch.manual_seed(7)
        module(x)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    check(*twins(kind, num_layers=3, dropout=dropout))


@every_kind
def test_no_dropout_in_evaluation(kind: str) -> None:
    theirs, ours = twins(kind, num_layers=2, dropout=0.5)
    check(theirs.eval(), ours.eval())


@every_kind
def test_same_face(kind: str) -> None:
    theirs, ours = twins(kind, num_layers=2, bidirectional=True, dropout=0.1)
    assert repr(ours) == repr(theirs)
    assert isinstance(ours, getattr(torch.nn, kind))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    torch.manual_seed(3)
    want = getattr(torch.nn, kind)(4, 5).state_dict()
    torch.manual_seed(3)
    got = getattr(bptt.torch, kind)(4, 5).state_dict()
    assert all(torch.equal(got[name], want[name]) for name in want)


@every_kind
def test_inference_is_the_forward_pass_of_training(kind: str) -> None:
    _, ours = twins(kind, num_layers=2)
    x, state = random_input(ours, "batched")
    want = results(ours, x, state)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            y, _ = ours(x, state[0] if len(state) == 1 else tuple(state))
        assert not y.requires_grad
        assert torch.equal(y, want["y"])


@every_kind
def test_results_are_ordinary_tensors(kind: str) -> None:
    _, ours = twins(kind, 4, 100)
    x = torch.randn(200, 8, 4)  # large results have memory of the core's pool
    with torch.no_grad():
        want = ours(x)[0].clone()
    y, _ = ours(x.requires_grad_())
    assert y.is_contiguous()
    assert y.detach().numpy().flags.writeable
    assert torch.equal(y, want)
    y.sum().backward()
    x.grad += 1
    ours.weight_ih_l0.grad += 1


@every_kind
def test_copies(kind: str) -> None:
    _, ours = twins(kind, num_layers=2)
    x, state = random_input(ours, "batched")
    want = results(ours, x, state)
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    copies = [
        copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)),
        torch.load(file, weights_only=False),
    ]  # fmt: skip
    with torch.no_grad():
        ours.weight_ih_l0.zero_()
    for other in copies:
        got = results(other, x, state)
        assert other.backend == "bptt"
        assert all(torch.equal(got[name], want[name]) for name in want)


@every_kind
def test_share_memory(kind: str) -> None:
    theirs, ours = twins(kind)
    check(theirs, ours)
    ours.share_memory()
    assert ours.weight_ih_l0.is_shared()
    check(theirs, ours)


@every_kind
def test_weights_that_move_change_or_swap(kind: str) -> None:
    theirs, ours = twins(kind)
    check(theirs, ours)
    for module in (theirs, ours):
        with torch.no_grad():
            module.weight_hh_l0.mul_(0.5)
    check(theirs, ours)
    for module in (theirs, ours):
        module.weight_hh_l0.data = module.weight_hh_l0.data * 2
        module.bias_ih_l0 = torch.nn.Parameter(torch.ones_like(module.bias_ih_l0))
    check(theirs, ours)
    check(theirs.double(), ours.double())
    for module in (theirs, ours):  # of other strides
        module.weight_hh_l0.data = module.weight_hh_l0.data.clone().t().contiguous().t()
    check(theirs, ours)


@every_kind
def test_views_of_any_kind(kind: str) -> None:
    theirs, ours = twins(kind)
    made = torch.Generator().manual_seed(0)
    z = torch.randn(3, 6, 8, 2, generator=made)
    views = {
        "transposed": z[..., :4, 0].transpose(0, 1), "strided": z[:, :, ::2, 0].transpose(0, 1),
        "expanded": z[:1, :, :4, 0].transpose(0, 1).expand(6, 3, 4),
        "negated": torch.view_as_complex(z).conj().imag[..., :4],
        "flipped": z[..., :4, 0].flip(1),
    }  # fmt: skip
    assert views["negated"].is_neg()
    for x in views.values():
        torch.testing.assert_close(ours(x), theirs(x.contiguous()))
        assert ours.backend == "bptt"
        y, _ = ours(x)
        y.backward(torch.ones(()).expand(y.shape))
