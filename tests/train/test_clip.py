# SPDX-License-Identifier: MIT
from __future__ import annotations

import copy
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bptt.clip import AutoClip, clip_grad_norm, clip_grad_value


def example(dtype="float64"):
    rng = np.random.default_rng(0)
    return {
        "w": rng.standard_normal((4, 3)).astype(dtype),
        "b": rng.standard_normal(4).astype(dtype),
    }


def flat(grads):
    return np.concatenate([np.ravel(g) for g in grads.values()]).astype("float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_norm_is_torchs(max_norm, dtype):
    torch = pytest.importorskip("torch")
    grads = example(dtype)
    parameters = [
        torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in grads.values()
    ]
    for p, g in zip(parameters, grads.values()):
        p.grad = torch.tensor(g.astype("float64"))
    expected = torch.nn.utils.clip_grad_norm_(parameters, max_norm).item()
    arrays = dict(grads)
    assert clip_grad_norm(grads, max_norm) == pytest.approx(expected, rel=1e-12)
    for p, (name, g) in zip(parameters, grads.items()):
        assert g is arrays[name]
        assert g.dtype == dtype
        np.testing.assert_allclose(g, p.grad.numpy(), rtol=5e-6)  # torch divides by norm + 1e-6


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1e300, 1e300, allow_subnormal=False), min_size=1, max_size=6),
    st.floats(1e-6, 1e6),
)
def test_norm_keeps_the_direction_and_the_bound(values, max_norm):
    grads = {str(i): np.array([v]) for i, v in enumerate(values)}
    norm = clip_grad_norm(grads, max_norm)
    assert norm == pytest.approx(math.hypot(*values), rel=1e-12, abs=0)
    after = flat(grads)
    assert math.hypot(*after) <= max_norm * (1 + 1e-12) or math.hypot(*after) == norm
    if norm <= max_norm:
        np.testing.assert_array_equal(after, values)
    else:
        unit = np.array(values) / norm
        np.testing.assert_allclose(after, max_norm * unit, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("float32", 1e30), ("float32", 1e-40), ("float64", 1e300), ("float64", 1e-300)],
)
def test_norm_neither_overflows_nor_vanishes(dtype, value):
    grads = {"a": np.full((2, 2), value, dtype), "b": np.full(12, value, dtype)}
    exact = float(grads["a"][0, 0]) * 4
    assert clip_grad_norm(grads, np.inf) == pytest.approx(exact, rel=1e-14)
    bound = exact / 1e6 if value > 1 else exact
    clip_grad_norm(grads, bound)
    np.testing.assert_allclose(flat(grads), bound / 4, rtol=1e-6)


def test_norm_beyond_the_range_still_clips():
    grads = {"a": np.full(9, 1e308)}
    assert clip_grad_norm(grads, 3.0) == np.inf  # the norm, 3e308, is no float64
    np.testing.assert_allclose(grads["a"], 1.0)


def test_mixed_precisions_of_any_size():
    grads = {"a": np.array([1e300]), "b": np.array([1e30], np.float32)}
    assert clip_grad_norm(grads, 1.0) == pytest.approx(1e300)
    assert grads["a"][0] == 1
    assert grads["b"][0] == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value(dtype):
    grads = example(dtype)
    before = flat(grads)
    assert clip_grad_value(grads, 0.3) == np.abs(before).max()
    assert grads["w"].dtype == dtype
    np.testing.assert_array_equal(flat(grads), np.clip(before, *np.array([-0.3, 0.3], dtype)))
    assert 0 < np.sum(flat(grads) == before) < before.size


def test_value_turns_the_direction_and_norm_does_not():
    a, b = {"g": np.array([3.0, 0.1])}, {"g": np.array([3.0, 0.1])}
    clip_grad_value(a, 1.0)
    clip_grad_norm(b, 1.0)
    np.testing.assert_array_equal(a["g"], [1.0, 0.1])
    assert b["g"][0] / b["g"][1] == pytest.approx(30)


@pytest.mark.parametrize("clip", [clip_grad_norm, clip_grad_value])
def test_small_gradients_stay_as_they_are(clip):
    grads = example()
    before = flat(grads)
    clip(grads, 1e3)
    np.testing.assert_array_equal(flat(grads), before)
    assert clip({}, 1.0) == 0
    assert clip({"a": np.zeros((0, 3)), "b": np.zeros(())}, 1.0) == 0


def broken():
    grads = {k: np.ones(6, np.float32) for k in "abcdef"}
    grads["b"][:2] = np.nan, np.inf
    for k in "cdf":
        grads[k][0] = -np.inf
    return grads


@pytest.mark.parametrize("clip", [clip_grad_norm, clip_grad_value])
def test_nonfinite_raises_by_name_and_changes_nothing(clip):
    grads = broken()
    message = (
        f"{clip.__name__}: grads has non-finite values: 2 of 6 in 'b', 1 of 6 in 'c', 1 of 6 in "
        "'d' and in 1 more arrays, expected finite values"
    )
    with pytest.raises(FloatingPointError, match=re.escape(message)):
        clip(grads, 0.5)
    np.testing.assert_array_equal(flat(grads), flat(broken()))


@pytest.mark.parametrize("clip", [clip_grad_norm, clip_grad_value])
def test_nonfinite_skip(clip):
    grads = broken()
    assert math.isnan(clip(grads, 0.5, nonfinite="skip"))
    np.testing.assert_array_equal(flat(grads), 0)
    grads = {"a": np.ones(3), "b": np.array(-np.inf)}
    assert clip(grads, 0.5, nonfinite="skip") == np.inf
    np.testing.assert_array_equal(flat(grads), 0)
    finite = example()
    assert math.isfinite(clip(finite, 0.5, nonfinite="skip"))
    assert np.any(flat(finite) != 0)


