# SPDX-License-Identifier: MIT
"""Tapes of less memory: the same bits, and no more bytes than were asked for."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest

import bptt
from support import child
from support.compare import DTYPES, same_bits
from support.problems import (
    BY_ID,
    CELLS,
    Case,
    Problem,
    backward,
    core_results,
    flat,
    forward,
    of_many_threads,
    problem,
)

ORDERS = ["plain", "lengths", "clip-norm-reverse", "clip-value-lengths-reverse"]
# T, B: one chunk of steps, a little more, many; a chunk is some 128 rows.
SIZES = [(1, 1), (2, 3), (129, 1), (400, 1), (700, 1), (300, 3), (3, 40), (47, 40)]
ENOUGH = 2**40  # bytes


def least_bytes(p: Problem) -> int:
    with pytest.raises(ValueError, match="checkpoint is 0, expected at least ") as refused:
        forward(bptt, p, checkpoint=0)
    return int(str(refused.value).split()[-1])


def tape_bytes(p: Problem, **how: Any) -> int:
    tape = forward(bptt, p, **how)[2]
    assert isinstance(tape.nbytes, int)
    return tape.nbytes


def ways(p: Problem) -> list[dict[str, Any]]:
    """Ways to compute the same with less memory and more time."""
    least, plain = least_bytes(p), tape_bytes(p)
    between = [least, least + (plain - least) // 4, least + plain // 2, ENOUGH]
    return [{"checkpoint": "sqrt"}, *({"checkpoint": n} for n in between if n >= least)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", ORDERS)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_the_same_bits_with_less_memory(isa: str, cell: Case, option: str, dtype: str) -> None:
    for seed, (T, B) in enumerate(SIZES):
        p = problem(cell, (T, B, 5, 19), BY_ID[option], dtype, seed)
        want = core_results(p)
        for how in ways(p):
            same_bits(core_results(p, **how), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", ["clip-norm-reverse", "lengths", "clip-value-lengths-reverse"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_the_same_bits_on_several_threads(isa: str, cell: Case, option: str, dtype: str) -> None:
    for shape in [(200, 1, 30, 437), (60, 9, 19, 171), (20, 40, 19, 171)]:
        p = problem(cell, of_many_threads(cell, shape), BY_ID[option], dtype)
        want = core_results(p, threads=1)
        for threads in (2, 3):
            same_bits(core_results(p, checkpoint="sqrt", threads=threads), want)
        same_bits(core_results(p, checkpoint=least_bytes(p), threads=2), want)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_the_same_bits_where_one_thread_is_far_ahead(cell: Case, reverse: bool) -> None:
    """Half of the work is in four sequences, and in most steps there is nothing else to do."""
    p = problem(cell, of_many_threads(cell, (200, 31, 19, 171)), BY_ID["lengths"], "float32")
    lengths = np.where(np.arange(31) % 8 == 0, 200, 30)
    p = p.given(lengths=lengths, reverse=reverse)
    want = core_results(p, threads=1)
    for how in ways(p):
        for threads in (2, 3):
            same_bits(core_results(p, threads=threads, **how), want)


@pytest.mark.parametrize("option", ["no-bias", "one-bias-no-state", "other-bias-reverse"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_the_same_bits_without_bias_or_state(isa: str, cell: Case, option: str) -> None:
    p = problem(cell, (300, 3, 5, 19), BY_ID[option])
    want = core_results(p)
    for how in ways(p):
        same_bits(core_results(p, **how), want)


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_nothing_to_compute(isa: str, cell: Case) -> None:
    for shape, option in [
        ((0, 3, 2, 5), "plain"),
        ((4, 0, 2, 5), "plain"),
        ((0, 0, 1, 1), "plain"),
    ]:
        p = problem(cell, shape, BY_ID[option])
        for how in ways(p):
            same_bits(core_results(p, **how), core_results(p))
    p = problem(cell, (300, 3, 2, 5), BY_ID["all-empty"])
    for how in ways(p):
        same_bits(core_results(p, **how), core_results(p))


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_a_tape_serves_twice_and_keeps_what_it_needs(cell: Case) -> None:
    """The weights and the initial state may change after the forward call: it has copies."""
    for option in ("plain", "clip-norm-lengths", "lengths-reverse"):
        p = problem(cell, (300, 3, 5, 19), BY_ID[option])
        want = core_results(p)
        for how in ways(p):
            _, _, tape = forward(bptt, p, **how)
            kept = p.cast("float64")
            for name in ("w_ih", "w_hh", "b_ih", "b_hh"):
                kept.arrays[name][...], p.arrays[name][...] = p.arrays[name], np.nan
            for s, changed in zip(flat(kept.arrays["state"]), flat(p.arrays["state"])):
                s[...], changed[...] = changed, np.nan
            for _ in range(2):
                grads = backward(bptt, p, tape)
                got = {f"d {k}": getattr(grads, k) for k in grads._fields[:5]}
                got |= {f"d state[{i}]": s for i, s in enumerate(flat(grads.state))}
                same_bits(got, {name: want[name] for name in got})
            p = p._replace(arrays={**kept.arrays, "x": p.arrays["x"]})


def test_padding_is_never_read_when_values_are_computed_again(isa: str) -> None:
    for cell in CELLS:
        p = problem(cell, (300, 5, 3, 19), BY_ID["lengths-reverse"])
        padding = np.arange(300)[:, None] >= p.lengths
        x, dy = p.arrays["x"].copy(), p.dy.copy()
        x[padding], dy[padding] = np.nan, np.inf
        got = core_results(p._replace(arrays={**p.arrays, "x": x}, dy=dy), checkpoint="sqrt")
        same_bits(got, core_results(p))


# --- bytes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", ["plain", "lengths-reverse"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_the_least_that_is_asked_for_is_enough(cell: Case, option: str, dtype: str) -> None:
    for seed, (T, B) in enumerate([(1, 1), (700, 1), (300, 3), (100, 40)]):
        p = problem(cell, (T, B, 5, 19), BY_ID[option], dtype, seed)
        least, plain = least_bytes(p), tape_bytes(p)
        for limit in (least - 1, least // 2, 1):
            text = f"{cell.cell}_forward: checkpoint is {limit}, expected at least {least}"
            with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
                forward(bptt, p, checkpoint=limit)
        for limit in (least, least + 1, least + plain // 3, 2 * least, ENOUGH):
            assert tape_bytes(p, checkpoint=limit) <= limit
        assert tape_bytes(p, checkpoint=ENOUGH) == plain


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_a_tape_grows_as_the_root_of_the_steps(cell: Case, dtype: str) -> None:
    def size(T: int, **how: Any) -> int:
        return tape_bytes(problem(cell, (T, 1, 2, 8), dtype=dtype), **how)

    assert size(1, checkpoint="sqrt") == size(1)
    if cell.cell == "rnn":  # y is all that its gradient needs: there is nothing to compute again
        return
    short, long = size(4000, checkpoint="sqrt"), size(64_000, checkpoint="sqrt")
    assert long < 6 * short
    assert size(64_000) > 12 * size(4000)
    assert short < 0.5 * size(4000)
    assert long < 0.1 * size(64_000)
    assert size(64_000, checkpoint=3 * long) <= 3 * long


def test_with_less_memory_segments_get_shorter() -> None:
    lstm = next(c for c in CELLS if c.id == "lstm")
    p = problem(lstm, (6000, 1, 2, 8))
    least, plain = least_bytes(p), tape_bytes(p)
    limits = np.linspace(least, 2 * plain, 8).astype(int)
    sizes = [tape_bytes(p, checkpoint=int(n)) for n in limits]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 2
    assert sizes[0] < least < plain / 2
    assert "Tape(lstm, T=6000" in repr(forward(bptt, p, checkpoint="sqrt")[2])


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_inference_has_no_tape_to_save(cell: Case) -> None:
    p = problem(cell, (300, 3, 5, 19), BY_ID["lengths"])
    y, state, none = forward(bptt, p, keep_tape=False)
    for how in ({"checkpoint": "sqrt"}, {"checkpoint": 0}, {"checkpoint": ENOUGH}):
        y2, state2, none2 = forward(bptt, p, keep_tape=False, **how)
        assert none is none2 is None
        same_bits({"y": y, **states(state)}, {"y": y2, **states(state2)})


def states(state: Any) -> dict[str, Any]:
    return {f"state[{i}]": s for i, s in enumerate(flat(state))}


def test_a_number_of_bytes_may_be_of_any_kind_of_integer() -> None:
    x, w = np.ones((300, 1, 1)), np.ones((4, 1))
    limits: list[Any] = [np.int64(10**6), np.uint32(10**6), 10**18]
    for limit in limits:
        tape = bptt.lstm_forward(x, w, w, checkpoint=limit)[2]
        assert tape is not None
        assert tape.nbytes <= limit


# VmHWM and not ru_maxrss, which a child inherits from its parent.
PROGRAM = """
import numpy as np
import bptt

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) * 1024

