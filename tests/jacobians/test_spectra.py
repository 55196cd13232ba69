# SPDX-License-Identifier: MIT
"""Norms, singular values, Lyapunov exponents and horizons, against closed forms and bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from support.problems import Case, forward, problem

Z = np.zeros


def linear(w_hh: Any, T: int, **options: Any) -> Any:
    H = len(w_hh)
    w_ih, x = np.ones((H, 1)), np.ones((T, 1, 1))
    return bptt.rnn_forward(x, w_ih, w_hh, activation="identity", **options)[2]


def normal_matrix(sizes: Any) -> Any:
    """Symmetric, with the given eigenvalues."""
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((len(sizes),) * 2))[0]
    return q * sizes @ q.T


# --- norms and singular values


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("reverse", [False, True])
def test_norms_and_singular_values_are_those_of_the_jacobians(cell: str, reverse: bool) -> None:
    c = problem(Case("", cell, {"lengths": True, "reverse": reverse}), (6, 4, 3, 5))
    tape, lengths = forward(bptt, c)[2], c.options["lengths"]
    for of in ("h", "state"):
        for t in (5, 3, 0):
            norms = bptt.jacobian_norms(tape, t, of=of)
            assert norms.shape == (6, 4)
            for k in range(6):
                if k < t if reverse else k > t:
                    assert not norms[k].any()
                    continue
                want = np.linalg.svd(bptt.jacobian(tape, t, k, of=of), compute_uv=False)
                got = bptt.singular_values(tape, t, k, of=of)
                np.testing.assert_allclose(norms[k], want[:, 0], rtol=1e-12)
                np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-14)
    last = bptt.jacobian_norms(tape)
    for b, length in enumerate(lengths):
        end = 0 if reverse else length - 1
        want = bptt.jacobian_norms(tape, end)[:, b] if length else Z(6)
        np.testing.assert_array_equal(last[:, b], want)
        assert (last[:, b] > 0).sum() == length


def test_products_beyond_the_range_of_float64() -> None:
    sizes = np.array([1.5, 0.9, 0.3, 1e-3])
    tape = linear(normal_matrix(sizes), 2001)
    logs = bptt.singular_values(tape, 2000, 0, log=True)[0]
    np.testing.assert_allclose(logs, 2000 * np.log(sizes), rtol=1e-12)
    assert bptt.singular_values(tape, 2000, 0)[0, 0] == np.inf
    assert bptt.singular_values(tape, 2000, 0)[0, 3] == 0
    norms = bptt.jacobian_norms(tape, log=True)[::-1, 0]
    np.testing.assert_allclose(norms, np.arange(2001) * np.log(1.5), rtol=1e-12)
    fading = bptt.jacobian_norms(linear(normal_matrix(sizes / 1.5 * 0.4), 2001), log=True)
    np.testing.assert_allclose(fading[::-1, 0], np.arange(2001) * np.log(0.4), rtol=1e-11)


def test_close_and_distant_singular_values_of_random_products() -> None:
    """Against the same product in 700 bits or so, by way of exact integers."""
    rng = np.random.default_rng(0)
    factors = [rng.integers(-9, 10, (5, 5)) for _ in range(60)]
    exact = np.eye(5, dtype=object).astype(int).astype(object)
    size = 0.0
    q, product = np.eye(5)[None], bptt.jacobians.products.Graded(5, 1)
    for f in factors:
        exact = f.astype(object) @ exact
        q, r = np.linalg.qr(f @ q)
        product.multiply(r, np.arange(1))
        size += float(np.log(abs(np.linalg.det(f))))
    logs = product.log_singular_values()[0]
    largest = np.linalg.norm((exact / 10**50).astype(float), 2)
    np.testing.assert_allclose(logs[0], np.log(largest) + 50 * np.log(10), rtol=1e-13)
    np.testing.assert_allclose(logs.sum(), size, rtol=1e-13)
    # The two largest together: the norm of the compound matrix of 2 x 2 minors, also integers.
    pairs = [(i, j) for i in range(5) for j in range(i)]
    minors = np.array(
        [
            [exact[i, k] * exact[j, m] - exact[i, m] * exact[j, k] for k, m in pairs]
            for i, j in pairs
        ]
    )
    both = np.linalg.norm((minors / 10**100).astype(float), 2)
    np.testing.assert_allclose(logs[:2].sum(), np.log(both) + 100 * np.log(10), rtol=1e-12)


def test_singular_values_of_a_singular_product() -> None:
    tape = linear(np.array([[1.0, 1.0], [1.0, 1.0]]), 4)
    values = bptt.singular_values(tape, 3, 0)[0]
    np.testing.assert_allclose(values, [8, 0], rtol=1e-15, atol=1e-15)
    assert not bptt.singular_values(linear(Z((3, 3)), 4), 3, 0).any()


def test_nan_is_not_hidden() -> None:
    x = np.ones((6, 2, 1))
    x[3, 0] = np.nan
    _, _, tape = bptt.rnn_forward(x, np.ones((3, 1)), np.eye(3))
    norms = bptt.jacobian_norms(tape)
    np.testing.assert_array_equal(np.isnan(norms), [[True, False]] * 5 + [[False, False]])
    assert np.isnan(bptt.singular_values(tape, 5, 0)[0]).all()
    assert np.isfinite(bptt.singular_values(tape, 5, 0)[1]).all()
    assert np.isnan(bptt.lyapunov_spectrum(tape)[0]).all()
    assert np.isfinite(bptt.lyapunov_spectrum(tape)[1]).all()


# --- Lyapunov exponents


def test_a_linear_network_has_the_logarithms_of_its_eigenvalues() -> None:
    rng = np.random.default_rng(3)
    v = rng.standard_normal((6, 6))
    sizes = np.array([1.3, 1.0, -0.7, 0.5, -0.3, 0.2])
    w_hh = v * sizes @ np.linalg.inv(v)  # not normal: sigma_max is another
    assert np.linalg.norm(w_hh, 2) > 2
    got = bptt.lyapunov_spectrum(linear(w_hh, 500), warmup=200)[0]
    # rounding of w_hh itself moves its eigenvalues by some 1e-12
    np.testing.assert_allclose(got, np.log(np.abs(sizes)), rtol=0, atol=1e-11)
    np.testing.assert_allclose(
        bptt.lyapunov_spectrum(linear(w_hh, 500), 2, warmup=200)[0], got[:2], rtol=0, atol=1e-12
    )
    # a rotation: a pair of complex eigenvalues of the same size
    turn = 0.8 * np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    np.testing.assert_allclose(bptt.lyapunov_spectrum(linear(turn, 50)), np.log([[0.8, 0.8]]))


def test_the_tent_map() -> None:
    """x' = 1.9 min(x, 1 - x) is a ReLU network of two units; its exponent is log 1.9."""
    w_hh = np.array([[1.9, -3.8], [1.9, -3.8]])
    y, _, tape = bptt.rnn_forward(
        Z((1000, 1, 1)), Z((2, 1)), w_hh, [0, -0.5], None, [[0.3123, 0.0]], activation="relu"
    )
    x = y[:, 0, 0]
    np.testing.assert_allclose(x[1:], 1.9 * np.minimum(x, 1 - x)[:-1], atol=1e-15)
    assert np.ptp(x) > 0.8
    exponents = bptt.lyapunov_spectrum(tape, warmup=10)[0]
    np.testing.assert_allclose(exponents[0], np.log(1.9), rtol=1e-13)
    assert exponents[1] < -30


