# SPDX-License-Identifier: MIT
"""Subnormal numbers are zero to the core, and the caller's floating-point state does not matter."""

from __future__ import annotations

import itertools
import signal
from typing import Any

import numpy as np
import pytest

import bptt
from support import child, float_state
from support.compare import DTYPES, TOLERANCE, same_bits
from support.problems import (
    CORE,
    NAMES,
    Case,
    Problem,
    core_results,
    flat,
    problem,
    reference_results,
    state_of,
)
from support.problems import forward as forward_of

SHAPE = (9, 5, 3, 18)
# Each product in a sum may be too small by almost the smallest normal number, and a skip multiplies
# such errors from step to step, as it does the gradients: to a hundred million times that number.
SLACK = 2000


def tiny(dtype: str) -> float:
    """The smallest normal number."""
    return float(np.finfo(dtype).tiny)


def longest(p: Problem) -> int:
    """A sequence that takes part in every step."""
    return 0 if p.lengths is None else int(np.argmax(p.lengths))


def vanishing(case: Case, dtype: str) -> Problem:
    """With gradients of the outputs around the smallest normal number; of one sequence all are
    below."""
    p = problem(case, SHAPE).cast(dtype)
    rng = np.random.default_rng(0)

    def small(a: Any) -> Any:
        exponents = rng.uniform(-1, 5, a.shape)
        exponents[..., longest(p), :] -= 7
        sizes = 10.0**exponents * tiny("float64")
        scale = np.asarray(tiny(dtype) / tiny("float64"))
        return (np.copysign(sizes, a) * scale).astype(dtype)

    return p._replace(dy=small(p.dy), dstate=state_of([small(s) for s in flat(p.dstate)]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_gradients_below_the_normal_numbers_are_zero(isa: str, case: Case, dtype: str) -> None:
    p = vanishing(case, dtype)
    got, want = core_results(p), reference_results(p)
    vanished = longest(p)
    assert (got["d x"][:, vanished] == 0).all()
    assert (want["d x"][:, vanished] != 0).any()
    for name in (k for k in got if k.startswith("d ")):
        a, b = got[name], want[name]
        # Without a step, the gradient of the final state is copied as it is.
        if p.lengths is None or "state" not in name:
            assert not ((a != 0) & (abs(a) < tiny(dtype))).any(), name
        slack = SLACK * tiny(dtype)
        assert (abs(a - b) <= TOLERANCE[dtype] * abs(b).max() + slack).all(), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormal_inputs_and_outputs_are_zero(isa: str, dtype: str) -> None:
    one = np.finfo(dtype).tiny
    x = np.array([0.5, 0.75, 1, 2], dtype)[:, None, None] * one
    w, zero = np.ones((1, 1), dtype), np.zeros((1, 1), dtype)
    y, _, _ = bptt.rnn_forward(x, w, zero, activation="identity")
    assert y.ravel().tolist() == [0, 0, one, 2 * one]
    y, _, _ = bptt.rnn_forward(x, w / 2, zero, activation="identity")
    assert y.ravel().tolist() == [0, 0, 0, one]


@pytest.mark.parametrize("bits", float_state.STATES.values(), ids=float_state.STATES.keys())
@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_bits_do_not_depend_on_the_callers_state(isa: str, case: Case, bits: int) -> None:
    for dtype, seed in itertools.product(DTYPES, (0, 1)):
        p = vanishing(case, dtype) if seed else problem(case, SHAPE).cast(dtype)
        want = core_results(p)
        with float_state.changed(bits):
            got = core_results(p)
        same_bits(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", NAMES)
def test_threads_tapes_and_streams_do_not_either(isa: str, cell: str, dtype: str) -> None:
    p = problem(Case(cell, cell), (12, 40, 30, 90)).cast(dtype)
    layer = next(value for name, value in vars(bptt).items() if name.lower() == cell)
    layer = layer(30, 90, dtype=dtype, seed=0)

    def found() -> dict[str, Any]:
        arrays = core_results(p, threads=4)
        _, _, tape = forward_of(bptt, p)
        stream = layer.stream(40)
        arrays |= {f"tape {name}": getattr(tape, name) for name in tape.names}
        return arrays | {f"streamed {t}": stream.process(p.arrays["x"][t, None]) for t in range(3)}

    want = found()
    with float_state.changed(float_state.STATES["both"]):
        got = found()
    same_bits(got, want)


@pytest.mark.parametrize("cell", NAMES)
def test_nor_do_derivatives_along_a_direction(isa: str, cell: str) -> None:
    p = problem(Case(cell, cell), (5, 3, 4, 9))
    names = ("x", "w_ih", "w_hh")
    primals = {name: p.arrays[name] for name in names}
    forward = getattr(bptt, f"{cell}_forward")

    def derivatives() -> dict[str, Any]:
        y, _, dy, _ = bptt.jvp(forward, primals, primals)
        grads, along = bptt.hvp(forward, primals, primals, y)
        return {"y": y, "dy": dy, "grads": grads.w_hh, "along": along.w_hh}

    want = derivatives()
    with float_state.changed(float_state.STATES["both"]):
        got = derivatives()
    same_bits(got, want)


def test_refused_arguments_leave_the_state_alone() -> None:
    with float_state.changed(float_state.STATES["both"]):
        with pytest.raises(ValueError, match="expected"):
            bptt.rnn_forward(np.zeros((3, 1, 1)), np.zeros((2, 1)), np.zeros((3, 3)))
        _, _, tape = bptt.rnn_forward(np.zeros((3, 1, 1)), np.zeros((2, 1)), np.zeros((2, 2)))
        with pytest.raises(ValueError, match="expected"):
            bptt.rnn_backward(tape, np.zeros((3, 1, 3)))


INTERRUPTED = """
import signal
import numpy as np
import bptt
from support import float_state

seen = []

def handle(*_):
    seen.append(float_state.get())
    if len(seen) == 1:  # a change by the host stays
        float_state.put(before | float_state.UPWARDS)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        return
    raise KeyboardInterrupt

before = float_state.get()
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.1)
x, w_ih, w_hh = (np.zeros(s, np.float32) for s in ({x}, (1024, 64), (1024, 256)))
try:
    bptt.lstm_forward(x, w_ih, w_hh, keep_tape=False, threads={threads})
except KeyboardInterrupt:
    expected = [before, before | float_state.UPWARDS]
    print("interrupted", seen == expected, float_state.get() == expected[-1])
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("threads", "x"), [(1, "(2**18, 1, 64)"), (4, "(2**18, 1, 64)"), (4, "(2000, 256, 64)")]
)
def test_signal_handlers_have_the_hosts_state(threads: int, x: str) -> None:
    float_state.needed()
    program = INTERRUPTED.format(threads=threads, x=x)
    assert child.output(program) == "interrupted True True\n"
