# SPDX-License-Identifier: MIT
"""The gradient during training: samples, records, text and pictures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import bptt
from bptt import init
from bptt.flow import Alert

T, B, SIZE, HIDDEN = 40, 3, 4, 8
X = np.random.default_rng(0).standard_normal((T, B, SIZE))
DH = np.ones((1, B, HIDDEN))


def linear(scale: float) -> bptt.RNN:
    rnn = bptt.RNN(SIZE, HIDDEN, activation="identity", dtype="float64", seed=0)
    init.orthogonal(rnn.parameters["weight_hh_l0"], 0, scale)
    return rnn


def trace_of(layer, x=X, dstate=DH):
    tape = layer.forward(x)[2]
    return layer.backward(tape, dstate=dstate, trace=True).trace


def test_it_wants_some_steps_and_samples_those():
    monitor = bptt.FlowMonitor(every=3, on_alert=lambda alert: None)
    rnn = linear(0.9)
    for step in range(7):
        tape = rnn.forward(X)[2]
        grads = rnn.backward(tape, dstate=DH, trace=monitor.wants(step))
        monitor.update(step, grads.trace, loss=0.5)
    assert [record["step"] for record in monitor.records] == [0, 3, 6]
    (cell,) = monitor.records[1]["cells"]
    assert cell["name"] == "layer 0"
    assert cell["last"] == pytest.approx(math.sqrt(HIDDEN))
    assert cell["first"] == pytest.approx(math.sqrt(HIDDEN) * 0.9 ** (T - 1))
    assert cell["growth"] == pytest.approx(1)
    assert cell["horizon"] is None  # 1 + log(0.01) / log(0.9) = 44.7, beyond the sequence
    assert cell["verdict"] == "healthy"
    assert monitor.records[1]["loss"] == 0.5
    assert monitor.records[1]["nonfinite"] is None


def test_the_trace_of_a_function_and_of_many_layers():
    monitor = bptt.FlowMonitor(on_alert=lambda alert: None)
    gru = bptt.GRU(SIZE, HIDDEN, 2, bidirectional=True, seed=0)
    monitor.update(0, trace_of(gru, dstate=np.ones((4, B, HIDDEN))))
    tape = bptt.rnn_forward(X, np.ones((HIDDEN, SIZE)), 0.5 * np.eye(HIDDEN))[2]
    monitor.update(1, bptt.rnn_backward(tape, dstate=DH[0], trace=True).trace)
    names = [[cell["name"] for cell in record["cells"]] for record in monitor.records]
    assert names == [["layer 0", "layer 0, reverse", "layer 1", "layer 1, reverse"], ["layer 0"]]
    trace = trace_of(gru, dstate=np.ones((4, B, HIDDEN)))
    for cell, seen in zip(trace.cells, monitor.records[0]["cells"]):
        means = {gate: pytest.approx(float(a.mean())) for gate, a in cell.saturated.items()}
        assert seen["saturated"] == means


def test_alerts_come_once_and_again_after_a_recovery():
    seen: list[Alert] = []
    monitor = bptt.FlowMonitor(on_alert=seen.append)
    scales = [1.0, 0.5, 0.5, 1.0, 0.5, 1.3, 1.0]
    for step, scale in enumerate(scales):
        monitor.update(step, trace_of(linear(scale)))
    assert [(a.step, a.kind) for a in seen] == [
        (1, "vanishing"),
        (4, "vanishing"),
        (5, "exploding"),
    ]
    assert monitor.alerts == seen
    horizon = 1 + math.log(0.01) / math.log(0.5)
    assert str(seen[0]) == f"step 1: layer 0: vanishing, horizon {horizon:.3g} steps"
    assert f"grows {1.3 ** (T - 2):,.0f} times" in seen[2].text
    assert f"step_clip=('norm', {math.sqrt(HIDDEN):.3g})" in seen[2].text


def test_a_horizon_that_shrinks_to_less_than_half_is_another_alert():
    seen: list[Alert] = []
    monitor = bptt.FlowMonitor(on_alert=seen.append)
    for step, scale in enumerate((0.8, 0.75, 0.5)):
        monitor.update(step, trace_of(linear(scale)))
    assert [a.step for a in seen] == [0, 2]
    assert "less than half of the 21.6 before" in seen[1].text


def test_dead_units_and_dead_gradients():
    seen: list[Alert] = []
    monitor = bptt.FlowMonitor(on_alert=seen.append)
    rnn = bptt.RNN(SIZE, HIDDEN, activation="relu", seed=0)
    rnn.parameters["bias_ih_l0"][...] = -100
    monitor.update(7, trace_of(rnn))
    assert [a.kind for a in seen] == ["dead", "dead"]
    assert "its gradient is exactly zero" in seen[0].text
    assert "dead gate h, 100 % of its units" in seen[1].text
    monitor.update(8, trace_of(linear(1.0)))
    monitor.update(9, trace_of(linear(1.0), dstate=0 * DH))
    assert [a.step for a in seen] == [7, 7, 9]


def test_open_forget_gates_are_not_dead():
    lstm = bptt.LSTM(SIZE, HIDDEN, seed=0)
    init.forget_bias(lstm, 20.0)
    monitor = bptt.FlowMonitor(on_alert=lambda alert: None)
    monitor.update(0, trace_of(lstm, dstate=(DH, None)))
    assert monitor.records[0]["cells"][0]["saturated"]["f"] == 1.0
    assert monitor.alerts == []


def test_a_value_that_is_not_finite_is_named_and_the_record_is_json(tmp_path):
    path = tmp_path / "flow.jsonl"
    x = X.copy()
    x[5, 1, 0] = np.nan
    monitor = bptt.FlowMonitor(path=path)
    with pytest.warns(bptt.FlowWarning, match="step 4: layer 0: non-finite .* step 39, sequence 1"):
        monitor.update(4, trace_of(bptt.RNN(SIZE, HIDDEN, seed=0), x), loss=float("nan"))

    def refuse(constant):
        raise AssertionError(constant)

    record = json.loads(path.read_text(), parse_constant=refuse)
    assert record["loss"] is None
    assert record["nonfinite"]["sequence"] == 1
    assert record["cells"][0]["verdict"] == "non-finite"


def test_records_are_on_the_disk_at_once_and_go_on_later(tmp_path):
    path = tmp_path / "flow.jsonl"
    monitor = bptt.FlowMonitor(path=path)
    for step in (0, 50):
        monitor.update(step, trace_of(linear(1.0)))
        assert len(path.read_text().splitlines()) == len(monitor.records)
    with open(path, "a") as file:
        file.write('{"step": 100, "cel')  # killed in the middle of a line
    again = bptt.FlowMonitor(path=path)
    assert again.records == monitor.records
    again.update(100, trace_of(linear(1.0)))
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == [0, 50, 100]


def test_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match="FlowMonitor: every is 0"):
        bptt.FlowMonitor(every=0)
    with pytest.raises(FileNotFoundError):
        bptt.FlowMonitor(path=tmp_path / "no" / "such" / "file")


def test_the_picture():
    pytest.importorskip("matplotlib")
    monitor = bptt.FlowMonitor(on_alert=lambda alert: None)
    monitor.plot()  # nothing yet
    for step, scale in enumerate((1.0, 0.8, 0.5)):
        monitor.update(50 * step, trace_of(linear(scale)))
    above, below = monitor.plot().axes
    steps, horizons = above.lines[0].get_data()
    np.testing.assert_array_equal(steps, [0, 50, 100])
    assert np.isnan(horizons[0])
    assert horizons[2] == pytest.approx(1 + math.log(0.01) / math.log(0.5))
    assert below.get_xlabel() == "update"
    assert below.get_yscale() == "log"
    assert {t.get_text() for t in below.get_legend().get_texts()} == {
        "layer 0, last step",
        "layer 0, first step",
    }