def test_the_lozi_map() -> None:
    """x' = 1 - 1.7 |x| + y, y' = 0.5 x: 0.47023 and -1.16338 (Sprott, 2003), their sum log 0.5.

    Units are relu(x), relu(-x), relu(y), relu(-y).
    """
    x, y = np.array([-1.7, -1.7, 1, -1]), np.array([0.5, -0.5, 0, 0])
    w_hh, bias, off = np.stack([x, -x, y, -y]), np.array([1.0, -1, 0, 0]), Z((4, 1))
    state = np.abs(np.random.default_rng(0).normal(size=(100, 4))) / 20
    _, state, _ = bptt.rnn_forward(
        Z((500, 100, 1)), off, w_hh, bias, None, state, activation="relu"
    )
    _, _, tape = bptt.rnn_forward(
        Z((1100, 100, 1)), off, w_hh, bias, None, state, activation="relu"
    )
    got = bptt.lyapunov_spectrum(tape, 2, warmup=100)
    error = got[:, 0].std() / 10
    assert error < 0.002
    np.testing.assert_allclose(got.mean(0), [0.47023, -1.16338], rtol=0, atol=4 * error)
    np.testing.assert_allclose(got.sum(1), np.log(0.5), rtol=1e-10)


def gaussian_network(N: int, g: float, seed: int, T: int, **options: Any) -> tuple[Any, Any, Any]:
    """Random weights of variance g^2 / N, no input, settled: w_hh, the state before, the tape."""
    rng = np.random.default_rng(seed)
    w_hh, h = g * N**-0.5 * rng.standard_normal((N, N)), rng.standard_normal((1, N))
    off = Z((N, 1))
    _, h, _ = bptt.rnn_forward(Z((500, 1, 1)), off, w_hh, state=h, keep_tape=False, **options)
    _, _, tape = bptt.rnn_forward(Z((T, 1, 1)), off, w_hh, state=h, **options)
    return w_hh, h, tape


