# SPDX-License-Identifier: MIT
"""sLSTM is a softmax over its past: whatever its sums are, and however its memory begins.

With the weights log w_s = i_s + sum_{s < r <= t} log sig(f_r) of the steps up to t,
h_t = sig(o_t) sum_s softmax(w)_s tanh(z_s): that has no stabiliser, and no state but the past.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference
from support.compare import TOLERANCE, assert_close
from support.complex_step import gradients
from support.problems import Case, problem, results

MODULES = pytest.mark.parametrize("module", [bptt, reference], ids=["core", "reference"])
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCE))


def softmax_over_the_past(x: Any, w_ih: Any, w_hh: Any) -> Any:
    """y, from the state of zeros; complex arguments give a derivative."""
    weights: list[Any] = []
    values: list[Any] = []
    y, h = [], np.zeros((x.shape[1], w_hh.shape[1]))
    for x_t in x:
        i, f, z, o = np.split(x_t @ w_ih.T + h @ w_hh.T, 4, axis=-1)
        keep = np.where(f.real < 0, f, 0) - np.log1p(np.exp(np.where(f.real < 0, f, -f)))
        weights = [*(w + keep for w in weights), i]
        values.append(np.tanh(z))
        logs = np.stack(weights)
        e = np.exp(logs - logs.real.max(0))
        small = np.exp(np.where(o.real < 0, o, -o))
        h = (e * np.stack(values)).sum(0) / e.sum(0) * np.where(o.real < 0, small, 1) / (1 + small)
        y.append(h)
    return np.stack(y)


def shifted(shift: float, seed: int = 0, shape: tuple[int, int, int] = (6, 2, 3)) -> Any:
    """x whose sums of i are near ``shift``, w_ih, w_hh and dy."""
    rng = np.random.default_rng(seed)
    T, B, H = shape
    x = np.round(rng.standard_normal((T, B, 4 * H)) * 8) / 4
    x[..., :H] += shift
    w_hh = rng.standard_normal((4 * H, H)) * 0.4
    return x, np.eye(4 * H), w_hh, rng.standard_normal((T, B, H))


@cache
def expected(shift: float) -> dict[str, Any]:
    x, w_ih, w_hh, dy = shifted(shift)
    given = {"x": x, "w_ih": w_ih, "w_hh": w_hh}
    want = {name: np.empty(a.shape) for name, a in given.items()}
    for name, d in want.items():
        for at in np.ndindex(*d.shape):
            moved = given[name].astype(complex)
            moved[at] += 1e-30j
            d[at] = (softmax_over_the_past(**{**given, name: moved}).imag / 1e-30 * dy).sum()
    return {"y": softmax_over_the_past(x, w_ih, w_hh), **want}


@DTYPES
@MODULES
@pytest.mark.parametrize("shift", [-9000.0, -720.0, -100.0, -30.0, 0.0, 100.0, 9000.0])
def test_the_level_of_the_input_gate_does_not_matter(
    shift: float, module: Any, dtype: str, isa: str
) -> None:
    x, w_ih, w_hh, dy = shifted(shift)
    want = expected(shift)
    given = [a.astype(dtype) for a in (x, w_ih, w_hh)]
    y, _, tape = module.slstm_forward(*given)
    grads = module.slstm_backward(tape, dy.astype(dtype))
    got = {"y": y, **{name: getattr(grads, name) for name in ("x", "w_ih", "w_hh")}}
    # m is near the level: it and the differences from it are known to half a unit of that
    tolerance = TOLERANCE[dtype] + 8 * abs(shift) * np.finfo(dtype).eps
    assert_close(got, want, tolerance)


@DTYPES
@MODULES
def test_known_values(module: Any, dtype: str, isa: str) -> None:
    x = np.array([[[-88.0, 5.0, 1.0, 0.0]]], dtype)
    y, _, tape = module.slstm_forward(x, np.eye(4, dtype=dtype), np.zeros((4, 1), dtype))
    dx = module.slstm_backward(tape, np.full((1, 1, 1), 8, dtype)).x
    np.testing.assert_allclose(y.item(), 0.3807970779778824, rtol=1e-6)
    np.testing.assert_allclose(dx.ravel(), [0, 0, 1.6798973686, 1.5231883119], rtol=1e-6, atol=0)
    below = -100.0 if dtype == "float32" else -1000.0
    x = np.array([[[below, 0, 9, 0]], [[below - 20, 50, -9, 0]]], dtype)
    y, _, _ = module.slstm_forward(x, np.eye(4, dtype=dtype), np.zeros((4, 1), dtype))
    np.testing.assert_allclose(y.ravel(), [0.5, 0.5], rtol=1e-6)


@DTYPES
@pytest.mark.parametrize("seed", range(3))
def test_rows_of_pixels(dtype: str, seed: int, isa: str) -> None:
    """A fresh layer on numbers of 0..255, as one reads digits row by row."""
    layer = bptt.SLSTM(28, 64, dtype=dtype, seed=seed)
    x = np.random.default_rng(seed).integers(0, 256, (28, 4, 28)).astype(dtype)
    w_ih, w_hh, b_ih, b_hh = (a.astype(float) for a in layer.parameters.values())
    y, _, tape = layer.forward(x)
    want, _, _ = reference.slstm_forward(
        x.astype("longdouble"), *(a.astype("longdouble") for a in (w_ih, w_hh, b_ih, b_hh))
    )
    # sums of up to a few hundred, of float32 products
    assert np.abs(y - want).max() < (2e-3 if dtype == "float32" else 1e-11)
    grads = layer.backward(tape, np.ones_like(y))
    assert all(np.isfinite(d).all() for d in (grads.x, *grads.params.values()))


STARTS = {
    "plain": {},
    "heads": {"heads": 2},
    "layer_norm": {"layer_norm": True},
    "zoneout": {"zoneout": 0.3},
    "zoneout-of-steps": {"zoneout": True},
    "dilation": {"dilation": 2},
    "skip-lengths-reverse": {"skip": 2, "lengths": True, "reverse": True},
    "resets": {"resets": True, "h_mask": True},
}


@DTYPES
@MODULES
@pytest.mark.parametrize("m", [-np.inf, -1e4, -30.0, 40.0, 1e4])
@pytest.mark.parametrize("name", STARTS)
def test_a_memory_of_nothing_has_no_scale(
    name: str, m: float, module: Any, dtype: str, isa: str
) -> None:
    """Unit by unit: where c = n = 0 at the start, no result and no gradient knows m."""
    c = problem(Case("", "slstm", STARTS[name]), (5, 3, 3, 6))
    if "lengths" in c.options:
        c.options["lengths"] = np.array([5, 1, 3])
    h, memory, n, start = c.arrays["state"]
    empty = np.zeros(n.shape, bool)
    empty[..., ::2] = empty[..., :1, :] = True

    def run(scale: float) -> Any:
        state = (
            h,
            np.where(empty, 0, memory),
            np.where(empty, 0, n),
            np.where(empty, scale, start),
        )
        found = results(module, c._replace(arrays={**c.arrays, "state": state}).cast(dtype))
        for part in ("d state[1]", "d state[2]"):  # there e^m times what they were
            found[part][empty] = 0
        return found

    assert_close(run(m), run(0.0), TOLERANCE[dtype])


@DTYPES
@MODULES
def test_a_small_memory_weighs_what_it_weighs(module: Any, dtype: str, isa: str) -> None:
    """n of 1e-35 beside an input of e^-86, almost the smallest normal number; and large ones."""
    tiny, low = (1e-35, -86.0) if dtype == "float32" else (1e-305, -706.0)
    x = np.array([[[low, 0.5, 1.0, 0.3]]], dtype)
    for n, m, i in (
        (tiny, 0.0, low),
        (1 / tiny, low, 0.0),
        (1 / tiny, 2 * low, 0.0),
        (1.0, low, 0.0),
    ):
        x[0, 0, 0] = i
        state = tuple(np.full((1, 1), v, dtype) for v in (0.0, 0.5 * n, n, m))
        y, _, tape = module.slstm_forward(
            x, np.eye(4, dtype=dtype), np.zeros((4, 1), dtype), state=state
        )
        n0 = np.longdouble(state[2].item())
        kept = np.exp(np.longdouble(m) - np.log1p(np.exp(np.longdouble(-0.5)))) * n0
        new = np.exp(np.longdouble(i))
        want = (kept * 0.5 + new * np.tanh(np.longdouble(1))) / (kept + new)
        o = 1 / (1 + np.exp(-x[0, 0, 3].astype("longdouble")))
        np.testing.assert_allclose(
            y.item(), want * o, rtol=TOLERANCE[dtype] * 5, err_msg=str((n, m, i))
        )
        grads = module.slstm_backward(tape, np.ones((1, 1, 1), dtype))
        share = kept / (kept + new)  # of the memory; h changes by o share (0.5 - c/n) with log n
        slope = o * share * (np.longdouble(0.5) - want)
        within = {"rtol": 1e-4, "atol": TOLERANCE[dtype]}
        np.testing.assert_allclose(grads.state[2].item() * n0, slope - o * share / 2, **within)
        np.testing.assert_allclose(grads.x[0, 0, 0], -slope, **within)


@MODULES
def test_the_gradient_of_an_empty_memory_is_exact(module: Any, isa: str) -> None:
    c = problem(Case("", "slstm", {}), (4, 2, 3, 5))
    h, memory, n, m = c.arrays["state"]
    for at in (-8.0, -0.5, 6.0):
        for old in (memory, 0 * memory):
            c = c._replace(arrays={**c.arrays, "state": (h, old, 0 * n, 0 * m + at)})
            want = gradients(c)
            assert_close({k: v for k, v in results(module, c).items() if k in want}, want, 1e-12)


def test_streams_start_with_an_empty_memory(isa: str) -> None:
    x, w_ih, w_hh, _ = shifted(-300.0)
    layer = bptt.SLSTM(12, 3, dtype="float64")
    for name, a in zip(layer.parameters, (w_ih, w_hh, np.zeros(12), np.zeros(12))):
        layer.parameters[name][...] = a
    stream = layer.stream(2)
    got = np.stack([stream.step(row) for row in x])
    assert_close({"y": got}, {"y": softmax_over_the_past(x, w_ih, w_hh)}, 1e-10)
    assert np.array_equal(layer(x)[0], got)


def test_a_reset_empties_the_memory(isa: str) -> None:
    x, w_ih, w_hh, dy = shifted(-500.0)
    resets = np.zeros(x.shape[:2], bool)
    resets[2, 0] = resets[4] = True
    y, _, tape = bptt.slstm_forward(x, w_ih, w_hh, resets=resets)
    got = bptt.slstm_backward(tape, dy)
    parts = [
        (0, slice(0, 2)),
        (0, slice(2, 4)),
        (0, slice(4, 6)),
        (1, slice(0, 4)),
        (1, slice(4, 6)),
    ]
    for b, steps in parts:
        part = x[steps, b : b + 1]
        alone, _, tape = bptt.slstm_forward(part, w_ih, w_hh)
        np.testing.assert_allclose(y[steps, b : b + 1], alone, rtol=0, atol=1e-12)
        dx = bptt.slstm_backward(tape, dy[steps, b : b + 1]).x
        np.testing.assert_allclose(got.x[steps, b : b + 1], dx, rtol=0, atol=1e-12)


def test_gates_of_an_empty_memory() -> None:
    """f' is 1 at most, as it is shown; i' is 1: the first input is all there is."""
    x, w_ih, w_hh, _ = shifted(-300.0)
    for module in (bptt, reference):
        _, _, tape = module.slstm_forward(x, w_ih, w_hh)
        if module is bptt:
            assert (tape.i[0] == 1).all()
            assert (tape.n >= 1).all()
            assert (tape.f <= 1).all()
            np.testing.assert_array_equal(tape.m[0], (x[0] @ w_ih.T)[:, :3])
        else:
            assert (tape.saved[0]["i"] == 1).all()
            assert (tape.saved[0]["f"] <= 1).all()