T, I, H = {T}, 16, 128
rng = np.random.default_rng(0)

def random(*shape):
    out = np.empty(shape, np.float32)
    for part in out.reshape(-1, shape[-1])[:, None]:  # no large temporary array
        part[...] = 0.05
    return out

x, dy = random(T, 1, I), random(T, 1, H)
w_ih, w_hh, b = random(4 * H, I), random(4 * H, H), random(4 * H)

def train(x, dy, **how):
    y, _, tape = bptt.lstm_forward(x, w_ih, w_hh, b, b, **how)
    return y, bptt.lstm_backward(tape, dy)

train(x[:200], dy[:200], checkpoint="sqrt")  # what only the first call needs
before = status("VmRSS")
assert status("VmHWM") < before + 1e6, "something else was larger"
y, grads = train(x, dy, **{how})
results = sum(a.nbytes for a in (y, *grads[:5]))
print(status("VmHWM") - before - results)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident size of Linux")
def test_a_hundred_thousand_steps_train_in_little_memory() -> None:
    peak = int(child.output(PROGRAM.format(T=100_000, how={"checkpoint": "sqrt"})))
    assert peak < 60e6


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident size of Linux")
def test_tape_and_workspace_take_no_more_than_the_bytes_of_a_checkpoint() -> None:
    peak = int(child.output(PROGRAM.format(T=40_000, how={"checkpoint": 40_000_000})))
    assert 10e6 < peak < 40e6 + 3e6, "memory comes in pages, some of 2 MiB"