def mean_field(g: float) -> float:
    """N -> infinity: log(g^2 <phi'^2>) / 2, where a unit's input is Gaussian of variance q =
    g^2 <phi^2> (Molgedey, Schuchhardt & Schuster, 1992, Phys. Rev. Lett. 69)."""
    z = np.linspace(-9, 9, 20001)
    weight = np.exp(-z * z / 2)
    weight /= weight.sum()
    q = 1.0
    for _ in range(2000):
        q = g * g * float(weight @ np.tanh(np.sqrt(q) * z) ** 2)
    return 0.5 * np.log(g * g * float(weight @ np.cosh(np.sqrt(q) * z) ** -4.0))


@pytest.mark.parametrize("g", [3.0, 10.0])
def test_chaos_of_random_networks_is_that_of_mean_field_theory(g: float) -> None:
    """Up to a term of order 1/N, which cancels between two sizes."""
    small, large = (
        np.mean([
            bptt.lyapunov_spectrum(gaussian_network(N, g, seed, 300)[2], 1, warmup=50)[0, 0]
            for seed in range(4)
        ])
        for N in (100, 200)
    )  # fmt: skip
    want = mean_field(g)
    assert small < large < want
    np.testing.assert_allclose(2 * large - small, want, rtol=0, atol=0.03)


@pytest.mark.parametrize("g", [0.3, 0.7])
def test_below_one_the_fixed_point_at_zero_is_stable(g: float) -> None:
    """Sompolinsky, Crisanti & Sommers (1988): chaos begins at g = 1; before it, h = 0."""
    w_hh, _, tape = gaussian_network(60, g, 0, 3000)
    want = np.sort(np.log(np.abs(np.linalg.eigvals(w_hh))))[::-1]
    got = bptt.lyapunov_spectrum(tape, 4, warmup=300)[0]
    assert got[0] < 0
    np.testing.assert_allclose(got, want[:4], rtol=0, atol=2e-3)


def test_the_exponents_add_up_to_the_mean_of_log_det() -> None:
    w_hh, _, tape = gaussian_network(30, 3.0, 0, 200)
    slopes = np.log(1 - tape.h[:, 0] ** 2).sum(1).mean()
    want = slopes + np.linalg.slogdet(w_hh)[1]
    np.testing.assert_allclose(bptt.lyapunov_spectrum(tape).sum(), want, rtol=1e-10)


def test_two_trajectories_part_at_the_rate_of_the_first_exponent() -> None:
    w_hh, h, tape = gaussian_network(100, 3.0, 1, 2000)
    distance, total = 1e-8, 0.0
    there = h + distance * np.random.default_rng(5).standard_normal(h.shape) / 10
    for t, here in enumerate(tape.h):
        there = np.tanh(there @ w_hh.T)
        grown = np.linalg.norm(there - here)
        total += np.log(grown / distance) if t >= 100 else 0
        there = here + (there - here) * (distance / grown)
    rate = bptt.lyapunov_spectrum(tape, 1, warmup=100)[0, 0]
    assert rate > 0.2
    np.testing.assert_allclose(total / 1900, rate, rtol=0, atol=0.01)


def test_spectra_with_lengths_and_reverse() -> None:
    """Of each sequence as if it were alone."""
    rng = np.random.default_rng(0)
    x, lengths = rng.standard_normal((40, 3, 2)), [40, 25, 33]
    for cell, gates in (("rnn", 1), ("lstm", 4), ("gru", 3)):
        w = [rng.standard_normal((gates * 5, n)) * 0.6 for n in (2, 5)]
        run = getattr(bptt, f"{cell}_forward")
        for reverse in (False, True):
            tape = run(x, *w, lengths=lengths, reverse=reverse)[2]
            together = bptt.lyapunov_spectrum(tape, warmup=5)
            for b, length in enumerate(lengths):
                alone = run(x[:length, b : b + 1], *w, reverse=reverse)[2]
                want = bptt.lyapunov_spectrum(alone, warmup=5)[0]
                np.testing.assert_allclose(together[b], want, rtol=1e-9)


