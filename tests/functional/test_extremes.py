# SPDX-License-Identifier: MIT
"""Numbers and sizes at the edge: long sums, gradients near overflow, every kind of NaN."""

from __future__ import annotations

import numpy as np
import pytest

import bptt
from support.compare import assert_close, error
from support.problems import CELLS, Case, core_results, problem, reference_results


@pytest.mark.parametrize(
    "shape", [(1, 100_000, 2, 3), (20_000, 1, 2, 3), (20, 3000, 2, 3)], ids=str
)
@pytest.mark.parametrize("name", ["rnn-tanh", "lstm", "gru"])
def test_sums_over_many_rows_keep_their_precision(name: str, shape: tuple[int, ...]) -> None:
    """All terms have the same sign and size, where plain summation in float32 loses most."""
    cell = next(c for c in CELLS if c.id == name)
    p = problem(cell, shape, dtype="float32")  # type: ignore[arg-type]
    p.arrays["x"][...] = 0.5
    p.dy[...] = 0.1
    got, want = core_results(p), core_results(p.cast("float64"))
    for gradient in ("d w_ih", "d w_hh", "d b_ih", "d b_hh"):
        assert error(got[gradient], want[gradient]) < 5e-6, gradient


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_step_clip_by_norm_of_huge_gradients(isa: str, dtype: str) -> None:
    huge = 3e38 if dtype == "float32" else 1e300
    for H, bound in ((2, 1e-8), (19, 1.0)):
        x, w_ih, w_hh = (np.zeros(s, dtype) for s in ((1, 1, 1), (H, 1), (H, H)))
        np.fill_diagonal(w_hh, 1)
        _, _, tape = bptt.rnn_forward(x, w_ih, w_hh, activation="identity")
        dh = np.full((1, H), huge, dtype)
        clipped = bptt.rnn_backward(tape, dstate=dh, step_clip=("norm", bound)).state
        assert np.allclose(clipped, bound / np.sqrt(H), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bound", [np.inf, 10**400, 1e308])
@pytest.mark.parametrize("kind", ["value", "norm"])
def test_step_clip_with_a_bound_beyond_all_gradients(kind: str, bound: float) -> None:
    _, _, tape = bptt.rnn_forward([[[1.0]]], [[0.5]], [[0.5]])
    free = bptt.rnn_backward(tape, [[[1.0]]])
    assert bptt.rnn_backward(tape, [[[1.0]]], step_clip=(kind, bound)) == free


@pytest.mark.filterwarnings("ignore:.*encountered in.*:RuntimeWarning")
@pytest.mark.parametrize("H", [16, 17])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_step_clip_by_norm_beside_an_infinite_input(isa: str, cell: Case, H: int) -> None:
    """Padding lanes see the infinity; the norm must not."""
    p = problem(cell, (4, 2, 1, H)).clipped("norm", 1e-3)
    p.arrays["x"][1, 0, 0] = np.inf
    got, want = core_results(p), reference_results(p)
    for name in ("d state[0]", "d x"):
        finite = np.isfinite(want[name])
        assert_close({name: got[name][finite]}, {name: want[name][finite]}, 1e-9)


@pytest.mark.parametrize("payload", [1, 1954, 2**51 - 1])
@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_every_nan_stays_nan(isa: str, cell: Case, payload: int, sign: int) -> None:
    bits = np.uint64((sign << 63) | (0x7FF << 52) | (1 << 51) | payload)
    p = problem(cell, (1, 1, 1, 3))
    p.arrays["x"][...] = bits.view(np.float64)
    assert np.isnan(core_results(p)["y"]).all()
    single = p.cast("float32")
    small = np.uint32((sign << 31) | (0xFF << 23) | (1 << 22) | (payload & 0x3FFFFF))
    single.arrays["x"][...] = small.view(np.float32)
    assert np.isnan(core_results(single)["y"]).all()
