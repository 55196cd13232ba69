# SPDX-License-Identifier: MIT
from __future__ import annotations

import re

import numpy as np
import pytest

from bptt.derivatives.gradcheck import gradcheck
from bptt.functional import gru_backward, gru_forward, lstm_backward, lstm_forward
from bptt.layers import LSTM


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


LSTM_INPUTS = {
    "x": normal(5, 2, 3),
    "w_ih": normal(16, 3),
    "w_hh": normal(16, 4),
    "b_ih": normal(16),
    "b_hh": normal(16),
    "state": (normal(2, 4), normal(2, 4)),
}


def test_functions_pass_with_small_errors_for_every_input():
    errors = gradcheck(lstm_forward, lstm_backward, LSTM_INPUTS)
    assert list(errors) == ["x", "w_ih", "w_hh", "b_ih", "b_hh", "state[0]", "state[1]"]
    assert 0 < max(errors.values()) < 1e-7


def test_layers_pass_and_keep_their_parameters():
    layer = LSTM(3, 4, 2, dtype="float64", seed=0)
    before = {k: v.copy() for k, v in layer.parameters.items()}
    inputs = {"x": normal(4, 2, 3), "state": (normal(2, 2, 4), normal(2, 2, 4))}
    kept = inputs["x"].copy()
    errors = gradcheck(layer.forward, layer.backward, inputs, layer.parameters)
    assert list(errors) == ["x", "state[0]", "state[1]", *layer.parameters]
    np.testing.assert_array_equal(inputs["x"], kept)
    for name, value in before.items():
        np.testing.assert_array_equal(layer.parameters[name], value)


@pytest.mark.parametrize("field", ["x", "w_ih", "w_hh", "b_ih", "b_hh", "state"])
def test_one_wrong_element_is_found_and_named(field):
    def backward(tape, *cotangents):
        grads = gru_backward(tape, *cotangents)
        wrong = getattr(grads, field).copy()
        wrong[-1] *= 1 + 1e-4
        wrong[(-1,) * wrong.ndim] += 0.5
        return grads._replace(**{field: wrong})

    inputs = {k: v[:12] if k[0] in "wb" else v for k, v in LSTM_INPUTS.items()}
    inputs["state"] = inputs["state"][0]
    last = tuple(n - 1 for n in inputs[field].shape)
    with pytest.raises(AssertionError, match=re.escape(f"gradient of {field} is ")) as caught:
        gradcheck(gru_forward, backward, inputs)
    assert f" at {last}, expected " in str(caught.value)
    value, numeric = re.search(r"is (\S+) at .*expected (\S+) \+-", str(caught.value)).groups()
    assert float(value) - float(numeric) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("part", [0, 1])
def test_an_error_that_only_the_final_state_shows_is_found(part):
    def backward(tape, dy, dstate):
        dstate = tuple(0.99 * d if i == part else d for i, d in enumerate(dstate))
        return lstm_backward(tape, dy, dstate)

    with pytest.raises(AssertionError, match="gradient of x is"):
        gradcheck(lstm_forward, backward, LSTM_INPUTS)


def test_functions_of_ones_own():
    def forward(a, b):
        return a**2 @ b, (a, b)

    def backward(tape, dy):
        a, b = tape
        return {"a": 2 * a * (dy @ b.T), "b": (a**2).T @ dy}

    errors = gradcheck(forward, backward, {"a": normal(2, 3), "b": normal(3, 2)})
    assert list(errors) == ["a", "b"]
    assert gradcheck(forward, backward, {"a": np.zeros((0, 3)), "b": normal(3, 2)})["a"] == 0
    with pytest.raises(AssertionError, match="gradient of b is"):
        gradcheck(forward, lambda t, d: {**backward(t, d), "b": np.full((3, 2), np.nan)},
                  {"a": normal(2, 3), "b": normal(3, 2)})  # fmt: skip


def square(x):
    return x * x, x


ERRORS = [
    (
        lambda: gradcheck(square, lambda t, d: {"x": 2 * t * d}, {"x": np.ones(2, "f4")}),
        TypeError,
        "gradcheck: inputs['x'] has dtype float32, expected float64",
    ),
    (
        lambda: gradcheck(lambda x: x, lambda t, d: {"x": d}, {"x": np.ones(2)}),
        TypeError,
        "gradcheck: forward returns ndarray, expected a tuple (*outputs, tape)",
    ),
    (
        lambda: gradcheck(lambda x: (x.astype("f4"), x), lambda t, d: {"x": d}, {"x": np.ones(2)}),
        TypeError,
        "gradcheck: output[0] has dtype float32, expected float64",
    ),
    (
        lambda: gradcheck(square, lambda t, d: {"y": d}, {"x": np.ones(2)}),
        AssertionError,
        "gradcheck: backward returns no gradient of x, expected one",
    ),
    (
        lambda: gradcheck(square, lambda t, d: {"x": d[:1]}, {"x": np.ones(2)}),
        AssertionError,
        "gradcheck: gradient of x has shape (1,) and dtype float64, expected (2,) and float64",
    ),
    (
        lambda: gradcheck(square, lambda t, d: {"x": None}, {"x": np.ones(2)}),
        AssertionError,
        "gradcheck: gradient of x has shape () and dtype object",
    ),
    (
        lambda: gradcheck(LSTM(2, 3).forward, LSTM(2, 3).backward, {"x": np.ones((1, 1, 2))}),
        TypeError,
        "gradcheck: output[0] has dtype float32, expected float64",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[row[-1][:40] for row in ERRORS])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
