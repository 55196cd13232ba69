# SPDX-License-Identifier: MIT
"""A trace shows the states as the tape holds them, and the gates as their activations made them.

Between them stand zoneout, skip, leak, clips and projections.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference
from support.problems import CASES, CORE, Case, backward, forward, problem, supported

SHAPE = (7, 3, 3, 4)
HOW: list[dict[str, Any]] = [
    {},
    {"cut": 3},
    {"step_clip": ("norm", 0.2, "c")},
    {"step_clip": ("value", 0.1)},
]
# The values between which a gate is at no end of its range.
INSIDE = {"sigmoid": (0.01, 0.99), "hard_sigmoid": (0.01, 0.99), "tanh": (-0.99, 0.99)}
INSIDE |= {"relu": (1.2e-38, np.inf), "identity": (-np.inf, np.inf), "softsign": (-0.99, 0.99)}
INSIDE |= {"softplus": (0.01, np.inf), ("elu", 0.4): (-0.396, np.inf)}
INSIDE |= {("scaled_tanh", s, f): (-0.495, 0.495) for s, f in ((0.5, 0.5), (-0.5, 0.4))}
INSIDE |= {("hard_sigmoid", *line): (0.01, 0.99) for line in ((0.2, 0.5), (-0.2, 0.4))}
# Their values do not tell.
UNKNOWN = (("elu", -0.4), ("leaky_relu", -0.3), ("thresholded_relu", -0.4))
CANDIDATES = {"rnn": "h", "lstm": "g", "gru": "n"}  # gates whose activation is an option


def modules(case: Case) -> list[Any]:
    return [reference, bptt] if case in CORE else [reference]


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_gradients_of_states_are_those_that_autograd_keeps(case: Case, how: Any) -> None:
    pytest.importorskip("torch")
    from support import torch_twin

    c = problem(case, SHAPE)
    want = torch_twin.states(c, **how)
    for module in modules(case):
        if module is bptt and not supported(c, how):
            continue
        _, _, tape = forward(module, c)
        trace = backward(module, c, tape, trace="full", **how).trace
        for name, got in (("h", trace.full.dh), ("c", trace.full.dc)):
            if got is None:
                continue
            tolerance = 1e-11 * np.abs(want[name]).max()
            np.testing.assert_allclose(got, want[name], 0, tolerance, err_msg=f"{module} {name}")
            by_sequence = np.linalg.norm(want[name], axis=2)
            shown = getattr(trace, f"d{name}_by_sequence"), getattr(trace, f"d{name}")
            np.testing.assert_allclose(shown[0], by_sequence, 0, 10 * tolerance)
            np.testing.assert_allclose(shown[1], np.linalg.norm(by_sequence, axis=1), 1e-11)


def activation_of(c: Any, gate: str) -> Any:
    name = "tanh" if gate in "gnzh" and c.cell != "lstm1997" else "sigmoid"
    if gate == "z" and c.cell == "gru":
        name = "sigmoid"
    option = "activation" if gate == CANDIDATES.get(c.cell) else "gate_activation"
    return c.options.get(option, name)


def at_an_end(c: Any, gate: str, value: Any) -> Any:
    low, high = INSIDE[activation_of(c, gate)]
    return (value < low) | (value > high)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_saturation_is_that_of_what_activations_put_out(case: Case) -> None:
    pytest.importorskip("torch")
    from support import torch_twin

    c = problem(case, SHAPE, scale=3)
    T, B, _, H = SHAPE
    gates = {k[5:]: v for k, v in torch_twin.states(c).items() if k.startswith("gate ")}
    gates = {gate: v for gate, v in gates.items() if activation_of(c, gate) not in UNKNOWN}
    lengths = np.broadcast_to(c.options.get("lengths", T), B)
    valid = np.arange(T)[:, None] < lengths
    for module in modules(case):
        _, _, tape = forward(module, c)
        got = backward(module, c, tape, trace=True).trace.saturated
        assert set(got) == set(gates), module  # of sLSTM not i, an exponential, nor f'
        for gate, value in gates.items():
            part = (at_an_end(c, gate, value) & valid[:, :, None]).sum((1, 2))
            np.testing.assert_allclose(got[gate], part / (H * valid.sum(1)), 1e-12, err_msg=gate)
    if case.cell == "rnn" and gates:
        assert 0 < np.nanmean(got["h"]) < 1 or "preact_clip" in c.options


# --- what reports and monitors say of it


def healthy_rnn(**options: Any) -> tuple[Any, Any]:
    """Arguments of tanh at most 0.4, whatever h is."""
    layer = bptt.RNN(4, 16, bias=False, seed=0, **options)
    for name, w in layer.parameters.items():
        w[...] = np.abs(w) if "ih" in name else -0.002 * np.eye(16)
    return layer, np.random.default_rng(0).standard_normal((100, 8, 4)) * 0.05 + 0.5


@pytest.mark.parametrize("options", [{"skip": 1}, {"skip": 4, "dilation": 2}], ids=str)
def test_a_sum_of_healthy_units_is_no_dead_gate(options: dict[str, Any]) -> None:
    layer, x = healthy_rnn(**options)
    y, h, tape = layer.forward(x)
    assert (np.abs(y) > 1).mean() > 0.5
    trace = layer.backward(tape, dstate=np.ones_like(h), trace=True).trace
    assert not trace.cells[0].saturated["h"].any()
    monitor = bptt.FlowMonitor(1, on_alert=lambda alert: None)
    monitor.update(0, trace)
    assert not [alert for alert in monitor.alerts if "gate" in alert.text]
    report = bptt.gradient_flow(layer, x)
    assert report.cells[0].saturation("h") == 0


@pytest.mark.parametrize("options", [{"leak": 0.1}, {"zoneout": 0.9}], ids=str)
def test_a_unit_that_is_off_is_off_however_slowly_h_follows(options: dict[str, Any]) -> None:
    rnn = bptt.RNN(4, 16, activation="relu", bias=False, seed=0, **options)
    for name, w in rnn.parameters.items():
        w[...] = -np.abs(w) if "ih" in name else 0  # every unit is off at every step
    state = np.ones((1, 8, 16), np.float32)
    y, _, tape = rnn.forward(np.ones((10, 8, 4)), state)
    assert (y > 0).mean() > 0.3
    trace = rnn.backward(tape, np.ones_like(y), trace=True).trace.cells[0]
    assert (trace.saturated["h"] == 1).all()


def test_a_fresh_slstm_has_no_dead_gate() -> None:
    """Either i' or f' is exactly 1."""
    layer, x = bptt.SLSTM(4, 16, seed=0), np.random.default_rng(0).standard_normal((50, 8, 4))
    y, _, tape = layer.forward(x)
    assert ((tape.i == 1) | (tape.f == 1)).all()
    saturated = layer.backward(tape, y, trace=True).trace.cells[0].saturated
    assert list(saturated) == ["f", "z", "o"]
    assert all((part == 0).all() for part in saturated.values())
    assert set(bptt.gradient_flow(layer, x).cells[0].saturated) == {"f", "z", "o"}


@pytest.mark.parametrize("zoneout", [(0.0, 0.0), (0.0, 0.8), (0.0, 1.0)])
def test_a_memory_that_is_kept_is_healthy(zoneout: tuple[float, float]) -> None:
    lstm, x = bptt.LSTM(3, 4, zoneout=zoneout, seed=0), np.random.default_rng(0)
    bptt.init.forget_bias(lstm, 8.0)
    report = bptt.gradient_flow(lstm, x.normal(size=(100, 1, 3)))
    assert report.verdicts[0].startswith("healthy")


def test_a_checkpoint_keeps_no_activations() -> None:
    c = problem(Case("", "rnn", {"leak": 0.3}), (300, 4, 3, 5))
    _, _, tape = forward(bptt, c, checkpoint="sqrt")
    trace = backward(bptt, c, tape, trace=True).trace
    with pytest.raises(ValueError, match="kept in segments, expected one without checkpoint"):
        trace.saturated  # noqa: B018
