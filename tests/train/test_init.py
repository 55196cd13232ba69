# SPDX-License-Identifier: MIT
from __future__ import annotations

import copy
import itertools
import re

import numpy as np
import pytest

from bptt import init
from bptt.layers import GRU, LSTM, RNN
from bptt.layers.linear import Linear
from bptt.optim import join


@pytest.mark.parametrize("gates", [1, 4])
def test_xavier_has_the_variance_of_glorot_and_bengio(gates):
    rows, columns = 60, 40
    w = np.zeros((gates * rows, columns))
    init.xavier_uniform(w, 0, gain=2.0, gates=gates)
    bound = 2 * np.sqrt(6 / (rows + columns))
    assert 0.98 * bound < np.abs(w).max() <= bound
    assert w.var() == pytest.approx(bound**2 / 3, rel=0.05)
    assert abs(w.mean()) < 0.02
    init.xavier_normal(w, 0, gain=2.0, gates=gates)
    assert w.var() == pytest.approx(4 * 2 / (rows + columns), rel=0.05)
    assert np.abs(w).max() > bound  # not the uniform one


def test_normal():
    w = np.zeros((50, 40, 3), np.float32)
    init.normal(w, 0, std=0.1, mean=2.0)
    assert w.mean() == pytest.approx(2, abs=0.005)
    assert w.std() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(("rows", "columns", "gates"), [(5, 5, 1), (5, 5, 4), (3, 7, 2), (7, 3, 3)])
def test_orthogonal_in_each_gate(rows, columns, gates):
    w = np.zeros((gates * rows, columns))
    init.orthogonal(w, 0, gain=3.0, gates=gates)
    blocks = np.split(w, gates)
    for block in blocks:
        gram = block @ block.T if rows < columns else block.T @ block
        np.testing.assert_allclose(gram, 9 * np.eye(min(rows, columns)), atol=1e-12)
    assert all(not np.allclose(a, b) for a, b in itertools.pairwise(blocks))


def test_orthogonal_is_uniform():
    # The raw Q of a QR decomposition has signs fixed by the algorithm: its trace is biased.
    rng, traces = np.random.default_rng(0), []
    for _ in range(2000):
        w = np.zeros((3, 3))
        init.orthogonal(w, rng)
        traces.append(np.trace(w))
    assert abs(np.mean(traces)) < 0.1
    assert np.mean(np.square(traces)) == pytest.approx(1, abs=0.15)  # E tr^2 = 1 on O(n)


@pytest.mark.parametrize("gates", [1, 3])
@pytest.mark.parametrize("radius", [0.95, 1.0, 2.5])
def test_spectral_scales_each_gate_to_its_radius(radius, gates):
    w = np.random.default_rng(0).standard_normal((gates * 7, 7))
    before = w.copy()
    assert init.spectral(w, radius, gates=gates) is None
    for a, b in zip(np.split(before, gates), np.split(w, gates)):
        assert np.abs(np.linalg.eigvals(b)).max() == pytest.approx(radius, rel=1e-12)
        np.testing.assert_allclose(b / b[0, 0], a / a[0, 0], rtol=1e-12)  # nothing but a factor
    twice = w.copy()
    init.spectral(twice, radius, gates=gates)
    np.testing.assert_allclose(twice, w, rtol=1e-12)


@pytest.mark.parametrize("gates", [1, 3])
def test_nearest_orthogonal(gates):
    rng = np.random.default_rng(0)
    w = rng.standard_normal((gates * 6, 6))
    before = w.copy()
    init.nearest_orthogonal(w, 2.0, gates=gates)
    for a, b in zip(np.split(before, gates), np.split(w, gates)):
        np.testing.assert_allclose(b @ b.T, 4 * np.eye(6), atol=1e-12)
        # a = P q with P symmetric and positive: what makes q the polar factor of a
        p = a @ b.T / 2
        np.testing.assert_allclose(p, p.T, atol=1e-12)
        assert np.linalg.eigvalsh(p).min() > 0
        other = np.zeros((6, 6))
        for _ in range(20):
            init.orthogonal(other, rng)
            assert np.linalg.norm(a - b / 2) < np.linalg.norm(a - other)


