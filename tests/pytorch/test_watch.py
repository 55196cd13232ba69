# SPDX-License-Identifier: MIT
"""A `FlowMonitor` in a training loop of PyTorch sees what the traces of each module show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

import bptt
import bptt.torch

T, B, I, H = 30, 2, 3, 4


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.LSTM(I, H, num_layers=2)
        self.second = bptt.torch.Layer(bptt.MGU(H, H, seed=0))
        self.frozen = bptt.torch.Layer(bptt.Linear(H, H, seed=0))

    def forward(self, x: Any) -> Any:
        return self.second(self.frozen(self.first(x)[0]))[1]


def step(model: Any, sgd: Any) -> None:
    sgd.zero_grad()
    model(torch.linspace(-1, 1, T * B * I).reshape(T, B, I)).sum().backward()
    sgd.step()


def test_it_samples_the_updates_that_the_monitor_wants() -> None:
    torch.manual_seed(0)
    model = Model()
    bptt.torch.accelerate(model)
    model.second.tracing = True
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = bptt.FlowMonitor(every=2, on_alert=lambda alert: None)
    watched = bptt.torch.watch(model, sgd, monitor)
    assert repr(watched) == "Watch(0 updates of first, second)"
    for _ in range(5):
        step(model, sgd)
    assert watched.step == 5
    assert [record["step"] for record in monitor.records] == [0, 2, 4]
    names = [cell["name"] for cell in monitor.records[0]["cells"]]
    assert names == ["first, layer 0", "first, layer 1", "second, layer 0"]
    watched.remove()
    assert (model.first.tracing, model.second.tracing) == (None, True)
    step(model, sgd)
    assert len(monitor.records) == 3
    assert model.first.trace is None


def test_the_numbers_are_those_of_the_layer() -> None:
    torch.manual_seed(0)
    module = bptt.torch.GRU(I, H)
    sgd = torch.optim.SGD(module.parameters(), lr=0.1)
    monitor, want = (bptt.FlowMonitor(on_alert=lambda alert: None) for _ in range(2))
    bptt.torch.watch(module, sgd, monitor)
    gru = bptt.GRU(I, H)
    gru.load(module.state_dict())
    x = torch.randn(T, B, I)
    module(x)[1].sum().backward()
    sgd.step()
    tape = gru.forward(x.numpy())[2]
    want.update(0, gru.backward(tape, dstate=np.ones((1, B, H)), trace=True).trace)
    assert monitor.records == want.records


@pytest.mark.parametrize("place", ["first", "second"])
def test_the_place_of_a_nan_names_its_module(place: str) -> None:
    model = Model()
    bptt.torch.accelerate(model)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    alerts: list[Any] = []
    bptt.torch.watch(model, sgd, bptt.FlowMonitor(on_alert=alerts.append))
    module = getattr(model, place)
    if place == "second":
        model.second.register_forward_hook(lambda m, args, y: (y[0], y[1] * float("nan")))
    else:
        model.first.register_forward_hook(lambda m, args, y: (y[0] * float("nan"), y[1]))
    step(model, sgd)
    assert module.trace is None  # until the next traced backward call
    kinds = [alert for alert in alerts if alert.kind == "non-finite"]
    assert len(kinds) == 1
    assert kinds[0].text.startswith(("first, layer 1: non-finite", "second, layer 0: non-finite"))


def test_a_dict_of_traces_of_layers() -> None:
    gru, lstm = bptt.GRU(I, H, seed=0), bptt.LSTM(I, H, seed=0)
    traces = {}
    for name, layer in (("a", gru), ("b", lstm)):
        y, _, tape = layer.forward([[[1.0] * I] * B] * T)
        traces[name] = layer.backward(tape, y, trace=True).trace
    both, one = (bptt.FlowMonitor(on_alert=lambda alert: None) for _ in range(2))
    both.update(0, traces)
    one.update(0, traces["b"])
    names = [cell["name"] for cell in both.records[0]["cells"]]
    assert names == ["a, layer 0", "b, layer 0"]
    assert both.records[0]["cells"][1] | {"name": "layer 0"} == one.records[0]["cells"][0]
    with pytest.raises(TypeError, match=r"trace is 3, expected grads\.trace of a backward call wi"):
        both.update(1, {"a": 3})


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((3, "sgd", "monitor"), TypeError, r"watch: model is 3, expected a torch\.nn\.Module"),
        (
            ("model", 3, "monitor"),
            TypeError,
            r"watch: optimizer is 3, expected a torch\.optim\.Optim",
        ),
        (("model", "sgd", 3), TypeError, "watch: monitor is 3, expected a FlowMonitor"),
        (("linear", "sgd", "monitor"), ValueError, r"watch: model has no module of bptt\.torch"),
    ],
)
def test_refusals(arguments: Any, kind: type[Exception], message: str) -> None:
    model = bptt.torch.GRU(2, 3)
    known = {
        "model": model, "linear": torch.nn.Linear(2, 3), "monitor": bptt.FlowMonitor(),
        "sgd": torch.optim.SGD(model.parameters()),
    }  # fmt: skip
    with pytest.raises(kind, match=message):
        bptt.torch.watch(*[known.get(a, a) for a in arguments])
