# SPDX-License-Identifier: MIT
"""What the modules have beside PyTorch's arguments: lengths, resets, limits, traces, bfloat16."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import bptt
import bptt.torch
from bptt import _core
from support.compare import error
from support.torch_modules import KINDS, B, I, T, random_input, results, twins

every_kind = pytest.mark.parametrize("kind", KINDS)
DEEP: dict[str, Any] = {"num_layers": 2, "bidirectional": True}
LENGTHS = [2, 6, 3]


def layer_of(module: Any) -> Any:
    """The layer in NumPy with the same weights."""
    layer = getattr(bptt, type(module).__name__)(
        module.input_size, module.hidden_size, module.num_layers, module.bias, module.batch_first,
        bidirectional=module.bidirectional, dtype="float64",
    )  # fmt: skip
    layer.load({name: p.detach().numpy() for name, p in module.named_parameters()})
    return layer


@pytest.mark.parametrize("batch_first", [False, True])
@every_kind
def test_lengths_are_those_of_a_packed_sequence(kind: str, batch_first: bool) -> None:
    theirs, ours = twins(kind, batch_first=batch_first, dtype=torch.float64, **DEEP)
    x, _ = random_input(ours, "batched")
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first, enforce_sorted=False)
    want = [pad_packed_sequence(theirs(packed)[0], batch_first)[0], theirs(packed)[1]]
    for lengths in (LENGTHS, torch.tensor(LENGTHS), np.array(LENGTHS)):
        y, final = ours(x, lengths=lengths)
        torch.testing.assert_close((y, final), tuple(want), rtol=1e-10, atol=1e-10)
    d = torch.autograd.grad(y.pow(2).sum(), [x, *ours.parameters()])
    e = torch.autograd.grad(want[0].pow(2).sum(), [x, *theirs.parameters()])
    torch.testing.assert_close(d, e, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("batch_first", [False, True])
@every_kind
def test_resets_start_a_sequence_anew(kind: str, batch_first: bool) -> None:
    """As a loop over episodes does with PyTorch's module."""
    theirs, ours = twins(kind, batch_first=batch_first, dtype=torch.float64)
    x, state = random_input(ours, "batched")
    starts = torch.rand(T, B, generator=torch.Generator().manual_seed(5)) < 0.3
    hx: Any = state
    outputs = []
    steps = x.transpose(0, 1) if batch_first else x
    for t in range(T):
        hx = [s * ~starts[t, :, None] for s in hx]
        step = steps[t : t + 1].transpose(0, 1) if batch_first else steps[t : t + 1]
        y, hx = theirs(step, tuple(hx) if len(hx) > 1 else hx[0])
        hx = list(hx) if isinstance(hx, tuple) else [hx]
        outputs.append(y)
    want = torch.cat(outputs, 1 if batch_first else 0)
    got, last = ours(
        x,
        tuple(state) if len(state) > 1 else state[0],
        resets=starts.t() if batch_first else starts,
    )
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    last = last if isinstance(last, tuple) else (last,)
    torch.testing.assert_close(last, tuple(hx), rtol=1e-10, atol=1e-10)
    leaves = [[x, *state, *m.parameters()] for m in (ours, theirs)]
    d, e = (torch.autograd.grad(y.sin().sum(), of) for y, of in zip((got, want), leaves))
    torch.testing.assert_close(d, e, rtol=1e-10, atol=1e-10)


CONTROLS: dict[str, dict[str, Any]] = {
    "value": {"step_clip": ("value", 1e-3)},
    "norm": {"step_clip": ("norm", 1e-2, "gates")},
    "cut": {"cut": 2},
    "both": {"step_clip": ["value", 0.05], "cut": 4},
}


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS.keys())
@every_kind
def test_limits_of_the_gradient_are_those_of_the_layers(kind: str, control: Any) -> None:
    _, ours = twins(kind, dtype=torch.float64, **DEEP, **control)
    x, _ = random_input(ours, "batched")
    y, _ = ours(x, lengths=LENGTHS)
    dy = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(3))
    y.backward(dy)
    layer = layer_of(ours)
    _, _, tape = layer.forward(x.detach().numpy(), lengths=LENGTHS)
    grads = layer.backward(tape, dy.numpy(), **control)
    assert x.grad.numpy().tobytes() == grads.x.tobytes()
    for name, parameter in ours.named_parameters():
        assert error(parameter.grad, grads.params[name]) == 0


@pytest.mark.parametrize("level", [True, "full"])
@every_kind
def test_trace(kind: str, level: Any) -> None:
    _, ours = twins(kind, dtype=torch.float64, **DEEP)
    x, _ = random_input(ours, "batched")
    assert ours.trace is None
    ours(x)[0].sum().backward()
    assert ours.trace is None
    y, _ = ours(x, trace=level)
    dy = torch.ones_like(y)
    y.backward(dy)
    layer = layer_of(ours)
    grads = layer.backward(layer.forward(x.detach().numpy())[2], dy.numpy(), trace=level)
    assert np.array_equal(ours.trace.dh, grads.trace.dh)
    for mine, own in zip(ours.trace.cells, grads.trace.cells):
        if level == "full":
            assert np.array_equal(mine.full.dh, own.full.dh)