# --- of the matrix alone


@pytest.mark.parametrize("activation", ["tanh", "relu", "leaky_relu", "sigmoid", "identity"])
def test_no_norm_exceeds_the_bound(activation: str) -> None:
    c = problem(Case("", "rnn", {}), (30, 8, 3, 6), scale=0.8)
    tape = forward(bptt, c, activation=activation)[2]
    w_hh = c.arrays["w_hh"]
    bound = bptt.decay_bound(w_hh, activation, np.arange(30)[::-1])
    assert (bptt.jacobian_norms(tape) <= bound[:, None] * (1 + 1e-12)).all()
    slope = 0.25 if activation == "sigmoid" else 1
    np.testing.assert_allclose(bound[0], (slope * np.linalg.norm(w_hh, 2)) ** 29)


def test_the_bound_is_reached_by_a_normal_matrix() -> None:
    w_hh = normal_matrix(np.array([0.9, -0.5, 0.1]))
    norms = bptt.jacobian_norms(linear(w_hh, 51))[:, 0]
    np.testing.assert_allclose(norms, bptt.decay_bound(w_hh, "identity", np.arange(51)[::-1]))
    assert bptt.spectral_radius(w_hh) == pytest.approx(0.9, rel=1e-14)
    assert bptt.decay_bound(2 * np.eye(2), k=2000) == np.inf
    jordan = np.array([[0.5, 100.0], [0.0, 0.5]])
    assert bptt.spectral_radius(jordan) == 0.5
    assert bptt.decay_bound(jordan)[()] > 100


# --- horizons


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.99])
def test_horizon_of_an_exponential(rate: float) -> None:
    norms = 3 * rate ** np.arange(600.0)[::-1]
    want = 1 + np.log(0.01) / np.log(rate)
    assert bptt.memory_horizon(norms) == pytest.approx(want, rel=1e-12)
    assert bptt.memory_horizon(norms[::-1], reverse=True) == pytest.approx(want, rel=1e-12)
    assert bptt.memory_horizon([*norms, 0, 0, 0]) == pytest.approx(want, rel=1e-12)  # padding
    assert bptt.memory_horizon(norms[-int(want) :]) == np.inf  # it does not get there


@pytest.mark.parametrize(
    ("by_lag", "want"),
    [
        ([1, 1, 0.5, 0, 0], 2),  # gone between lags 2 and 3
        ([1, 0, 0], 0),
        ([1, 2, 0.02], 2),  # on a step
        ([1, 1, 0.1, 0.001, 5], 2.5),  # the first time
        ([1, 2, 4, 8, np.inf], np.inf),
        ([1, 2, np.inf, 0.001], np.nan),
        ([1, 2, np.nan, 0.001], np.nan),
        ([1, 1, 0.001, np.nan], 1 + np.log(0.01) / np.log(0.001)),
        ([1, np.inf, 1], np.nan),
        ([0, 0, 1], np.nan),
        ([0, 0, 0], np.nan),
        ([1], np.nan),
        ([], np.nan),
        ([5, 1e-310, 1e-313], 1 + np.log(1e-310 / (0.01 * 1e-310)) / np.log(1e3)),
    ],
)
def test_horizon_of_what_is_no_exponential(by_lag: list[float], want: float) -> None:
    found = bptt.memory_horizon(by_lag[::-1])
    assert found == pytest.approx(want, rel=1e-6, nan_ok=True)
    assert isinstance(found, float)


def test_horizons_of_many() -> None:
    by_lag = np.array([[1.0, 1.0], [1.0, 1.0], [0.1, 1.0], [0.001, 1.0]])
    np.testing.assert_array_equal(bptt.memory_horizon(by_lag[::-1]).round(9), [2.5, np.inf])
    x = np.random.default_rng(0).standard_normal((200, 3, 2))
    lstm = bptt.LSTM(2, 8, dtype="float64", seed=0)
    _, _, tape = lstm.forward(x, lengths=[200, 150, 1])
    norms = bptt.jacobian_norms(tape.cells[0])
    horizons = bptt.memory_horizon(norms)
    assert horizons.shape == (3,)
    assert (horizons[:2] > 3).all()
    assert np.isfinite(horizons[:2]).all()
    assert np.isnan(horizons[2])
    for b, length in ((0, 200), (1, 150)):
        after = int(np.ceil(horizons[b]))
        base = norms[length - 2, b]
        assert norms[length - 1 - after, b] <= 0.01 * base < norms[length - after, b]
