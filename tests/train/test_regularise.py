# SPDX-License-Identifier: MIT
"""Regularisers: values by definition, gradients by the complex step and by finite differences."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

import bptt
from bptt import reference
from bptt.regularise import flossing, omega

STEP = 1e-30
ACTIVATIONS = ["tanh", "sigmoid", "relu", "leaky_relu", "identity"]
NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
T, B, I, H = 7, 4, 2, 4


def case(activation="tanh", lengths=None, batch_first=False):
    rng = np.random.default_rng(0)
    rnn = bptt.RNN(I, H, activation=activation, batch_first=batch_first, dtype="float64", seed=0)
    for p in rnn.parameters.values():
        p *= 2
    shapes = {"x": (T, B, I), "state": (1, B, H), "dy": (T, B, H), "dstate": (1, B, H)}
    given = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    given["dy"][3:5] = 0  # p and d are then the same
    return rnn, given, lengths


def twin_tape(rnn, given, lengths):
    """The value for arrays by name, real or complex."""
    weights = [given.get(name, rnn.parameters[name]) for name in NAMES]
    return reference.rnn_forward(
        given["x"], *weights, given["state"][0], activation=rnn.activation, lengths=lengths
    )[2]


def twin(rnn, given, lengths):
    return reference.omega(twin_tape(rnn, given, lengths), given["dy"], given["dstate"][0])


def twin_flossing(rnn, given, lengths):
    start = np.linalg.qr(np.random.default_rng(0).standard_normal((H, 2)))[0]
    return reference.flossing(twin_tape(rnn, given, lengths), start)


def own(rnn, given, lengths, **how):
    def order(a):
        return a.swapaxes(0, 1) if rnn.batch_first else a

    tape = rnn.forward(order(given["x"]), given["state"], lengths)[2]
    got = omega(tape, order(given["dy"]), given["dstate"], **how)
    return got._replace(x=order(got.x), dy=order(got.dy))


def complex_step(rnn, given, lengths, name, twin=twin):
    array = given[name] if name in given else rnn.parameters[name]
    gradient = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        moved = array.astype(complex)
        moved[index] += 1j * STEP
        gradient[index] = twin(rnn, {**given, name: moved}, lengths).imag / STEP
    return gradient


@pytest.mark.parametrize("lengths", [None, [7, 1, 0, 5]])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_value_and_exact_gradient(activation, lengths):
    rnn, given, _ = case(activation)
    if lengths:
        given["x"][5:, 3] = given["dy"][5:, 3] = np.nan  # padding
    got = own(rnn, given, lengths)
    if lengths:
        given = {name: np.nan_to_num(a) for name, a in given.items()}
    assert got.value == pytest.approx(twin(rnn, given, lengths), rel=1e-12)
    for name, found in [*got.params.items(), *got._asdict().items()]:
        if name in NAMES or name in given:
            want = complex_step(rnn, given, lengths, name)
            error = np.abs(found - want).max() / max(np.abs(want).max(), 1e-3)
            assert error < 1e-10, name


@pytest.mark.parametrize("lengths", [None, [7, 1, 0, 5]])
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu", "identity"])
def test_flossing_and_its_gradient(activation, lengths):
    rnn, given, _ = case(activation)
    got = flossing(rnn.forward(given["x"], given["state"], lengths)[2], 2)
    assert got.value == pytest.approx(twin_flossing(rnn, given, lengths), rel=1e-12)
    found = {**got.params, "state": got.state}
    if lengths is None:
        found["x"] = got.x
    for name, gradient in found.items():
        want = complex_step(rnn, given, lengths, name, twin_flossing)
        assert np.abs(gradient - want).max() < 1e-10 * max(np.abs(want).max(), 1), name
    assert got.dy is got.dstate is None


def test_exponents_of_a_known_network():
    """W_hh = 0.5 times an orthogonal matrix: all exponents are log(0.5)."""
    rnn = bptt.RNN(2, 6, activation="identity", dtype="float64", seed=0)
    bptt.init.orthogonal(rnn.parameters["weight_hh_l0"], 0, gain=0.5)
    tape = rnn.forward(np.ones((30, 3, 2)))[2]
    for n in (1, 3, 6):
        got = flossing(tape, n)
        assert got.value == pytest.approx(n * np.log(0.5) ** 2, rel=1e-12)
        # a change of W_hh by a factor e^s shifts them by s
        along = (got.params["weight_hh_l0"] * rnn.parameters["weight_hh_l0"]).sum()
        assert along == pytest.approx(2 * n * np.log(0.5), rel=1e-12)


def test_flossing_before_training_lengthens_the_horizon():
    rnn = bptt.RNN(2, 16, seed=0)
    x = np.random.default_rng(0).standard_normal((60, 8, 2))
    adam = bptt.Adam(rnn.parameters, lr=3e-3)
    reach = []
    for _ in range(150):
        _, h, tape = rnn.forward(x)
        dx = rnn.backward(tape, dstate=np.ones_like(h)).x
        reach.append(np.linalg.norm(dx[0]) / np.linalg.norm(dx[-1]))
        adam.step(flossing(tape, 4).params)
    assert reach[-1] > 1e6 * reach[0]


def test_gradient_by_finite_differences():
    rnn, given, _ = case()
    w = rnn.parameters["weight_hh_l0"]
    gradient = own(rnn, given, None).params["weight_hh_l0"]
    for index in [(0, 0), (3, 1), (2, 2)]:
        values, before = [], w[index]
        for sign in (1, -1):
            w[index] = before + sign * 1e-6
            values.append(own(rnn, given, None).value)
        w[index] = before
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradient[index], rel=1e-7)


def test_immediate_is_the_derivative_by_the_matrix_of_the_last_product_alone():
    rnn, given, _ = case()
    got = own(rnn, given, None, immediate=True)
    assert got.value == own(rnn, given, None).value
    # d and the slopes from the real pass; only the product with w_hh sees the complex step
    w = rnn.parameters["weight_hh_l0"]
    h = rnn.forward(given["x"], given["state"])[0]
    d, total = np.zeros((B, H)), []
    for t in reversed(range(T)):
        d = d + given["dy"][t] + (given["dstate"][0] if t == T - 1 else 0)
        total.append((d, d * (1 - h[t] ** 2)))
        d = total[-1][1] @ w
    want = np.empty((H, H))
    for index in np.ndindex(want.shape):
        moved = w.astype(complex)
        moved[index] += 1j * STEP
        terms = [(((delta @ moved) ** 2).sum(1) / (d * d).sum(1) - 1) ** 2 for d, delta in total]
        want[index] = np.mean(terms).imag / STEP
    np.testing.assert_allclose(got.params["weight_hh_l0"], want, rtol=1e-10)
    others = [a for name, a in got.params.items() if name != "weight_hh_l0"]
    assert not any(a.any() for a in (*others, got.x, got.state, got.dy, got.dstate))


def test_by_way_of_a_loss_that_is_not_linear():
    """L = sum y^3 / 3: dy = y^2, whose own dependence on the weights comes through `.dy`."""
    rnn, given, _ = case()
    y, _, tape = rnn.forward(given["x"])
    got = omega(tape, y**2)
    exact = got.params["weight_hh_l0"] + rnn.backward(tape, 2 * y * got.dy).params["weight_hh_l0"]
    w = rnn.parameters["weight_hh_l0"]
    want = np.empty((H, H))
    for index in np.ndindex(want.shape):
        moved = w.astype(complex)
        moved[index] += 1j * STEP
        weights = [moved if name == "weight_hh_l0" else rnn.parameters[name] for name in NAMES]
        y, _, tape = reference.rnn_forward(given["x"], *weights)
        want[index] = reference.omega(tape, y**2).imag / STEP
    np.testing.assert_allclose(exact, want, rtol=1e-9)


def test_an_orthogonal_linear_network_has_none():
    rnn = bptt.RNN(2, 6, activation="identity", dtype="float64", seed=0)
    bptt.init.orthogonal(rnn.parameters["weight_hh_l0"], 0)
    tape = rnn.forward(np.ones((50, 3, 2)))[2]
    assert omega(tape, dstate=np.ones((1, 3, 6))).value < 1e-24
    rnn.parameters["weight_hh_l0"] *= 0.5  # each ratio is 1/4: (1/4 - 1)^2
    tape = rnn.forward(np.ones((20, 3, 2)))[2]
    assert omega(tape, dstate=np.ones((1, 3, 6))).value == pytest.approx(9 / 16, rel=1e-12)


def test_descent_along_the_gradient_lowers_it():
    rnn, given, _ = case()
    sgd = bptt.SGD(rnn.parameters, lr=0.01)
    values = []
    for _ in range(200):
        tape = rnn.forward(given["x"])[2]
        got = omega(tape, dstate=given["dstate"])
        values.append(got.value)
        sgd.step(got.params)
    assert all(b < a for a, b in itertools.pairwise(values))
    assert values[-1] < 0.5 * values[0]


def test_steps_without_a_gradient_do_not_count():
    rnn, given, _ = case()
    tape = rnn.forward(given["x"])[2]
    got = omega(tape)
    assert got.value == 0
    assert not any(a.any() for a in got.params.values())
    only = np.zeros((T, B, H))
    only[0] = 1  # the first step alone: one term for each sequence
    passed = (1 - rnn.forward(given["x"])[0][0] ** 2) @ rnn.parameters["weight_hh_l0"]
    assert omega(tape, only).value == pytest.approx(np.mean(((passed**2).sum(1) / H - 1) ** 2))


def test_flossing_in_float32_and_batch_first():
    rnn, given, lengths = case(lengths=[7, 3, 0, 5])
    for p in rnn.parameters.values():
        p /= 2  # where tanh saturates, 1 - h^2 loses digits of h in float32
    want = flossing(rnn.forward(given["x"], lengths=lengths)[2], 3)
    other = bptt.RNN(I, H, batch_first=True, seed=0)
    other.load(rnn.parameters)
    got = flossing(other.forward(given["x"].swapaxes(0, 1), lengths=lengths)[2], 3)
    assert got.value == pytest.approx(want.value, rel=1e-4)
    pairs = zip(want.params.values(), got.params.values())
    for a, b in [*pairs, (want.x, got.x.swapaxes(0, 1)), (want.state, got.state)]:
        assert b.dtype == np.float32
        np.testing.assert_allclose(b, a, atol=1e-4 * np.abs(a).max())


@pytest.mark.parametrize("batch_first", [False, True])
def test_float32_and_batch_first(batch_first):
    rnn, given, lengths = case(lengths=[7, 3, 0, 5], batch_first=batch_first)
    want = own(*case(lengths=lengths))
    got = own(rnn, given, lengths)
    for a, b in zip([*want.params.values(), *want[2:6]], [*got.params.values(), *got[2:6]]):
        np.testing.assert_array_equal(a, b)
    single = bptt.RNN(I, H, batch_first=batch_first, seed=0)
    single.load(rnn.parameters)
    got = own(single, given, lengths)
    assert got.value == pytest.approx(want.value, rel=1e-5)
    for a, b in zip([*want.params.values(), *want[2:6]], [*got.params.values(), *got[2:6]]):
        assert b.dtype == np.float32
        np.testing.assert_allclose(b, a, atol=2e-5 * np.abs(a).max())


def tape_of(layer):
    return layer.forward(np.ones((2, 1, layer.input_size)))[2]


def dead():
    rnn = bptt.RNN(1, 2, activation="relu", seed=0)
    rnn.parameters["bias_ih_l0"][...] = [5, -5]
    return tape_of(rnn)


EXPECTED = (
    "expected an RNN of one layer and direction without resets and options but activation and "
    "lengths"
)
ERRORS = [
    (
        lambda: omega(tape_of(bptt.RNN(1, 2, activation="softplus"))),
        ValueError,
        "omega: tape is that of activation 'softplus', expected one of ('tanh', 'sigmoid', ",
    ),
    (lambda: omega(None), TypeError, "omega: tape is None, expected that of a layer's forward"),
    (
        lambda: omega(tape_of(bptt.LSTM(1, 2))),
        ValueError,
        f"omega: tape is that of LSTM(1, 2), {EXPECTED}",
    ),
    (lambda: omega(tape_of(bptt.RNN(1, 2, 2))), ValueError, EXPECTED),
    (lambda: omega(tape_of(bptt.RNN(1, 2, leak=0.5))), ValueError, EXPECTED),
    (lambda: omega(tape_of(bptt.RNN(2, 2, residual=True))), ValueError, EXPECTED),
    (lambda: omega(tape_of(bptt.RNN(1, 2, bidirectional=True))), ValueError, EXPECTED),
    (
        lambda: omega(tape_of(bptt.RNN(1, 2)), np.ones((2, 1, 3))),
        ValueError,
        "RNN: dy has shape (2, 1, 3), expected",
    ),
    (
        lambda: flossing(tape_of(bptt.SLSTM(1, 2)), 1),
        ValueError,
        "flossing: tape is that of SLSTM(1, 2), expected an RNN, LSTM, GRU or MGU of one layer",
    ),
    (
        lambda: flossing(tape_of(bptt.RNN(1, 2)), 3),
        ValueError,
        "flossing: n is 3, expected 1..2",
    ),
    (
        lambda: flossing(dead(), 2),
        FloatingPointError,
        "flossing: ds_t/ds_(t-1) at step 0 keeps less than n = 2 directions, expected fewer exp",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[row[-1][:40] for row in ERRORS])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
