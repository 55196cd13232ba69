# SPDX-License-Identifier: MIT
"""Axes of `jax.vmap`: more sequences of one call, or one call for each index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import bptt.jax  # noqa: E402
from bptt.jax import callbacks  # noqa: E402

T, B, I, H = 6, 2, 3, 4


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch of each call of the core, but for checks of shapes."""
    seen: list[int] = []
    run = callbacks.forward

    def counted(cell: str, inputs: Any, *rest: Any) -> Any:
        if inputs[0].strides[0]:
            seen.append(inputs[0].shape[1])
        return run(cell, inputs, *rest)

    monkeypatch.setattr(callbacks, "forward", counted)
    return seen


def normal(*shape: int) -> Any:
    return jnp.asarray(np.random.default_rng(shape).standard_normal(shape), jnp.float32) / 2


W = normal(4 * H, I), normal(4 * H, H), normal(4 * H), normal(4 * H)


def y_of(x: Any, *weights: Any, **given: Any) -> Any:
    return bptt.jax.lstm(x, *(weights or W), **given)[0]


def loss(x: Any, *weights: Any) -> Any:
    y, (h, c) = bptt.jax.lstm(x, *(weights or W))
    return (y**2).sum() + (h * c).sum()


def one_by_one(function: Any, xs: Any) -> Any:
    return jax.tree.map(lambda *parts: jnp.stack(parts), *[function(x) for x in xs])


def assert_same(got: Any, want: Any) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, 2e-5, 2e-5)


@pytest.mark.parametrize("jit", [lambda f: f, jax.jit])
def test_a_mapped_axis_is_more_sequences(calls: list[int], jit: Any) -> None:
    xs = normal(5, T, B, I)
    want = one_by_one(y_of, xs)
    calls.clear()
    assert np.array_equal(jit(jax.vmap(y_of))(xs), want)
    assert calls == [5 * B]


def test_one_sequence_each_along_any_axis(calls: list[int]) -> None:
    x = normal(T, 5, I)
    want = y_of(x)
    calls.clear()
    assert np.array_equal(jax.vmap(y_of, 1, 1)(x), want)
    assert calls == [5]


def test_mapped_axes_in_one_another(calls: list[int]) -> None:
    x, lengths = normal(2, 3, T, B, I), jnp.array([[6, 0], [3, 1], [5, 6]])
    resets = normal(2, T, B) > 0.2

    def function(x: Any, lengths: Any, resets: Any) -> Any:
        return y_of(x, lengths=lengths, resets=resets)

    inner = jax.vmap(function, (0, 0, None))
    want = jnp.stack(
        [jnp.stack([function(x[i, j], lengths[j], resets[i]) for j in range(3)]) for i in range(2)]
    )
    calls.clear()
    assert np.array_equal(jax.vmap(inner, (0, None, 0))(x, lengths, resets), want)
    assert calls == [6 * B]


def test_mapped_states_masks_and_zoneout() -> None:
    x, h, c = normal(T, B, I), normal(3, B, H), normal(3, B, H)
    masks, zones = jnp.abs(normal(3, B, H)), jax.nn.sigmoid(normal(3, T, B, H))

    def function(state: Any, mask: Any, zone: Any) -> Any:
        return bptt.jax.lstm(x, *W, state, h_mask=mask, zoneout=(zone, None), dilation=1)

    got = jax.vmap(function)((h, c), masks, zones)
    want = [function((h[k], c[k]), masks[k], zones[k]) for k in range(3)]
    assert_same(got, jax.tree.map(lambda *parts: jnp.stack(parts), *want))


def test_dilated_states() -> None:
    x, states = normal(3, T, B, I), tuple(normal(3, 2, B, H) for _ in range(2))

    def function(x: Any, state: Any) -> Any:
        return bptt.jax.lstm(x, *W, state, dilation=2)

    got = jax.vmap(function)(x, states)
    want = [function(x[k], tuple(s[k] for s in states)) for k in range(3)]
    assert_same(got, jax.tree.map(lambda *parts: jnp.stack(parts), *want))


def test_mapped_weights_are_calls_of_their_own(calls: list[int]) -> None:
    x, w_hh = normal(T, B, I), normal(3, 4 * H, H)

    def function(w: Any) -> Any:
        return bptt.jax.lstm(x, W[0], w)

    want = one_by_one(function, w_hh)
    calls.clear()
    assert_same(jax.jit(jax.vmap(function))(w_hh), want)
    assert calls == [B] * 3


@pytest.mark.parametrize("jit", [lambda f: f, jax.jit])
def test_gradients_of_each(calls: list[int], jit: Any) -> None:
    xs = normal(3, T, B, I)
    grad = jax.grad(loss, tuple(range(5)))
    want = one_by_one(lambda x: grad(x, *W), xs)
    got = jit(jax.vmap(grad, (0, None, None, None, None)))(xs, *W)
    assert_same(got, want)
    calls.clear()
    assert_same(jit(jax.vmap(jax.grad(loss)))(xs), want[0])
    assert set(calls) == {3 * B}  # of x alone: all in one call, forward and backward


@pytest.mark.parametrize("jit", [lambda f: f, jax.jit])
def test_the_gradient_of_a_mapped_function(jit: Any) -> None:
    xs = normal(3, T, B, I)

    def total(xs: Any, *weights: Any) -> Any:
        return jax.vmap(loss, (0, None, None, None, None))(xs, *weights).sum()

    def plain(xs: Any, *weights: Any) -> Any:
        return sum(loss(x, *weights) for x in xs)

    got, want = (jit(jax.grad(f, tuple(range(5))))(xs, *W) for f in (total, plain))
    assert_same(got, want)


def test_a_jacobian_takes_one_forward_pass(calls: list[int]) -> None:
    x = normal(T, B, I)
    rows = jax.jacrev(lambda w: bptt.jax.lstm(x, W[0], w)[1][0][0])(W[1])
    assert rows.shape == (H, 4 * H, H)
    assert calls == [B, B]  # of the function, and again for its tape
    want = jax.grad(lambda w: bptt.jax.lstm(x, W[0], w)[1][0][0, 2])(W[1])
    assert_same(rows[2], want)


def test_no_index_at_all() -> None:
    grad = jax.vmap(jax.grad(loss, (0, 1)), (0, None, None))
    dx, dw = grad(jnp.zeros((0, T, B, I)), *W[:2])
    assert dx.shape == (0, T, B, I)
    assert dw.shape == (0, 4 * H, I)
    assert jax.vmap(y_of)(jnp.zeros((0, T, B, I))).shape == (0, T, B, H)
