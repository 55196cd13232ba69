# SPDX-License-Identifier: MIT
"""The core equals the reference with every option of every recurrence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference
from support.compare import DTYPES, TOLERANCE, assert_close, same_bits
from support.problems import (
    BACKWARD,
    CORE,
    NO_BIAS,
    PLAIN,
    Case,
    backward,
    forward,
    named,
    problem,
    results,
    shapes_of,
    supported,
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_core_equals_reference(isa: str, case: Case, dtype: str) -> None:
    for seed, shape in enumerate(shapes_of(case, dtype)):
        c = problem(case, shape, NO_BIAS if seed == 1 else PLAIN, seed=seed).cast(dtype)
        # In double: NumPy's own error in single differs from CPU to CPU, up to the tolerance.
        want = results(reference, c.cast("float64"))
        assert_close(results(bptt, c), want, TOLERANCE[dtype])


@pytest.mark.parametrize("how", BACKWARD, ids=str)
@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_control_of_the_gradient(case: Case, how: dict[str, Any]) -> None:
    for seed, shape in enumerate(shapes_of(case, "float32")[:2]):
        c = problem(case, shape, seed=seed)
        if supported(c, how):
            # Clipping leaves little of large gradients, and their errors.
            assert_close(results(bptt, c, **how), results(reference, c, **how), 1e-11)


@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_threads_and_checkpoints_give_the_same_bits(case: Case) -> None:
    for shape in [(70, 3, 9, 150), (33, 17, 9, 70)]:
        c = problem(case, shape)
        how = {"step_clip": ("norm", 0.5, "gates")}
        want = results(bptt, c, **how)
        for forth, back in [({"threads": 3}, {"threads": 2}), ({"checkpoint": "sqrt"}, {})]:
            y, state, tape = forward(bptt, c, **forth)
            same_bits(named(y, state, backward(bptt, c, tape, **back, **how)), want)


@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_inference_gives_the_same_bits(case: Case) -> None:
    for shape, threads in (((23, 13, 5, 34), 1), ((33, 17, 9, 70), 3), ((9, 3, 9, 150), 2)):
        c = problem(case, shape)
        y, state, _ = forward(bptt, c)
        again, last, none = forward(bptt, c, keep_tape=False, threads=threads)
        assert none is None
        same_bits(named(again, last, {}), named(y, state, {}))


def test_heads_are_cells_side_by_side(isa: str) -> None:
    heads, size, (T, B, I) = 3, 5, (11, 4, 6)
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((T, B, I)), rng.standard_normal((T, B, heads * size))
    w_ih, w_hh, b = (rng.standard_normal((4 * heads * size, *n)) for n in ((I,), (size,), ()))
    y, state, tape = bptt.slstm_forward(x, w_ih, w_hh, b, heads=heads)
    whole = bptt.slstm_backward(tape, dy)
    dx = np.zeros_like(x)
    for k in range(heads):
        units = np.arange(k * size, k * size + size)
        rows = (np.arange(4)[:, None] * heads * size + units).ravel()
        part, final, tape = bptt.slstm_forward(x, w_ih[rows], w_hh[rows], b[rows])
        assert np.array_equal(part, y[..., units])
        assert all(np.array_equal(s, f[..., units]) for s, f in zip(final, state))
        grads = bptt.slstm_backward(tape, dy[..., units])
        for name in ("w_ih", "w_hh", "b_ih"):
            assert_close({name: getattr(grads, name)}, {name: getattr(whole, name)[rows]}, 1e-12)
        dx += grads.x
    assert_close({"x": dx}, {"x": whole.x}, 1e-12)


GATES = {"lstm": "ifgo", "gru": "rzn", "mgu": "fn", "slstm": "zo"}


@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_the_tape_gives_gates_and_states_by_name(case: Case) -> None:
    c = problem(case, (23, 13, 5, 34))
    y, state, tape = forward(bptt, c)
    _, _, twin = forward(reference, c)
    assert np.array_equal(tape.h, y)
    lengths = c.options.get("lengths")
    if "c" in tape.names and c.options.get("dilation", 1) == 1:
        last = np.full(13, 22) if lengths is None else lengths - 1
        last = np.zeros(13, int) if c.options.get("reverse") else last
        some = np.flatnonzero(np.full(13, 1) if lengths is None else lengths)
        assert np.array_equal(tape.c[last[some], some], state[1][some])
    for name in GATES.get(c.cell, ""):
        if name not in twin.saved[0]:
            continue  # no forget gate of its own
        got = getattr(tape, name)
        want = np.zeros_like(got)
        for t, saved, on in zip(twin.times, twin.saved, twin.active[twin.times]):
            gate = saved[name]
            want[t][on] = getattr(gate, "value", gate)[on]
        assert_close({name: got}, {name: want}, 1e-12)
    with pytest.raises(AttributeError, match=f"the tape of {c.cell} has no 'nonsense'"):
        tape.nonsense  # noqa: B018


def test_a_tape_in_segments_gives_no_gates() -> None:
    c = problem(Case("", "lstm", {}), (300, 4, 3, 5))
    _, _, tape = forward(bptt, c, checkpoint="sqrt")
    with pytest.raises(ValueError, match="kept in segments, expected one without checkpoint"):
        tape.i  # noqa: B018
