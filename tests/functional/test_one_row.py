# SPDX-License-Identifier: MIT
"""One sequence alone, which takes loops of its own, gets the bits that it has in a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from support.compare import DTYPES, same_bits, same_bits_per_sequence
from support.problems import BY_ID, CELLS, core_results, problem, take

# Odd sizes around those of the vectors and panels; few inputs, and so many that they are
# projected. Over several chunks.
SIZES = [(1, 1), (1, 7), (3, 8), (1, 9), (2, 31), (70, 33), (1, 32), (150, 66)]
WAYS = ["plain", "no-bias", "one-bias-no-state", "other-bias-reverse", "lengths-reverse"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_a_sequence_alone_and_in_a_batch(isa: str, cell: Any, dtype: str) -> None:
    for n, (I, H) in enumerate(SIZES):
        B = 2 + n % 8
        p = problem(cell, (140 if H < 10 else 20, B, I, H), BY_ID[WAYS[n % len(WAYS)]], dtype)
        whole = core_results(p)
        for b in (0, B - 1):
            same_bits_per_sequence(core_results(take(p, [b])), whole, [b])


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_segments_of_a_tape(isa: str, cell: Any) -> None:
    """The values of all segments but the last are computed again, from known y."""
    for name in ("plain", "other-bias-reverse"):
        p = problem(cell, (300, 1, 2, 19), BY_ID[name], "float32")
        same_bits(core_results(p, checkpoint="sqrt"), core_results(p))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_loop_of_batches_gives_the_same_gradients(isa: str, cell: str) -> None:
    """A backward pass with a trace takes it."""
    rng = np.random.default_rng(0)
    forward, backward = getattr(bptt, f"{cell}_forward"), getattr(bptt, f"{cell}_backward")
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
    for H in (8, 21, 33):
        for reverse in (False, True):
            shapes = [(200, 1, 2), (gates * H, 2), (gates * H, H), (gates * H,), (gates * H,)]
            arrays = [rng.standard_normal(shape).astype(np.float32) / 2 for shape in shapes]
            y, _, tape = forward(*arrays, reverse=reverse)
            dy = rng.standard_normal(y.shape).astype(np.float32)
            plain, traced = backward(tape, dy), backward(tape, dy, trace=True)
            for name in ("x", "w_ih", "w_hh", "b_ih", "b_hh"):
                assert np.array_equal(getattr(plain, name), getattr(traced, name)), (name, H)