def test_identity_in_each_gate():
    w = np.full((6, 3), 7.0, np.float32)
    init.identity(w, 0.5, gates=2)
    np.testing.assert_array_equal(w, 0.5 * np.concatenate([np.eye(3), np.eye(3)]))


@pytest.mark.parametrize("name", ["normal", "xavier_uniform", "xavier_normal", "orthogonal"])
def test_seeds(name):
    fill = getattr(init, name)
    a, b, c, d = (np.zeros((4, 4), np.float32) for _ in range(4))
    rng = np.random.default_rng(1)
    for array, seed in ((a, 1), (b, rng), (c, rng), (d, None)):
        assert fill(array, seed) is None
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert not np.array_equal(a, d)


@pytest.mark.parametrize(
    ("name", "defaults"),
    [
        ("normal", {"std": 1.0, "mean": 0.0}),
        ("xavier_uniform", {"gain": 1.0, "gates": 1}),
        ("xavier_normal", {"gain": 1.0, "gates": 1}),
        ("orthogonal", {"gain": 1.0, "gates": 1}),
        ("identity", {"scale": 1.0, "gates": 1}),
    ],
)
def test_defaults(name, defaults):
    a, b = np.zeros((4, 6)), np.zeros((4, 6))
    seed = {} if name == "identity" else {"rng": 0}
    getattr(init, name)(a, **seed)
    getattr(init, name)(b, **seed, **defaults)
    np.testing.assert_array_equal(a, b)


def cells(layer):
    for name, w in layer.parameters.items():
        if name.startswith("bias_ih"):
            hh = layer.parameters[name.replace("_ih_", "_hh_")]
            yield (x.reshape(-1, layer.hidden_size) for x in (w, hh))


