# SPDX-License-Identifier: MIT
"""Gate sums of up to 1e4 (float32) and 1e5 (float64), of either sign and of any mixture.

Outputs and all gradients are those of an evaluation in long double, of the same inputs, wherever
that can be represented. Of a sum of 1e4 float32 knows no more than 5e-4, and of a gate that is
nearly open few digits of what it keeps out: the error may also be what rounding errors of the
inputs and the gates, of half a unit in the last place, would make of the exact result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference
from bptt.reference.activations import ACTIVATIONS
from support.compare import TOLERANCE
from support.problems import CASES, Case, Problem, problem, results

T, B, H = 5, 7, 5
LARGEST = {"float32": 1e4, "float64": 1e5}
WIDE = [
    *(Case(f"rnn-{name}", "rnn", {"activation": name}) for name in ACTIVATIONS if name != "tanh"),
    *(
        Case(f"lstm-{forget}-{gate}-{name}", "lstm",
             {"forget_gate": forget, "gate_activation": gate, "activation": name,
              "output_activation": "tanh" if name == "tanh" else "identity", "peepholes": True})
        for forget in ("own", "coupled", "none")
        for gate in ("sigmoid", "hard_sigmoid")
        for name in ("tanh", "relu", "identity")
    ),
    *(
        Case(f"gru-{after}-{gate}-{name}", "gru",
             {"reset_after": after, "gate_activation": gate, "activation": name})
        for after in (True, False)
        for gate in ("sigmoid", "hard_sigmoid")
        for name in ("tanh", "relu", "identity")
    ),
    Case("slstm-layer_norm", "slstm", {"layer_norm": True}),
]  # fmt: skip
PLAIN = {"h_mask", "layer_norm", "leak", "zoneout", "preact_clip", "cell_clip", "resets"}
ALL = [*(c for c in CASES if c.options.keys() <= PLAIN | {"heads", "peepholes"}), *WIDE]
SIGNS = {"mixed": (-1, 1), "negative": (-1, -1), "positive": (1, 1)}


def wide(case: Case, dtype: str, signs: str, start: bool) -> Problem:
    """Every sum has an input of its own; its size is log-uniform."""
    gates = reference.CELLS[case.cell].gates - (case.options.get("forget_gate", "own") != "own")
    c = problem(case, (T, B, gates * H, H - H % case.options.get("heads", 1)), seed=len(case.id))
    rng = np.random.default_rng(len(signs))

    def sizes(shape: Any) -> Any:
        sign = rng.choice(SIGNS[signs], shape)
        return sign * 10 ** rng.uniform(-2, np.log10(LARGEST[dtype]), shape)

    rows, columns = c.arrays["w_ih"].shape
    arrays = {**c.arrays, "x": sizes(c.arrays["x"].shape), "w_ih": np.eye(rows, columns)}
    if "layer_norm" in arrays:  # which makes sums of any inputs moderate: then the gains are wide
        g_ih, *others = arrays["layer_norm"]
        arrays["layer_norm"] = (sizes(g_ih.shape), *others)
    if start:
        arrays["state"] = None
    elif case.cell == "slstm":  # no memory without a weight: it would be worth e^1e4 inputs
        h, memory, n, m = arrays["state"]
        arrays["state"] = (h, np.where(n == 0, 0, memory), n, m)
    return c._replace(arrays=arrays).cast(dtype)


def rounded(c: Problem, seed: int) -> Problem:
    """Inputs half a unit in the last place away, at random."""
    rng = np.random.default_rng(seed)
    unit = np.finfo(c.arrays["x"].dtype).eps / 2

    def moved(a: Any) -> Any:
        if isinstance(a, tuple):
            return tuple(moved(part) for part in a)
        return (
            None if a is None else a * (1 + unit * rng.uniform(-1, 1, a.shape).astype("longdouble"))
        )

    return c._replace(arrays={name: moved(a) for name, a in c.arrays.items()})


def exact(c: Problem) -> dict[str, Any]:
    with np.errstate(all="ignore"):
        return results(reference, c.cast("longdouble"))


def nearly(c: Problem, seed: int) -> dict[str, Any]:
    """The same of rounded inputs and gates."""
    rng = np.random.default_rng(seed)
    unit = np.finfo(c.arrays["x"].dtype).eps / 2

    def gate(value: Any) -> Any:
        return lambda a: value(a) * (1 + unit * rng.uniform(-1, 1, a.shape).astype("longdouble"))

    with pytest.MonkeyPatch.context() as patch:
        for name in ("sigmoid", "hard_sigmoid"):
            value, slope = ACTIVATIONS[name]
            patch.setitem(ACTIVATIONS, name, (gate(value), slope))
        return exact(rounded(c, seed))


def check(c: Problem, got: Any, want: Any, near: list[Any], tolerance: float) -> None:
    assert got.keys() == want.keys()
    largest = np.finfo(c.dy.dtype).max / 64
    for name, value in want.items():
        there = np.abs(value) < largest  # of NaN too: beyond what long double can represent
        if c.cell == "slstm" and name in ("d state[1]", "d state[2]"):
            # of a memory that is empty they may be e^1e4 times a gate of e^-1e4
            there &= False if c.arrays["state"] is None else c.arrays["state"][2] != 0
        assert np.isfinite(got[name][there]).all(), name
        size = np.abs(value[there]).max(initial=0)
        by_rounding = max(np.abs(a[name][there] - value[there]).max(initial=0) for a in near)
        off = np.abs(got[name][there] - value[there])
        bound = tolerance * (size if size > 0 else 1) + 8 * by_rounding
        assert (off <= bound).all(), (name, (off / bound).max(), off.max(), size, by_rounding)


@pytest.mark.parametrize("dtype", list(LARGEST))
@pytest.mark.parametrize("case", ALL, ids=lambda c: c.id)
def test_wide_sums(case: Case, dtype: str, isa: str) -> None:
    for signs in SIGNS:
        for start in (False, True):
            c = wide(case, dtype, signs, start)
            want, near = exact(c), [nearly(c, seed) for seed in range(4)]
            with np.errstate(all="ignore"):
                plain = results(reference, c)
            check(c, plain, want, near, TOLERANCE[dtype])
            check(c, results(bptt, c), want, near, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", list(LARGEST))
@pytest.mark.parametrize("module", [bptt, reference], ids=["core", "reference"])
@pytest.mark.parametrize("size", [1, 13, 34])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_layer_norm_of_nearly_equal_sums(
    module: Any, dtype: str, size: int, spread: float, isa: str
) -> None:
    """The mean of large equal numbers is no longer one of them once it is rounded."""
    level = 12345.678 if dtype == "float32" else 1.2345678e13
    x = np.full((1, 2, 1), level, dtype)
    w = np.ones((size, 1), dtype)
    if spread:  # by one unit in the last place
        w[::2] += np.finfo(dtype).eps
    zeros, ones = np.zeros((size, size), dtype), np.ones(size, dtype)
    y, _, tape = module.rnn_forward(x, w, zeros, layer_norm=(ones, ones))
    sums = (x * w[:, 0]).astype("longdouble")  # what the product in this precision is
    centred = sums - sums[..., :1]  # exact; the mean of the sums themselves would not be
    centred -= centred.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, np.tanh(centred / deviation), rtol=0, atol=TOLERANCE[dtype])
    dy = np.linspace(-1, 1, size, dtype=dtype) * np.ones_like(y)
    n = centred / deviation
    d = dy * (1 - np.tanh(n) ** 2)
    want = (d - d.mean(-1, keepdims=True) - n * (d * n).mean(-1, keepdims=True)) / deviation
    got = module.rnn_backward(tape, dy).x
    bound = TOLERANCE[dtype] * np.abs(want).sum()
    np.testing.assert_allclose(got, (want * w[:, 0]).sum(-1, keepdims=True), rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", list(LARGEST))
@pytest.mark.parametrize("module", [bptt, reference], ids=["core", "reference"])
@pytest.mark.parametrize("name", ["lstm", "gru", "mgu", "slstm"])
def test_layer_norm_of_equal_sums_is_nothing_but_its_offset(
    name: str, module: Any, dtype: str, isa: str
) -> None:
    """All products equal and large, and all c: the cell sees its biases alone."""
    H, c = 13, problem(Case("", name, {"layer_norm": True}), (1, 2, 1, 13))
    rows = len(c.arrays["w_ih"])
    level = 12345.678 if dtype == "float32" else 1.2345678e13
    arrays = {**c.arrays, "x": np.full((1, 2, 1), level), "w_ih": np.ones((rows, 1))}
    arrays["w_hh"] = np.zeros((rows, H))
    if name == "lstm":  # c' = f c + i g is large and equal: all biases and gains are
        arrays["state"] = (np.zeros((2, H)), np.full((2, H), level))
        arrays["b_ih"], arrays["b_hh"] = np.full(rows, 0.3), np.full(rows, 0.4)
    got = results(module, c._replace(arrays=arrays).cast(dtype))
    arrays["x"] = np.zeros((1, 2, 1))
    want = results(reference, c._replace(arrays=arrays).cast("longdouble"))
    for value in ("y", "d b_ih", "d layer_norm[0]"):
        np.testing.assert_allclose(
            got[value].astype("longdouble"), want[value], rtol=0,
            atol=TOLERANCE[dtype] * max(1, np.abs(want[value]).max()),
        )  # fmt: skip
