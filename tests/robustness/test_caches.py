# SPDX-License-Identifier: MIT
"""The bits of all results do not depend on the sizes of the caches that products are cut for."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

import bptt
from bptt import _core
from support import child
from support.compare import DTYPES, same_bits
from support.problems import (
    BY_ID,
    CELLS,
    Case,
    Shape,
    backward,
    core_results,
    forward,
    named,
    problem,
)

# From pieces of one input to no pieces at all.
SIZES = ["1,1,1", "1k,3k,7k", "8k,24k,1m", "32k,512k,32m", "1m,1024m,1048576m"]
# Rows of one register tile, of several, and of more than wait for the next piece; odd widths.
SHAPES: list[Shape] = [(5, 3, 21, 35), (4, 13, 70, 37), (3, 211, 9, 41), (2, 7, 530, 19)]
ORDERS = ["plain", "clip-norm-lengths", "lengths-reverse"]


@pytest.fixture(autouse=True)
def _sizes_as_before() -> Iterator[None]:
    yield
    _core.use_caches("")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", ORDERS)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_any_caches_give_the_same_bits(isa: str, cell: Case, option: str, dtype: str) -> None:
    for shape in SHAPES:
        p = problem(cell, shape, BY_ID[option], dtype)
        _core.use_caches("1m,1024m,1048576m")
        want = core_results(p, threads=1)
        for sizes in SIZES[:-1]:
            _core.use_caches(sizes)
            same_bits(core_results(p, threads=1), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_so_do_threads_and_checkpoints(isa: str, cell: Case, dtype: str) -> None:
    for shape in [(30, 13, 30, 119), (50, 3, 30, 219)]:
        p = problem(cell, shape, BY_ID["clip-norm-lengths"], dtype)
        want = core_results(p, threads=1)
        for sizes, threads in (("1,1,1", 2), ("8k,24k,1m", 3), ("1k,3k,7k", 1)):
            _core.use_caches(sizes)
            same_bits(core_results(p, threads=threads), want)
            same_bits(core_results(p, threads=threads, checkpoint="sqrt"), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_so_does_a_trace(isa: str, cell: Case, dtype: str) -> None:
    """One sequence alone, a few and several, measured step by step or by chunk."""
    for shape in [(150, 1, 3, 34), (30, 3, 5, 21), (30, 13, 5, 21)]:
        p = problem(cell, shape, BY_ID["plain"], dtype)
        norms = []
        for sizes in ("1m,1024m,1048576m", "1,1,1"):
            _core.use_caches(sizes)
            tape = forward(bptt, p)[2]
            norms.append(backward(bptt, p, tape, trace=True).trace.norms)
        assert (norms[0][:, :, 0] > 0).all()
        assert np.array_equal(*norms)


def test_a_tape_serves_under_other_sizes() -> None:
    p = problem(CELLS[0], (9, 13, 30, 119), BY_ID["plain"], "float32")
    want = core_results(p)
    _core.use_caches("1,1,1")
    y, state, tape = forward(bptt, p)
    _core.use_caches("32k,1m,32m")
    same_bits(named(y, state, backward(bptt, p, tape)), want)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("32k,512k,32m", "32k,512k,32m"),
        ("32768,1024K,33M", "32k,1m,33m"),
        ("1,1025,1m", "1,1025,1m"),
    ],
)
def test_the_environment_sets_the_sizes(given: str, shown: str) -> None:
    program = "import bptt; print(bptt.show_config()['caches'])"
    assert child.output(program, BPTT_CACHES=given) == shown + "\n"
    information = child.output("from bptt.cli import main; main(['info'])", BPTT_CACHES=given)
    assert re.search(rf"^caches +{shown}$", information, re.M)


def test_by_default_they_are_those_of_the_machine() -> None:
    assert child.output("import bptt; print(bptt.show_config()['caches'])", BPTT_CACHES="") == (
        child.output("import bptt; print(bptt.show_config()['caches'])", BPTT_CACHES=None)
    )
    first, second, _ = _core.caches().split(",")
    kib = {"k": 1, "m": 1024}
    assert 8 <= int(first[:-1]) * kib[first[-1]] <= 1024
    assert 64 <= int(second[:-1]) * kib[second[-1]] <= 1 << 16


BAD = ["32k", "32k,512k", "32k,512k,", "32k,512k,32m,1", "0,1,1", "-1,1,1", "1g,1,1", "1kk,1,1"]


@pytest.mark.parametrize("given", [*BAD, " 1,1,1", "1, 1,1", "99999999999999999999,1,1", "x"])
def test_a_bad_list_is_refused_at_the_first_call(given: str) -> None:
    program = """
        import bptt

        for call in (bptt.show_config, lambda: bptt.rnn_forward([[[1.0]]], [[1.0]], [[1.0]])):
            try:
                call()
            except ValueError as error:
                print(error)
    """
    text = f"BPTT_CACHES is '{given}', expected the sizes of three caches, such as 32k,512k,32m"
    assert child.output(program, BPTT_CACHES=given).splitlines() == [text] * 2
    with pytest.raises(ValueError, match=f"^caches is '{re.escape(given)}', expected the sizes"):
        _core.use_caches(given)
