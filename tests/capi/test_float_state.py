# SPDX-License-Identifier: MIT
"""The C interface in any floating-point state of its host, which it leaves as it was."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import bptt
from support import float_state, toolchain
from support.compare import DTYPES, same_bits
from support.embedded import Call, How, pointer
from support.problems import CELLS, Case, problem

HOWS = {
    "plain": How(),
    "packed": How(packed=True),
    "threads": How(threads=3, parallel="on_threads"),
    "in order": How(threads=3, parallel="in_order"),
}
PARALLEL = ctypes.CFUNCTYPE(None, pointer, ctypes.c_int, pointer, pointer)
TASK = ctypes.CFUNCTYPE(None, pointer, ctypes.c_int)


@pytest.fixture
def library() -> Any:
    float_state.needed()
    return toolchain.shared_library()


def vanishing(case: Case, dtype: str) -> Any:
    p = problem(case, (12, 40, 30, 90)).cast(dtype)
    return p._replace(dy=p.dy * np.asarray(100 * np.finfo(dtype).tiny, dtype))


def results(library: Any, p: Any, how: How) -> dict[str, Any]:
    call = Call(library, p, how)
    return call.forward() | call.backward()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS.keys())
@pytest.mark.parametrize("case", CELLS, ids=lambda c: c.id)
def test_any_state_gives_the_same_bits(library: Any, case: Case, how: How, dtype: str) -> None:
    p = vanishing(case, dtype)
    want = results(library, p, How())
    with float_state.changed(float_state.STATES["both"]):
        got = results(library, p, how)
    same_bits(got, want)
    nonzero = abs(got["d x"][got["d x"] != 0])
    assert nonzero.min() >= np.finfo(dtype).tiny


def test_one_step_gives_them_too(library: Any) -> None:
    p = problem(CELLS[-1], (3, 2, 5, 9))
    want = Call(library, p, How(stepped=True), train=False).forward()
    with float_state.changed(float_state.STATES["both"]):
        got = Call(library, p, How(stepped=True), train=False).forward()
    same_bits(got, want)


def test_parallel_for_runs_in_the_hosts_state(library: Any) -> None:
    """A thread has its state before, during and after its tasks."""
    seen = []

    @PARALLEL
    def parallel(_: Any, count: int, task: Any, argument: Any) -> None:
        for index in range(count):
            seen.append(float_state.get())
            TASK(task)(argument, index)
            seen.append(float_state.get())

    p = vanishing(CELLS[-1], "float32")
    with float_state.changed(float_state.STATES["both"]) as modes:
        call = Call(library, p, How(threads=3))
        call.desc.parallel_for = ctypes.cast(parallel, pointer)
        call.forward()
        call.backward()
    assert len(seen) >= 8
    assert set(seen) == {modes}


def test_the_host_sees_no_exception_of_a_kernel(library: Any) -> None:
    """Neither as a flag nor, where it asked for them, as a trap, which would end this process."""
    libm = float_state.libm
    overflow, underflow, invalid, zero = 8, 16, 1, 4
    wanted = overflow | underflow | invalid | zero
    p = vanishing(CELLS[-1], "float32")
    p.arrays["x"][0, 0] = 3e38
    p.arrays["x"][1, 1] = np.inf
    call = Call(library, p)
    libm.feclearexcept(wanted)
    before = libm.feenableexcept(wanted)
    if before == -1:
        pytest.skip("this CPU has no traps")
    try:
        call.forward()
        flags = libm.fetestexcept(wanted)
    finally:
        libm.fedisableexcept(wanted)
    assert flags == 0
    assert not np.isfinite(call.y).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_optimisers_keep_subnormal_numbers(library: Any, dtype: str) -> None:
    tiny = np.finfo(dtype).tiny
    p, g = np.zeros(3, dtype), np.array([1, -3, 0.5], dtype) * tiny
    want = {"p": p.copy()}
    bptt.SGD(want, lr=0.125).step({"p": g})
    with float_state.changed(float_state.STATES["both"]):
        code = int(dtype == "float64")
        address = p.ctypes.data
        assert 0 == library.bptt_sgd(code, 3, address, g.ctypes.data, None, 0.125, 0.0)
    assert (p != 0).all()
    assert p.tobytes() == want["p"].tobytes()
