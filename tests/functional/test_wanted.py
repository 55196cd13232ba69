# SPDX-License-Identifier: MIT
"""Gradients that a call leaves out: the others keep every bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from bptt import _core, reference
from bptt._cells import CELLS as KINDS
from bptt._grads import Grads
from support.compare import DTYPES, same_bits
from support.problems import (
    BACKWARD,
    CELLS,
    CORE,
    OPTIONS,
    Case,
    Problem,
    backward,
    forward,
    named,
    problem,
    supported,
)

FIELDS = Grads._fields[:-1]
OWN = ("peepholes", "w_hr", "layer_norm")


def names_of(p: Problem) -> list[str]:
    return [name for name in FIELDS if name not in OWN or name in KINDS[p.cell].options]


def subsets(names: list[str], seed: int) -> list[tuple[str, ...]]:
    """None, each alone, all but each, and some at random."""
    rng = np.random.default_rng(seed)
    some = [tuple(n for n in names if rng.random() < 0.5) for _ in range(4)]
    others = [tuple(n for n in names if n != name) for name in names]
    return [(), *((name,) for name in names), *others, *some]


def gradients(p: Problem, tape: Any, names: tuple[str, ...] | None, **how: Any) -> Any:
    return backward(bptt, p, tape, **({} if names is None else {"grads": names}), **how)


def check(p: Problem, forth: dict[str, Any], back: dict[str, Any], most: int = 100) -> None:
    tape = forward(bptt, p, **forth)[2]
    whole = gradients(p, tape, None, **back)
    tried = subsets(names_of(p), len(p.cell))
    for names in tried if len(tried) <= most else tried[:: len(tried) // most + 1]:
        some = gradients(p, tape, names, **back)
        assert [n for n in FIELDS if getattr(some, n) is not None] == [
            n for n in FIELDS if n in names and getattr(whole, n) is not None
        ]
        kept = whole._replace(**{n: None for n in FIELDS if n not in names})
        same_bits(named(None, None, some), named(None, None, kept))


@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_of_every_option(isa: str, case: Case) -> None:
    for seed, shape in enumerate([(9, 5, 3, 6), (23, 13, 5, 34)]):
        p = problem(case, shape, seed=seed).cast(DTYPES[seed])
        check(p, {}, {}, most=20)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: o.id)
@pytest.mark.parametrize("case", CELLS[-2:], ids=lambda c: c.id)
def test_of_plain_cells(isa: str, case: Case, options: Any) -> None:
    for shape in [(1, 1, 1, 1), (1, 9, 33, 65), (40, 7, 9, 17), (300, 7, 20, 40)]:
        check(problem(case, shape, options, "float32"), {}, {}, most=6)


@pytest.mark.parametrize("how", BACKWARD, ids=str)
@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_with_control_and_checkpoints(case: Case, how: dict[str, Any]) -> None:
    p = problem(case, (40, 9, 7, 20))
    if supported(p, how):
        check(p, {"checkpoint": "sqrt"}, how, most=4)


@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_on_threads(case: Case) -> None:
    for shape in [(33, 17, 9, 70), (70, 3, 9, 150)]:  # which share sequences, or hidden units
        check(problem(case, shape), {}, {"threads": 2}, most=4)


@pytest.mark.skipif(not _core.has_bf16(), reason="no products in bfloat16")
@pytest.mark.parametrize("case", CELLS, ids=lambda c: c.id)
def test_of_products_in_bfloat16(case: Case) -> None:
    for shape in [(9, 5, 3, 6), (40, 24, 33, 65)]:
        check(problem(case, shape, OPTIONS[4], "float32"), {"compute": "bf16"}, {}, most=20)


@pytest.mark.parametrize("trace", [True, "full"])
@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_with_a_trace(case: Case, trace: bool | str) -> None:
    p = problem(case, (9, 5, 3, 6))
    tape = forward(bptt, p)[2]
    whole = gradients(p, tape, None, trace=trace)
    for names in [(), ("state",), ("w_ih",), ("x", "w_hh", "b_ih")]:
        some = gradients(p, tape, names, trace=trace)
        assert [n for n in FIELDS if getattr(some, n) is not None] == [
            n for n in FIELDS if n in names and getattr(whole, n) is not None
        ]
        assert np.array_equal(some.trace.norms, whole.trace.norms)
        if trace == "full" and whole.trace.source.plain_weights:
            for a, b in zip(some.trace.shares, whole.trace.shares):
                assert np.array_equal(a.share, b.share)


@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_the_reference_leaves_out_the_same(case: Case) -> None:
    p = problem(case, (4, 3, 3, 6))
    tapes = [forward(module, p)[2] for module in (bptt, reference)]
    for names in subsets(names_of(p), 1)[::3]:
        core, twin = (
            backward(module, p, tape, grads=names) for module, tape in zip((bptt, reference), tapes)
        )
        assert [a is None for a in core] == [a is None for a in twin]


@pytest.mark.parametrize("case", CORE[:1], ids=lambda c: c.id)
def test_any_collection_of_names(case: Case) -> None:
    p = problem(case, (4, 3, 3, 6))
    tape = forward(bptt, p)[2]
    for names in (["x"], {"x"}, {"x": 0}, iter(["x", "x"])):
        assert [n for n, d in gradients(p, tape, names)._asdict().items() if d is not None] == ["x"]
