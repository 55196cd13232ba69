# SPDX-License-Identifier: MIT
"""`accelerate` swaps modules in place and says what it left; `restore` undoes it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

pytest.importorskip("torch")
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import bptt.torch
from support.compare import assert_close
from support.torch_modules import KINDS, random_input, results

every_kind = pytest.mark.parametrize("kind", KINDS)


class Tagger(nn.Module):
    """Two recurrent modules with tied weights, and what goes with them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.lower = nn.LSTM(4, 4, num_layers=2, dropout=0.3, bidirectional=True)
        self.upper = nn.ModuleList([nn.GRU(8, 4), nn.RNN(4, 4, nonlinearity="relu")])
        self.lower.weight_hh_l0_reverse = self.lower.weight_hh_l0
        self.head = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        y = self.lower(self.embedding(x))[0]
        for module in self.upper:
            y = module(y)[0]
        return self.head(y)


def train(model: Any, steps: range, optimizer: Any) -> list[float]:
    losses = []
    for step in steps:
        torch.manual_seed(step)  # of dropout too
        x = torch.randint(0, 10, (6, 5))
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), x.flatten() % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_goes_on() -> None:
    """Accelerated in the middle of training, and restored: parameters and optimiser go on."""
    torch.manual_seed(0)
    model = Tagger()
    twin = copy.deepcopy(model)
    adam, twin_adam = (torch.optim.Adam(m.parameters(), lr=0.01) for m in (model, twin))
    before = dict(model.named_parameters())
    modules = dict(model.named_modules())
    want = train(twin, range(15), twin_adam)
    got = train(model, range(5), adam)
    report = bptt.torch.accelerate(model)
    assert list(report.swapped) == ["lower", "upper.0", "upper.1"]
    assert not report.left
    assert all(a is b for a, b in zip(model.modules(), modules.values()))
    assert all(p is before[n] for n, p in model.named_parameters())
    got += train(model, range(5, 10), adam)
    assert [m.backend for m in (model.lower, *model.upper)] == ["bptt"] * 3
    bptt.torch.restore(model)
    assert [type(m) for m in (model.lower, *model.upper)] == [nn.LSTM, nn.GRU, nn.RNN]
    got += train(model, range(10, 15), adam)
    assert got == pytest.approx(want, rel=1e-5)
    assert model.lower.__dict__.keys() == twin.lower.__dict__.keys()


def same_as_before(module: Any, copies: bool = True) -> None:
    """The results of a module are the same when it is accelerated, copied and restored."""
    x, state = random_input(module, "batched")
    want = results(module, x, state)
    report = bptt.torch.accelerate(module)
    assert list(report.swapped) == [""]
    for other in (module, copy.deepcopy(module)) if copies else (module,):
        assert isinstance(other, bptt.torch.modules.Recurrent)
        assert_close(results(other, x, state), want, 1e-12)
        assert other.backend == "bptt"
    bptt.torch.restore(module)
    assert not isinstance(module, bptt.torch.modules.Recurrent)
    assert_close(results(module, x, state), want, 0)


