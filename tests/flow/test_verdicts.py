# SPDX-License-Identifier: MIT
"""Verdicts, advice, and the refusals of a report."""

from __future__ import annotations

import copy
import math
import re

import numpy as np
import pytest

import bptt
from bptt import init, load_model

torch = pytest.importorskip("torch")

T, B, SIZE, HIDDEN = 60, 5, 4, 12
X = np.random.default_rng(0).standard_normal((T, B, SIZE)).astype(np.float32)
TORCH = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def linear(scale: float) -> bptt.RNN:
    """One step back scales a gradient exactly."""
    rnn = bptt.RNN(SIZE, HIDDEN, activation="identity", dtype="float64", seed=0)
    init.orthogonal(rnn.parameters["weight_hh_l0"], 0, scale)
    return rnn


def test_healthy_models_get_no_advice():
    lstm = bptt.LSTM(SIZE, HIDDEN, seed=0)
    init.forget_bias(lstm, 5.0)
    orthogonal = linear(1.0)
    for model in (lstm, orthogonal):
        report = bptt.gradient_flow(model, X)
        assert report.verdict == "healthy"
        assert report.advice == ()
        assert "stays between" in report.verdicts[0]
        assert report.cells[0].curve.horizon == math.inf
        assert report.cells[0].far == 0


def test_exploding_and_its_advice():
    rnn = linear(1.3)
    target = np.zeros((B, HIDDEN))

    def loss(y):
        dy = np.zeros_like(y)
        value, dy[-1] = bptt.mse(y[-1], target)
        return value, dy

    report = bptt.gradient_flow(rnn, X, loss=loss)
    assert report.value == pytest.approx(float(np.mean(rnn(X)[0][-1] ** 2)))
    assert f"\nLoss: your own, L = {report.value:.3g}\n" in str(report)
    advice = " | ".join(map(str, report.advice))
    bound = re.search(r'step_clip=\("norm", ([\d.e+-]+)\)', advice)
    norms = np.linalg.norm(loss(rnn(X)[0])[1][-1], axis=-1)
    assert bound
    assert float(bound[1]) == pytest.approx(np.quantile(norms, 0.95), rel=5e-3)
    rate = re.search(r"learning rate of SGD below ([\d.e+-]+)", advice)
    ratio = np.linalg.norm(rnn.parameters["weight_hh_l0"]) / report.norms["weight_hh_l0"]
    assert rate
    assert float(rate[1]) == pytest.approx(0.01 * ratio, rel=5e-3)
    # The orthogonal start was tried: its growth is 1.
    assert re.search(
        r"init.orthogonal.*growth factor of layer 0 falls from [\d,e+.]+ to 1\)", advice
    )
    # Without a loss of the user's own, nothing is said that depends on its size.
    other = " | ".join(map(str, bptt.gradient_flow(rnn, X).advice))
    assert "learning rate" not in other
    assert 'step_clip=("norm", 1), times the norm of your dL/dh' in other


def test_advice_tells_what_the_other_start_did():
    """Its words on chrono agree with a report on a model with that start."""
    lstm = bptt.LSTM(SIZE, HIDDEN, seed=0)
    report = bptt.gradient_flow(lstm, X)
    (chrono,) = (a for a in report.advice if "chrono" in a.text)
    assert f"bptt.init.chrono(layer, t_max={T})" in chrono.text
    assert f"f is {report.cells[0].retained:.3g} on average" in chrono.reason
    other = copy.deepcopy(lstm)
    init.chrono(other, t_max=T, rng=0)
    horizon = bptt.gradient_flow(other, X).cells[0].curve.horizon
    said = f"over {T - 1}" if horizon >= T - 1 else f"{horizon:.3g}"
    assert chrono.reason.endswith(f"to {said} steps")


def test_dead_relu():
    rnn = bptt.RNN(SIZE, HIDDEN, activation="relu", seed=0)
    x = X.copy()
    rnn.parameters["weight_ih_l0"][...] = np.abs(rnn.parameters["weight_ih_l0"])
    x[:20], x[20:] = np.abs(x[:20]), -100  # all units off from step 20 on
    report = bptt.gradient_flow(rnn, x)
    assert report.verdict == "dead"
    assert f"exactly zero before t = {T - 1}, without fading first" in report.verdicts[0]
    assert "100 % at the worst step" in report.advice[0].reason
    x = X.copy()
    x[20] = -100  # at one step only: from there back, nothing
    rnn.parameters["bias_ih_l0"][...] = 1
    report = bptt.gradient_flow(rnn, x)
    assert "dead: the gradient is exactly zero before t = 20," in report.verdicts[0]