def others_unchanged(layer, before, gates):
    """Nothing but the rows of `gates` in the biases may differ."""
    for name, array in layer.parameters.items():
        a, b = array, before[name]
        if name.startswith("bias"):
            rows = [k for k in range(len(a) // layer.hidden_size) if k not in gates]
            a, b = (v.reshape(-1, layer.hidden_size)[rows] for v in (a, b))
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("as_params", [False, True])
def test_forget_bias(as_params):
    layer = LSTM(3, 5, 2, bidirectional=True, seed=0)
    before = copy.deepcopy(layer.parameters)
    head = Linear(5, 2, seed=0)
    init.forget_bias(join(lstm=layer.parameters, head=head.parameters) if as_params else layer, 2.5)
    for b_ih, b_hh in cells(layer):
        assert np.all(b_ih[1] + b_hh[1] == 2.5)
    assert len(list(cells(layer))) == 4
    others_unchanged(layer, before, {1})
    np.testing.assert_array_equal(head.parameters["bias"], Linear(5, 2, seed=0).parameters["bias"])


def test_forget_bias_opens_the_gate_that_the_layer_uses():
    layer = LSTM(1, 1, dtype="float64", seed=0)
    for array in layer.parameters.values():
        array[...] = 0
    init.forget_bias(layer)  # 1
    _, (_, c) = layer(np.zeros((1, 1, 1)), (np.zeros((1, 1, 1)), np.ones((1, 1, 1))))
    assert c.item() == pytest.approx(1 / (1 + np.exp(-1)))


@pytest.mark.parametrize(("cls", "gates"), [(LSTM, {0, 1}), (GRU, {1})])
def test_chrono(cls, gates):
    layer = cls(2, 1000, seed=0)
    init.normal(layer.parameters["weight_hh_l0"], 0)
    before = copy.deepcopy(layer.parameters)
    init.chrono(layer, 50, 1)
    ((b_ih, b_hh),) = cells(layer)
    times = np.exp((b_ih + b_hh)[1].astype("float64"))
    assert 1 <= times.min() < 1.2
    assert 48.8 < times.max() <= 49.001
    assert times.mean() == pytest.approx(25, rel=0.05)  # uniform between 1 and t_max - 1
    assert times.std() == pytest.approx(48 / np.sqrt(12), rel=0.05)
    if cls is LSTM:
        np.testing.assert_array_equal((b_ih + b_hh)[0], -(b_ih + b_hh)[1])
    others_unchanged(layer, before, gates)


@pytest.mark.parametrize("cls", [LSTM, GRU])
def test_chrono_keeps_the_state_for_about_the_drawn_time(cls):
    layer = cls(1, 300, dtype="float64", seed=0)
    for name, array in layer.parameters.items():
        if name.startswith("weight"):
            array[...] = 0
    init.chrono(layer, 100, 0)
    ((b_ih, b_hh),) = cells(layer)
    times = np.exp((b_ih + b_hh)[1])
    ones = np.ones((1, 1, 300))
    _, state = layer(np.zeros((1, 1, 1)), (ones, ones) if cls is LSTM else ones)
    _, base = layer(np.zeros((1, 1, 1)))
    kept = state[1] - base[1] if cls is LSTM else state - base
    np.testing.assert_allclose(kept[0, 0], 1 - 1 / (1 + times), rtol=1e-12)


def test_irnn_adds_up_its_inputs():
    layer = RNN(2, 3, 2, activation="relu", dtype="float64", seed=0)
    init.irnn(layer)
    w = layer.parameters["weight_ih_l0"]
    w[...] = np.abs(w)
    x = np.random.default_rng(0).random((6, 1, 2))
    _, state = layer(x)
    np.testing.assert_allclose(state[0, 0], x.sum(axis=(0, 1)) @ w.T)
    for name in ("bias_ih_l0", "bias_hh_l0", "bias_ih_l1", "bias_hh_l1"):
        assert np.all(layer.parameters[name] == 0)
    bare = RNN(2, 3, bias=False, activation="relu", seed=0)
    init.irnn(bare)
    np.testing.assert_array_equal(bare.parameters["weight_hh_l0"], np.eye(3))


ERRORS = [
    (lambda: init.xavier_uniform([[1.0]]), TypeError, "xavier_uniform: w has type list, expected"),
    (
        lambda: init.xavier_normal(np.zeros(3)),
        ValueError,
        "xavier_normal: w has shape (3,), expect",
    ),
    (
        lambda: init.orthogonal(np.zeros((6, 3)), gates=4),
        ValueError,
        "orthogonal: w has shape (6, 3), expected (gates * rows, columns) with gates = 4",
    ),
    (lambda: init.forget_bias(GRU(2, 3)), ValueError, "forget_bias: layer has 3 gates per unit"),
    (
        lambda: init.forget_bias(LSTM(2, 3, bias=False)),
        ValueError,
        "forget_bias: layer has no bias",
    ),
    (lambda: init.forget_bias(Linear(2, 3)), ValueError, "forget_bias: layer has the names ['wei"),
    (
        lambda: init.chrono(RNN(2, 3), 10),
        ValueError,
        "chrono: layer has 1 gates per unit, expected",
    ),
    (lambda: init.chrono(LSTM(2, 3), 1.5), ValueError, "chrono: t_max is 1.5, expected 2 or more"),
    (
        lambda: init.spectral(np.ones((4, 2))),
        ValueError,
        "spectral: w has shape (4, 2), expected (gates * n, n)",
    ),
    (lambda: init.spectral(np.eye(2), 0), ValueError, "spectral: radius is 0, expected more than"),
    (
        lambda: init.spectral(np.triu(np.ones((3, 3)), 1)),
        ValueError,
        "spectral: w has only the eigenvalue 0, expected a nonzero one to scale",
    ),
    (
        lambda: init.nearest_orthogonal(np.ones((3, 2))),
        ValueError,
        "nearest_orthogonal: w has shape (3, 2), expected (gates * n, n)",
    ),
    (lambda: init.irnn(LSTM(2, 3)), ValueError, "irnn: layer has 4 gates per unit, expected 1"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[row[-1][:40] for row in ERRORS])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