def test_nonfinite_zero_clips_what_remains():
    bad = ~np.isfinite(flat(broken()))
    grads = broken()
    assert clip_grad_norm(grads, 1.0, nonfinite="zero") == pytest.approx(np.sqrt(31))
    np.testing.assert_allclose(flat(grads), np.where(bad, 0, 1 / np.sqrt(31)), rtol=1e-6)
    grads = broken()
    assert clip_grad_value(grads, 0.5, nonfinite="zero") == 1
    np.testing.assert_array_equal(flat(grads), np.where(bad, 0, 0.5))


def test_views_are_clipped_in_place():
    base = np.ones((6, 4))
    clip_grad_norm({"a": base[::2].T}, 1.0)
    np.testing.assert_allclose(base[::2], 1 / np.sqrt(12))
    assert np.all(base[1::2] == 1)


def clipped(norms, auto):
    """The norms after clipping, of gradients with these norms before it."""
    after = []
    for norm in norms:
        grads = {"a": np.array([0.6 * norm]), "b": np.array([[-0.8 * norm]])}
        assert clip_grad_norm(grads, auto) == pytest.approx(norm, rel=1e-14)
        after.append(math.hypot(*flat(grads)))
    return after


@pytest.mark.parametrize("window", [None, 1, 7, 1000])
@pytest.mark.parametrize("quantile", [0, 0.1, 0.5, 0.73, 1])
def test_auto_clips_to_the_quantile_of_the_norms_so_far(quantile, window):
    norms = np.random.default_rng(0).lognormal(0, 2, 60)
    norms[40:44] = norms[3]  # some of them equal
    auto = AutoClip(quantile, window)
    for k, after in enumerate(clipped(norms, auto)):
        newest = norms[: k + 1] if window is None else norms[: k + 1][-window:]
        assert after == pytest.approx(min(norms[k], np.quantile(newest, quantile)), rel=1e-12)
    np.testing.assert_allclose(auto.history, newest, rtol=1e-14)
    assert auto.bound == pytest.approx(np.quantile(newest, quantile), rel=1e-12)


def test_auto_follows_the_training_and_goes_on_where_it_was():
    norms = np.geomspace(100, 0.1, 40)
    whole, first = AutoClip(0.9, 10), AutoClip(0.9, 10)
    expected = clipped(norms, whole)
    begin = clipped(norms[:15], first)
    second = AutoClip(0.9, 10, history=np.array(first.history))
    assert begin + clipped(norms[15:], second) == expected
    assert whole.bound < 1
    assert copy.deepcopy(whole).history == whole.history


def test_auto_leaves_out_what_is_no_norm():
    auto = AutoClip(0.5, history=[np.inf, 2.0, np.nan, 0.0])
    assert auto.history == [2]
    clip_grad_norm({"a": np.zeros(3)}, auto)
    clip_grad_norm({"a": np.array([np.nan, 1])}, auto, nonfinite="skip")
    with pytest.raises(FloatingPointError):
        clip_grad_norm({"a": np.array([np.inf, 1])}, auto)
    assert auto.history == [2]
    grads = {"a": np.full(9, 1e308)}  # their norm, 3e308, is no float64
    assert clip_grad_norm(grads, auto) == np.inf
    np.testing.assert_allclose(grads["a"], 2 / 3)
    clip_grad_norm({"a": np.array([np.nan, 1])}, auto, nonfinite="zero")
    assert auto.history == [2, 1]
    assert AutoClip().bound == np.inf


def read_only():
    array = np.zeros(2)
    array.flags.writeable = False
    return {"w": array}


ERRORS = [
    (
        lambda: clip_grad_norm({}, "auto"),
        ValueError,
        "clip_grad_norm: max_norm is 'auto', expected a number, or an AutoClip, which remembers the"
        " norms: make auto = bptt.AutoClip() before the loop, and pass max_norm=auto in it",
    ),
    (lambda: AutoClip(1.5), ValueError, "AutoClip: quantile is 1.5, expected 0..1"),
    (lambda: AutoClip(math.nan), ValueError, "AutoClip: quantile is nan, expected 0..1"),
    (lambda: AutoClip("0.1"), TypeError, "AutoClip: quantile is '0.1', expected a number"),
    (lambda: AutoClip(window=0), ValueError, "AutoClip: window is 0, expected 1 or more"),
    (
        lambda: clip_grad_norm({}, 0),
        ValueError,
        "clip_grad_norm: max_norm is 0, expected more than 0",
    ),
    (
        lambda: clip_grad_value({}, np.nan),
        ValueError,
        "clip_grad_value: bound is nan, expected more",
    ),
    (
        lambda: clip_grad_norm({}, 1, nonfinite="ignore"),
        ValueError,
        "clip_grad_norm: nonfinite is 'ignore', expected one of ('raise', 'skip', 'zero')",
    ),
    (
        lambda: clip_grad_norm({"w": [1.0]}, 1),
        TypeError,
        "clip_grad_norm: grads['w'] has type list, expected an array of float32 or float64",
    ),
    (
        lambda: clip_grad_value({"w": np.ones(2, int)}, 1),
        TypeError,
        "clip_grad_value: grads['w'] has dtype int64, expected an array of float32 or float64",
    ),
    (
        lambda: clip_grad_value(read_only(), 1),
        ValueError,
        "clip_grad_value: grads['w'] is read-only, expected a writable array",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[row[-1][:40] for row in ERRORS])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
