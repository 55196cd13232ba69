# SPDX-License-Identifier: MIT
"""Every number of a report is a number or "-", every place a place; each against brute force."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.flow.curves import Curve, norm
from bptt.flow.text import table
from bptt.flow.verdict import _speed, kind_of
from bptt.layers.nonfinite import find_nonfinite

T, B, SIZE, HIDDEN = 12, 3, 4, 6
X = np.random.default_rng(0).standard_normal((T, B, SIZE))
LENGTHS = np.array([12, 5, 9])
CELLS: list[tuple[Any, dict[str, Any]]] = [
    (bptt.RNN, {}), (bptt.RNN, {"activation": "relu"}), (bptt.RNN, {"layer_norm": True}),
    (bptt.LSTM, {}), (bptt.LSTM, {"peepholes": True, "proj_size": 3}),
    (bptt.LSTM, {"layer_norm": True}), (bptt.LSTM, {"forget_gate": "coupled"}),
    (bptt.LSTM, {"activation": "relu"}), (bptt.GRU, {}), (bptt.GRU, {"reset_after": False}),
    (bptt.MGU, {}), (bptt.SLSTM, {}), (bptt.SLSTM, {"heads": 2}), (bptt.LSTM1997, {}),
]  # fmt: skip
OPTIONS: list[dict[str, Any]] = [
    {},
    {"dilation": 2},
    {"skip": 3},
    {"zoneout": 0.3},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]
IDS = [f"{c.__name__}-{'-'.join(h)}" for c, h in CELLS]
VALUE = re.compile(r"-|(over )?-?\d[\d,]*(\.\d+)?(e[+-]\d+)?( %)?|< 0\.01 %")


def made(cell: Any, how: dict[str, Any]) -> Any:
    return cell(SIZE, HIDDEN, dtype="float64", seed=1, **how)


def batch(layer: Any, x: np.ndarray = X) -> np.ndarray:
    return x.swapaxes(0, 1) if layer.batch_first else x


def assert_sound(report: bptt.flow.FlowReport) -> None:
    for row, values in table(report):
        for value in values:
            assert VALUE.fullmatch(value), (row, value)
    for words in ("None", "nan", "inf ", " 1 steps", "n/a", "1 sequences"):
        assert words not in str(report).partition("\nAdvice\n")[0], words


@pytest.mark.parametrize("how", OPTIONS, ids=str)
@pytest.mark.parametrize(("cell", "own"), CELLS, ids=IDS)
def test_all_numbers_are_those_of_the_passes_themselves(cell, own, how):
    layer = made(cell, {**own, **how})
    x = batch(layer)
    y, _, tape = copy.deepcopy(layer).forward(x, lengths=LENGTHS)
    dy = np.random.default_rng(3).standard_normal(y.shape)
    report = bptt.gradient_flow(layer, x, dy, lengths=LENGTHS)
    assert_sound(report)
    grads = tape.layer.backward(tape, dy, trace="full")
    inside = np.arange(T)[:, None] < LENGTHS
    for name, g in grads.params.items():
        assert report.norms[name] == pytest.approx(math.sqrt((g**2).sum())), name
    for k, (found, trace, each) in enumerate(zip(report.cells, grads.trace.cells, tape.cells)):
        dh = np.sqrt((trace.full.dh**2).sum(-1))
        np.testing.assert_allclose(found.dh, np.sqrt((dh**2).sum(1)), rtol=1e-12)
        firsts = [  # as many steps as the dilation, which nothing comes before
            dh[n - 1 - j if found.reverse else j, b]
            for b, n in enumerate(LENGTHS)
            for j in range(layer.dilations[found.layer])
        ]
        assert found.first == pytest.approx(math.sqrt(sum(v**2 for v in firsts)))
        assert found.sequences.tolist() == inside.sum(1).tolist()
        if not own.get("layer_norm") and own.get("heads", 1) == 1:
            assert found.share.sum() == pytest.approx(1)
        else:
            assert np.isnan(found.share).all()
        gate = {"lstm": "f", "gru": "z"}.get(found.cell)
        if gate in each.names:
            values = [getattr(each, gate)[t, b] for t, b in zip(*np.nonzero(inside))]
            assert found.retained == pytest.approx(np.mean(values))
        else:
            assert found.retained is None
        for gate in found.saturated:
            of_all = (trace.saturated[gate] * inside.sum(1)).sum() / inside.sum()
            assert found.saturation(gate) == pytest.approx(of_all)
        w_hh = layer.parameters[found.parameter("weight_hh")]
        if cell is bptt.RNN and not own.get("layer_norm") and not how.keys() & {"skip", "zoneout"}:
            assert found.radius == pytest.approx(np.abs(np.linalg.eigvals(w_hh)).max())
            assert found.bound == pytest.approx(np.linalg.svd(w_hh)[1][0])
        else:
            assert found.radius is found.bound is None
        assert k == 2 * found.layer + found.reverse or "bidirectional" not in how


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("cell", "own"), CELLS, ids=IDS)
def test_parameters_that_are_not_finite(cell, own, value):
    """Each has its own name and place, and no other number is NaN."""
    plain = made(cell, own)
    for name, array in plain.parameters.items():
        layer = made(cell, own)
        at = tuple(n // 2 for n in array.shape)
        layer.parameters[name][at] = value
        report = bptt.gradient_flow(layer, X)
        assert_sound(report)
        assert report.verdict == "non-finite"
        kind = "row" if name.startswith("weight") else "element"
        place = f"layer 0, {name.removesuffix('_l0')}, {kind} {at[0]} (forward)"
        assert report.verdicts == (f"non-finite: first at {place}",)
        assert report.advice[0].reason.startswith(f"{name}[{', '.join(map(str, at))}] is ")


def test_a_gate_that_is_no_number_is_not_saturated():
    layer = made(bptt.LSTM, {})
    layer.parameters["weight_ih_l0"][...] = np.nan
    rows = dict(table(bptt.gradient_flow(layer, X)))
    assert {rows[f"saturated units of gate {gate}"][0] for gate in "ifgo"} == {"0 %"}


def test_places_of_inputs_states_and_gates():
    x = X.copy()
    x[3, 1, 2] = np.nan
    verdict = bptt.gradient_flow(made(bptt.GRU, {}), x).verdicts[0]
    assert verdict == "non-finite: first at layer 0, step 3, sequence 1, input x, unit 2 (forward)"
    rnn = made(bptt.RNN, {"activation": "relu"})
    rnn.parameters["weight_ih_l0"][...] = 1e200
    rnn.parameters["weight_hh_l0"][...] = 1e200
    report = bptt.gradient_flow(rnn, np.abs(X))
    assert_sound(report)
    place = find_nonfinite(rnn.forward(np.abs(X))[2])
    assert report.verdicts[0] == (
        f"non-finite: first at layer 0, step {place.step}, sequence {place.sequence}, state h, "
        f"unit {place.unit} (forward)"
    )
    lstm = made(bptt.LSTM, {"layer_norm": True})
    for k, name in enumerate(("gain_ih_l0", "gain_hh_l0", "gain_c_l0", "bias_c_l0")):
        layer = copy.deepcopy(lstm)
        layer.parameters[name][1] = np.nan
        assert find_nonfinite(layer.forward(X)[2]).gate == f"layer_norm[{k}]"
        assert f"{name[:-3]}, element 1 " in bptt.gradient_flow(layer, X).verdicts[0]


@pytest.mark.parametrize(("cell", "own"), CELLS, ids=IDS)
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("sequences", [1, 2])
def test_short_ones(cell, own, steps, sequences):
    report = bptt.gradient_flow(made(cell, own), X[:steps, :sequences])
    assert_sound(report)
    text = " ".join(str(report).split())  # whatever the lines
    assert f"T = {steps} step{'s' * (steps > 1)}, B = {sequences} sequence" in text
    assert report.verdicts[0].startswith(f"too short: over {steps} step{'s' * (steps > 1)} ")
    assert dict(table(report))["steps for a factor of 10"] == ["-"]
    if steps == 1:
        horizon = next(values for row, values in table(report) if row.startswith("horizon"))
        assert horizon == ["-"]


def test_lengths_and_losses_in_words():
    layer = made(bptt.GRU, {})
    ragged = bptt.gradient_flow(layer, X, lengths=[1, 0, 1])
    assert "; 0 to 1 step, B = 3 sequences" in str(ragged)
    for loss, words in (
        (lambda y: (0.25, y), "Loss: your own, L = 0.25"),
        (lambda y: (math.nan, y), "Loss: your own, L = -"),
        ("last", "Loss: on the last step, L = sum of <u_b, h_b> over sequences b"),
        ("every", "Loss: on every step, L = sum of <u_b, h_tb> over steps and sequences b"),
    ):
        report = bptt.gradient_flow(layer, X, loss=loss)
        assert f"\n{words}" in str(report)
    assert "\nLoss: your own\n" in str(bptt.gradient_flow(layer, X, np.ones((T, B, HIDDEN))))


def test_a_relu_inside_an_lstm_has_units_that_are_off():
    layer = made(bptt.LSTM, {"activation": "relu"})
    rows = dict(table(bptt.gradient_flow(layer, X)))
    tape = layer.forward(X)[2]
    assert rows["units that are off of gate g"] == [f"{100 * float((tape.g == 0).mean()):.3g} %"]
    assert {"saturated units of gate i", "saturated units of gate o"} <= rows.keys()
    rows = dict(table(bptt.gradient_flow(made(bptt.RNN, {"activation": "relu"}), X)))
    assert "units that are off" in rows


def test_norms_whose_squares_leave_the_range():
    for scale in (1e-200, 1.0, 1e200):
        a = np.random.default_rng(0).standard_normal((5, 7))
        assert norm(scale * a) == pytest.approx(scale * math.sqrt((a**2).sum()), rel=1e-14)
    assert norm(np.zeros((2, 2))) == 0
    dy = np.zeros((T, B, HIDDEN))
    layer = made(bptt.RNN, {})
    dy[-1] = 1
    plain = bptt.gradient_flow(layer, X, dy)
    for scale in (1e-200, 1e200):
        report = bptt.gradient_flow(layer, X, scale * dy)
        for name, value in plain.norms.items():
            assert report.norms[name] == pytest.approx(scale * value, rel=1e-12)
        np.testing.assert_allclose(report.cells[0].share, plain.cells[0].share, rtol=1e-6)
        assert report.cells[0].first == pytest.approx(scale * plain.cells[0].first)


def test_an_explosion_that_first_falls_has_its_peak_behind_lag_1():
    curve = Curve(np.concatenate([[1.0, 1e-4], np.full(9, 1e-4), [0.2, 0.1]]), np.dtype("f8"))
    assert curve.peak == 11
    assert curve.growth == pytest.approx(2000)
    assert _speed(curve) == "the gradient grows for 11 steps"


def test_a_curve_that_begins_at_lag_1_is_not_dead():
    """The same holds for c where zoneout mixes it after h was made from it."""
    for norms, zero, kind in (
        ([0, 1, 0.9, 0.8, 0.7], None, "healthy"),
        ([0, 1, 0, 0, 0], 2, "dead"),
        ([1, 0, 0, 0, 0], 1, "dead"),
        ([0, 0, 0, 0, 0], 0, "dead"),
    ):
        curve = Curve(np.array(norms, float), np.dtype("f8"))
        assert curve.zero_from == zero
        assert kind_of(curve) == kind