def made(kind: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return getattr(nn, kind)(4, 5, dtype=torch.float64, **options)


@every_kind
def test_options_and_flags_stay(kind: str) -> None:
    module = made(kind, num_layers=2, bidirectional=True, batch_first=True, dropout=0.4)
    same_as_before(module)
    module.weight_hh_l1.requires_grad_(False)
    same_as_before(module)
    same_as_before(module.eval())
    assert not module.training
    assert pickle.loads(pickle.dumps(module)).batch_first


@every_kind
def test_hooks_stay(kind: str) -> None:
    module, seen = made(kind), []
    module.register_forward_pre_hook(lambda m, args: seen.append("before"))
    module.register_forward_hook(lambda m, args, result: (result[0] * 2, result[1]))
    module.register_full_backward_hook(lambda m, dx, dy: seen.append("backward"))
    same_as_before(module)
    assert seen == ["before", "backward"] * 4


@pytest.mark.parametrize("form", ["orthogonal", "weight norm", "spectral norm", "prune", "old"])
@every_kind
def test_parametrizations_stay(kind: str, form: str) -> None:
    module = made(kind)
    if form == "orthogonal":
        module = nn.RNN(4, 5, dtype=torch.float64)
        parametrizations.orthogonal(module, "weight_hh_l0")
    elif form == "weight norm":
        parametrizations.weight_norm(module, "weight_hh_l0")
    elif form == "spectral norm":
        parametrizations.spectral_norm(module, "weight_ih_l0")
        module.eval()  # in training its power iteration goes on with each call
    elif form == "prune":
        prune.l1_unstructured(module, "weight_ih_l0", 0.3)
    else:
        with pytest.warns(FutureWarning, match="weight_norm"):
            nn.utils.weight_norm(module, "weight_hh_l0")
    same_as_before(module, copies=False)  # PyTorch refuses to copy them after a call
    if form in ("orthogonal", "weight norm"):
        bptt.torch.accelerate(module)
        nn.utils.parametrize.remove_parametrizations(module, "weight_hh_l0")
        assert type(module) is getattr(bptt.torch, module.mode.split("_")[0])
        bptt.torch.restore(module)
        assert type(module) is getattr(nn, module.mode.split("_")[0])


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells(kind: str) -> None:
    cell, x = getattr(nn, kind)(4, 5), torch.randn(3, 4)
    want = cell(x)
    assert list(bptt.torch.accelerate(cell).swapped) == [""]
    assert type(cell) is getattr(bptt.torch, kind)
    torch.testing.assert_close(cell(x), want)
    assert cell.backend == "bptt"
    bptt.torch.restore(cell)
    assert type(cell) is getattr(nn, kind)
    assert torch.equal(cell(x)[0], want[0])


class Own(nn.LSTM):
    """A subclass, which may compute anything."""


def test_the_report() -> None:
    wrapped = nn.GRU(4, 5)
    wrapped.forward = lambda *args: None
    model = nn.ModuleDict(
        {
            "encoder": nn.LSTM(4, 5, num_layers=2), "own": Own(4, 5), "wrapped": wrapped,
            "low": nn.GRU(4, 5).half(), "far": nn.RNN(4, 5, device="meta"),
            "ready": bptt.torch.GRU(4, 5), "head": nn.Linear(5, 2),
        }
    )  # fmt: skip
    own = nn.ModuleDict({"lstm": torch.nn.LSTM(4, 5)})
    assert repr(bptt.torch.accelerate(own)) == "swapped: 1\n  lstm  LSTM(4, 5)\nleft: none"
    assert repr(bptt.torch.accelerate(model)) == "\n".join(
        [
            "swapped: 1",
            "  encoder  LSTM(4, 5, num_layers=2)",
            "left: 5",
            "  own      Own: is a subclass of LSTM, which may compute something else",
            "  wrapped  GRU: has a forward of its own",
            "  low      GRU: input has dtype torch.float16",
            "  far      RNN: a tensor is on meta",
            "  ready    GRU: computes with bptt already",
        ]
    )
    bptt.torch.restore(model)
    assert type(model["encoder"]) is nn.LSTM
    assert type(model["ready"]) is bptt.torch.GRU
    assert repr(bptt.torch.accelerate(nn.Linear(2, 3))) == "swapped: none\nleft: none"
    assert repr(bptt.torch.accelerate(nn.GRU(2, 3))).startswith("swapped: 1\n  (the model)  GRU(")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")
def test_scripted_and_quantised_modules_are_left() -> None:
    scripted = torch.jit.script(nn.GRU(4, 5))
    quantised = torch.ao.nn.quantized.dynamic.LSTM(4, 5)
    report = bptt.torch.accelerate(nn.ModuleDict({"s": scripted, "q": quantised}))
    assert [text.split(": ")[1] for text in report.left.values()] == ["is scripted", "is quantised"]


@pytest.mark.parametrize("name", ["accelerate", "restore"])
def test_refusals(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}: model is \[\], expected a torch.nn.Module"):
        getattr(bptt.torch, name)([])