def test_trace_of_the_module() -> None:
    gru = bptt.torch.GRU(I, 5, trace=True)
    assert repr(gru) == "GRU(4, 5, trace=True)"
    for parameter in gru.parameters():  # a trace needs no gradient of a weight
        parameter.requires_grad_(False)
    x = torch.randn(T, B, I, requires_grad=True)
    gru(x)[0].sum().backward()
    first = gru.trace
    assert first is not None
    gru(x, trace=False)[0].sum().backward()
    assert gru.trace is first


def test_flow_monitor() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential()
    gru = bptt.torch.GRU(I, 8, num_layers=2)
    head = torch.nn.Linear(8, 1)
    model.extend([gru, head])
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    alerts: list[Any] = []
    monitor = bptt.FlowMonitor(every=2, on_alert=alerts.append)
    for step in range(6):
        y, _ = gru(torch.randn(40, B, I), trace=monitor.wants(step))
        loss = head(y[-1]).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        if monitor.wants(step):
            monitor.update(step, gru.trace, loss=loss.item())
        optimizer.step()
    assert [record["step"] for record in monitor.records] == [0, 2, 4]
    assert [cell["name"] for cell in monitor.records[0]["cells"]] == ["layer 0", "layer 1"]


@pytest.mark.skipif(not _core.has_bf16(), reason="no products in bfloat16 here")
@pytest.mark.parametrize("kind", KINDS)
def test_compute_bf16_is_that_of_the_layers(kind: str) -> None:
    _, ours = twins(kind, compute="bf16", **DEEP)
    x, _ = random_input(ours, "batched")
    layer = getattr(bptt, kind)(4, 5, 2, bidirectional=True, compute="bf16")
    layer.load({name: p.detach().numpy() for name, p in ours.named_parameters()})
    y, _, tape = layer.forward(x.detach().numpy())
    got, _ = ours(x)
    assert torch.equal(got.detach(), torch.tensor(y))
    got.sum().backward()
    grads = layer.backward(tape, np.ones_like(y))
    assert torch.equal(x.grad, torch.tensor(grads.x))
    assert repr(ours).endswith("compute='bf16')")


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("form", ["batched", "unbatched", "unsorted"])
@pytest.mark.parametrize("kind", [*KINDS, "projected"])
def test_autocast(kind: str, form: str) -> None:
    """Results of PyTorch's types, as near to exact ones as bfloat16 is."""
    more = {"proj_size": 7} if kind == "projected" else {}
    theirs, ours = twins(kind if kind in KINDS else "LSTM", 4, 16, num_layers=2, **more)
    x, state = random_input(ours, form)
    exact = results(theirs, x, state, form)
    with torch.autocast("cpu", torch.bfloat16):
        try:
            want = results(theirs, x, state, form)
        except RuntimeError as missing:  # of oneDNN, on a CPU where it has no LSTM in bfloat16
            pytest.skip(f"PyTorch itself cannot: {missing}")
        got = results(ours, x, state, form)
    assert ours.backend == "bptt"
    assert {n: v.dtype for n, v in got.items()} == {n: v.dtype for n, v in want.items()}
    for name, value in exact.items():
        assert error(got[name].float(), value) < 0.05


def test_autocast_leaves_float64_alone() -> None:
    gru, x = bptt.torch.GRU(I, 5, dtype=torch.float64), torch.randn(T, B, I, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = gru(x)
    assert torch.equal(y, gru(x)[0])
    assert gru.backend == "bptt"


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "long": (ValueError, {"lengths": [7, 1, 1]}, "GRU: lengths has values 1..7, expected"),
    "few": (ValueError, {"lengths": [1, 1]}, r"GRU: lengths has shape \(2,\), expected \(B,\)"),
    "float": (TypeError, {"lengths": [1.0, 1.0, 1.0]}, "GRU: lengths"),
    "resets": (
        ValueError, {"resets": torch.zeros(B, T, dtype=torch.bool)},
        r"GRU: resets has shape \(3, 6\), expected \(T, B\) = \(6, 3\)",
    ),
    "integers": (TypeError, {"resets": torch.zeros(T, B, dtype=torch.int64)}, "GRU: resets"),
    "trace": (ValueError, {"trace": "some"}, "GRU: trace is 'some'"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "more", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_arguments(kind: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(kind, match=message):
        bptt.torch.GRU(I, 5)(torch.randn(T, B, I), **more)


@pytest.mark.parametrize("name", ["lengths", "resets"])
def test_packed_and_unbatched_input_have_no_lengths_of_their_own(name: str) -> None:
    gru, x = bptt.torch.GRU(I, 5), torch.randn(T, B, I)
    more = {name: torch.ones(T, B, dtype=torch.bool) if name == "resets" else [1, 1, 1]}
    packed = pack_padded_sequence(x, torch.tensor([6, 4, 2]))
    for data, text in ((packed, "a PackedSequence"), (x[:, 0], "unbatched")):
        with pytest.raises(ValueError, match=f"GRU: {name} are given and input is {text}"):
            gru(data, **more)


def test_refused_options() -> None:
    with pytest.raises(ValueError, match="LSTM: compute is 'int8'"):
        bptt.torch.LSTM(I, 5, compute="int8")
    with pytest.raises(ValueError, match="LSTM: step_clip"):
        bptt.torch.LSTM(I, 5, step_clip=("norm", -1.0))
    with pytest.raises(ValueError, match="LSTM: cut is 0"):
        bptt.torch.LSTM(I, 5, cut=0)
    with pytest.raises(ValueError, match="LSTM: trace is 'half'"):
        bptt.torch.LSTM(I, 5, trace="half")