def test_no_gradient_arrives():
    report = bptt.gradient_flow(bptt.GRU(SIZE, HIDDEN, seed=0), X, np.zeros((T, B, HIDDEN)))
    assert report.verdict == "dead"
    assert "at every step" in report.verdicts[0]
    assert "the gradient of the loss does not reach it" in report.advice[0].reason


@pytest.mark.parametrize("kind", TORCH)
def test_a_value_that_is_not_finite_is_found(kind):
    x = X.copy()
    x[37, 2, 1] = np.nan
    report = bptt.gradient_flow(TORCH[kind](SIZE, HIDDEN), x)
    assert report.verdict == "non-finite"
    assert "layer 0, step 37, sequence 2" in report.verdicts[0]
    assert report.advice[0].reason.startswith("x[37, 2, 1] is nan; not finite: 1 of")
    layer = load_model(TORCH[kind](SIZE, HIDDEN))
    layer.parameters["weight_hh_l0"][3, 4] = np.inf
    report = bptt.gradient_flow(layer, X)
    assert report.verdict == "non-finite"
    assert "(forward)" in report.verdicts[0]
    assert report.advice[0].reason.startswith("weight_hh_l0[3, 4] is inf")
    str(report)


def test_overflow_on_the_way_back():
    rnn = bptt.RNN(SIZE, HIDDEN, activation="tanh", seed=0)
    init.orthogonal(rnn.parameters["weight_hh_l0"], 0, 1e3)
    rnn.parameters["weight_ih_l0"][...] = 0
    for name in ("bias_ih_l0", "bias_hh_l0"):
        rnn.parameters[name][...] = 0  # h stays 0, where the slope is 1
    report = bptt.gradient_flow(rnn, X)
    assert report.verdict == "non-finite"
    assert "(backward)" in report.verdicts[0]
    assert "step_clip" in report.advice[0].text


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_too_short_for_a_verdict(steps):
    report = bptt.gradient_flow(bptt.LSTM(SIZE, HIDDEN, seed=0), X[:steps])
    assert report.verdict == "too short"
    assert f"over {steps} step" in report.verdicts[0]
    str(report)


# --- arguments ------------------------------------------------------------------------------------


def test_a_gradient_or_a_function_or_tensors_are_one():
    rnn = bptt.RNN(SIZE, HIDDEN, seed=0)
    dy = np.random.default_rng(1).standard_normal((T, B, HIDDEN)).astype(np.float32)
    reports = [
        bptt.gradient_flow(rnn, X, dy),
        bptt.gradient_flow(rnn, torch.tensor(X), torch.tensor(dy)),
        bptt.gradient_flow(rnn, X, loss=lambda y: (0.0, dy)),
    ]
    assert len({str(r).replace(", L = 0", "") for r in reports}) == 1
    np.testing.assert_array_equal(reports[0].cells[0].dh, reports[2].cells[0].dh)


def test_the_model_and_its_masks_stay_as_they_are():
    def layer():
        return bptt.LSTM(SIZE, HIDDEN, 2, dropout=0.5, recurrent_dropout=0.2, seed=3)

    used, fresh = layer(), layer()
    first, second = (bptt.gradient_flow(used, X) for _ in range(2))
    assert str(first) == str(second)
    for name, array in fresh.parameters.items():
        np.testing.assert_array_equal(used.parameters[name], array)
    np.testing.assert_array_equal(used.forward(X)[0], fresh.forward(X)[0])


def test_one_sequence_without_a_batch_axis():
    for layer in (bptt.GRU(SIZE, HIDDEN, seed=0), bptt.GRU(SIZE, HIDDEN, batch_first=True, seed=0)):
        report = bptt.gradient_flow(layer, X[:, 0])
        assert len(report.cells[0].dh) == T
        assert len(report.lengths) == 1


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"x": X[:0]}, ValueError, "gradient_flow: x has 0 steps of 5 sequences"),
        ({"lengths": [0] * B}, ValueError, "expected at least one"),
        ({"lengths": [T + 1] * B}, ValueError, "lengths"),
        ({"loss": "first"}, ValueError, "gradient_flow: loss is 'first', expected 'last', 'every'"),
        ({"dy": X, "loss": "every"}, ValueError, "dy and loss are both given"),
        ({"dy": X}, ValueError, "dy has shape"),
        ({"x": X[..., :2]}, ValueError, "x has shape"),
        ({"seed": -1}, ValueError, "gradient_flow: seed is -1"),
        ({"model": 3}, TypeError, "gradient_flow: model is of type int"),
    ],
)
def test_wrong_arguments(how, error, words):
    arguments = {"model": bptt.RNN(SIZE, HIDDEN, seed=0), "x": X, **how}
    with pytest.raises(error, match=re.escape(words)):
        bptt.gradient_flow(**arguments)
