# SPDX-License-Identifier: MIT
"""sigmoid and tanh of the kernels keep the bounds of their errors that math.inl states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import bptt

H = 32
LEAST = {"float32": 2e-7, "float64": 4e-16}
RELATIVE_OF_TANH = 4e-7  # in float32


def of_core(name: str, x: Any) -> Any:
    """The activation of each number of x, by an RNN whose sums are its inputs."""
    rows = x.reshape(1, -1, H)
    one, zero = np.eye(H, dtype=x.dtype), np.zeros((H, H), x.dtype)
    return bptt.rnn_forward(rows, one, zero, activation=name, keep_tape=False)[0].reshape(-1)


def exact(name: str, x: Any) -> Any:
    wide = x.astype(np.longdouble if x.dtype == np.float64 else np.float64)
    with np.errstate(all="ignore"):
        return np.tanh(wide) if name == "tanh" else 1 / (1 + np.exp(-wide))


def check(name: str, x: Any) -> None:
    got, want = of_core(name, x), exact(name, x)
    error = np.abs(got - want)
    assert error.max() < LEAST[str(x.dtype)], x[np.argmax(error)]
    assert np.abs(got).max() <= 1
    if name == "tanh" and x.dtype == np.float32:
        normal = np.abs(x) >= np.finfo(np.float32).tiny
        relative = error[normal] / np.abs(want[normal])
        assert relative.max(initial=0) < RELATIVE_OF_TANH, x[normal][np.argmax(relative)]


def floats(step: int, first: int = 0, end: int = 1 << 32, size: int = 1 << 20) -> Iterator[Any]:
    """Every step-th finite float, `size` at a time; first and end: their bits."""
    for start in range(first, end, size * step):
        bits = np.arange(start, min(start + size * step, end), step, dtype=np.uint32)
        x = bits.view(np.float32)
        x = x[np.isfinite(x)]
        if len(x):
            yield np.resize(x, -(-len(x) // H) * H)


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_errors_of_some_floats(isa: str, name: str) -> None:
    for x in floats(step=1021):
        check(name, x)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_errors_of_every_float_between(isa: str, name: str) -> None:
    """From 2^-10 to 32, of both signs: nearer 0 the functions are lines, beyond constants."""
    for sign in (0, 1 << 31):
        for x in floats(1, sign + 0x3A800000, sign + 0x42000000):
            check(name, x)


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_errors_of_doubles(isa: str, name: str) -> None:
    if np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("long double is no wider than double")
    rng = np.random.default_rng(0)
    for scale in (1e-8, 0.1, 1.0, 10.0, 100.0):
        check(name, scale * rng.standard_normal(1 << 16))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "low"), [("sigmoid", 0.0), ("tanh", -1.0)])
def test_infinities_zeros_and_nan(isa: str, name: str, low: float, dtype: str) -> None:
    special = [-np.inf, -np.finfo(dtype).max, -0.0, 0.0, np.finfo(dtype).max, np.inf, np.nan]
    b = np.resize(np.array(special, dtype), 7 * H)
    zero = np.zeros((7 * H, 1), dtype)
    x = np.zeros((1, 1, 1), dtype)
    got = bptt.rnn_forward(x, zero, np.zeros((7 * H, 7 * H), dtype), b, activation=name)[0]
    half = (1 + low) / 2
    want = np.resize([low, low, half, half, 1, 1, np.nan], 7 * H)
    np.testing.assert_allclose(
        got.ravel(), want, rtol=0, atol=6e-8 if dtype == "float32" else 1e-300
    )
