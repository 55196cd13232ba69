# SPDX-License-Identifier: MIT
"""Arrays that change between the forward and the backward call: gradients as before, or an error.

A tape copies small arrays and refers to x and y, of which it checks a sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import _core, reference
from support.changed import (
    GATES,
    REFERS,
    B,
    T,
    arguments,
    own,
    refused,
    run,
    same,
    spoil,
)

# --- x and y, to which a tape refers


CHANGES: dict[str, Callable[[Any], Any]] = {
    "other values": lambda x: np.random.default_rng(9).standard_normal(x.shape),
    "other signs": lambda x: -x,
    "a little more": lambda x: x * 1.0001,
    "zeros": np.zeros_like,
    "not a number": lambda x: x * np.nan,
    "the last step": lambda x: np.concatenate([x[:-1], x[-1:] + 1]),
    "the first value": lambda x: x + (np.arange(x.size).reshape(x.shape) == 0),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", GATES)
def test_another_x_is_refused(cell: str, dtype: str, change: str) -> None:
    for how in ({}, {"checkpoint": "sqrt"}, {"reverse": True}):
        given = arguments(cell, dtype, **how)
        x = given["x"]
        y, back = run(cell, given)
        before, want = x.copy(), back()
        x[...] = CHANGES[change](x)
        refused(back, f"{cell}_backward: x {REFERS}")
        refused(lambda back=back: back(trace="full"), f"{cell}_backward: x {REFERS}")
        x[...] = before
        same(back(), want)
        y.flags.writeable = True
        kept = y.copy()
        y[...] = CHANGES[change](y)
        refused(back, f"{cell}_backward: y {REFERS}")
        y[...] = kept
        same(back(), want)


def test_what_is_not_a_number_is_not_a_change() -> None:
    given = arguments("gru")
    given["x"][2] = np.nan
    y, back = run("gru", given)
    assert np.isnan(y).any()
    same(back(), back())


@pytest.mark.parametrize("size", [1024, 1032, 5000, 100_000])
def test_an_eighth_in_one_piece_is_seen_wherever_it_lies(size: int) -> None:
    a = np.random.default_rng(size).standard_normal(size // 8)
    before = _core.fingerprint(a)
    piece = -(-len(a) // 8) + 8
    for start in range(0, len(a) - piece + 1, max(1, len(a) // 200)):
        part = a[start : start + piece]
        part *= -1
        assert _core.fingerprint(a) != before
        part *= -1
    assert _core.fingerprint(a) == before


@pytest.mark.parametrize("size", [1, 3, 8, 31, 33, 100, 1024])
def test_of_a_small_array_every_bit_is_seen(size: int) -> None:
    a = np.random.default_rng(size).integers(0, 256, size).astype(np.uint8)
    seen = {_core.fingerprint(a)}
    for i in range(size):
        for bit in range(8):
            a[i] ^= 1 << bit
            seen.add(_core.fingerprint(a))
            a[i] ^= 1 << bit
    assert len(seen) == 1 + 8 * size


def test_what_comes_in_pairs_does_not_cancel() -> None:
    for dtype in ("float32", "float64"):
        a = np.ones((512, 7), dtype)
        marks = {_core.fingerprint(b) for b in (a, -a, 0 * a, 2 * a, a[:256], a[:64], -a[:64])}
        assert len(marks) == 7


def test_places_meet_every_sequence_and_unit_in_time() -> None:
    """With sizes that are powers of two: a change of any input, and of most four sequences."""
    for shape in ((1024, 16, 8), (256, 64, 16)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        before, missed = _core.fingerprint(x), 0
        for b in range(0, shape[1], 4):
            x[:, b : b + 4] *= -1
            missed += _core.fingerprint(x) == before
            x[:, b : b + 4] *= -1
        assert missed <= shape[1] // 4 // 2
        for i in range(shape[2]):
            x[:, :, i] *= -1
            assert _core.fingerprint(x) != before
            x[:, :, i] *= -1


def test_only_arrays_as_they_lie() -> None:
    for wrong in (np.zeros((3, 4)).T, [1.0], None):
        with pytest.raises(TypeError, match="fingerprint: expected a C-contiguous array"):
            _core.fingerprint(wrong)


# --- all else, of which a tape has its own


@pytest.mark.parametrize("checkpoint", [None, "sqrt"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", GATES)
def test_a_tape_has_its_own(isa: str, cell: str, dtype: str, checkpoint: str | None) -> None:
    for name, more in own(cell).items():
        given = arguments(cell, dtype, checkpoint=checkpoint)
        for key, value in more.items():
            cast = [
                a if np.ndim(a) == 0 or np.asarray(a).dtype.kind in "bi" else a.astype(dtype)
                for a in (value if isinstance(value, tuple) else (value,))
            ]
            given[key] = tuple(cast) if isinstance(value, tuple) else cast[0]
        if checkpoint:  # long enough for several segments
            given["x"] = np.tile(given["x"], (60, 1, 1))
            for key in ("zoneout", "resets"):
                if key in given and not isinstance(given[key], tuple):
                    given[key] = np.tile(given[key], (60, *[1] * (given[key].ndim - 1)))
            given |= {"zoneout": 0.5} if name == "two zoneouts" else {}
            if name == "all lengths":
                given["lengths"] *= 60
        _, back = run(cell, given)
        want = back()
        spoil([value for key, value in given.items() if key != "x"])
        same(back(), want)


@pytest.mark.parametrize("option", ["lengths", "resets", "dilation"])
def test_rows_in_another_order_are_copies(option: str) -> None:
    """x and y may change afterwards; the trace shows x as it was."""
    given = arguments("lstm", **own("lstm")[option])
    x = given["x"]
    want_x = np.where((np.arange(T)[:, None] < given.get("lengths", T))[..., None], x, 0)
    y, back = run("lstm", given)
    want = back(trace="full")
    y.flags.writeable = True
    spoil([x, y, given.get("lengths"), given.get("resets")])
    got = back(trace="full")
    same(got[:6], want[:6])
    same(got.trace.norms, want.trace.norms)
    assert np.array_equal(got.trace.full.x, want_x)
    assert np.array_equal(got.trace.valid, want.trace.valid)


@pytest.mark.parametrize("ragged", [False, True])
def test_a_trace_keeps_what_it_is_asked_for_later(ragged: bool) -> None:
    """Its shares are computed on demand, when the gradients may already have been clipped."""
    given = arguments("gru", lengths=np.array([9, 3, 0, 7]) if ragged else np.full(B, T))
    _, back = run("gru", given)
    want = back(trace="full").trace
    grads = back(trace="full")
    for array in (grads.w_ih, grads.w_hh, given["x"], given["lengths"]):
        array[...] = 3
    for name in ("w_ih", "w_hh"):
        got = getattr(grads.trace.shares, name)
        same(got, getattr(want.shares, name))
    assert np.array_equal(grads.trace.valid, want.valid)
    same(grads.trace.saturated["z"], want.saturated["z"])


def test_a_trace_of_the_reference_as_well() -> None:
    given = arguments("gru")
    y, _, tape = reference.gru_forward(**given)
    grads = reference.gru_backward(tape, np.ones_like(y), trace="full")
    want = reference.gru_backward(tape, np.ones_like(y), trace="full").trace
    want_shares, want_saturated = want.shares.w_hh, want.saturated["z"]
    for array in (grads.w_ih, grads.w_hh, given["x"], y):
        array[...] = 3
    same(grads.trace.shares.w_hh, want_shares)
    same(grads.trace.saturated["z"], want_saturated)


def test_a_trace_has_the_lengths_of_the_tape() -> None:
    lengths = np.array([6, 4])
    x, rng = np.ones((6, 2, 3)), np.random.default_rng(0)
    y, _, tape = bptt.rnn_forward(x, rng.normal(size=(4, 3)), np.eye(4), lengths=lengths)
    lengths[:] = 1
    trace = bptt.rnn_backward(tape, np.ones_like(y), trace=True).trace
    assert trace.valid.sum(0).tolist() == [6, 4]
