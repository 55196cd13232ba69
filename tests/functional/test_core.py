# SPDX-License-Identifier: MIT
"""The core equals the reference: every cell, instruction set, dtype, shape and option."""

from __future__ import annotations

import pytest

from support.compare import DTYPES, TOLERANCE, assert_close, same_bits_per_sequence
from support.problems import (
    BY_ID,
    CELLS,
    LONG_SHAPES,
    OPTIONS,
    SHAPES,
    Case,
    Options,
    core_results,
    problem,
    reference_results,
    take,
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: o.id)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_core_equals_reference(isa: str, cell: Case, options: Options, dtype: str) -> None:
    for seed, shape in enumerate(SHAPES):
        p = problem(cell, shape, options, dtype, seed)
        got = core_results(p)
        assert all(array.dtype == dtype for array in got.values())
        assert_close(got, reference_results(p), TOLERANCE[dtype])


MANY_SUMS = [(c, d) for c in CELLS for d in DTYPES if not (c.kink and d == "float32")]


@pytest.mark.parametrize("shape", LONG_SHAPES, ids=str)
@pytest.mark.parametrize(("cell", "dtype"), MANY_SUMS, ids=lambda v: getattr(v, "id", v))
def test_core_equals_reference_over_many_chunks(
    isa: str, cell: Case, shape: tuple[int, int, int, int], dtype: str
) -> None:
    for seed, name in enumerate(("plain", "lengths", "lengths-reverse", "clip-norm-reverse")):
        p = problem(cell, shape, BY_ID[name], dtype, seed)
        assert_close(core_results(p), reference_results(p), TOLERANCE[dtype])


@pytest.mark.parametrize(("cell", "dtype"), MANY_SUMS, ids=lambda v: getattr(v, "id", v))
def test_few_rows_take_weights_as_they_lie_and_get_the_same_bits(
    isa: str, cell: Case, dtype: str
) -> None:
    for shape in [(1, 1, 300, 170), (1, 8, 150, 40), (2, 3, 300, 33), (8, 1, 5, 300)]:
        for name in ("plain", "lengths-reverse"):
            p = problem(cell, shape, BY_ID[name], dtype)
            assert_close(core_results(p), reference_results(p), TOLERANCE[dtype])
        T, B, *_ = shape
        p = problem(cell, (T, 5 * B, *shape[2:]), BY_ID["plain"], dtype)
        some = list(range(B))
        same_bits_per_sequence(core_results(take(p, some)), core_results(p), some)


def test_core_equals_reference_with_weights_larger_than_a_cache(isa: str) -> None:
    for cell, name in ((CELLS[0], "plain"), (CELLS[0], "lengths-reverse")):
        p = problem(cell, (15, 36, 1024, 530), BY_ID[name], "float64")
        assert_close(core_results(p), reference_results(p), TOLERANCE["float64"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_every_size_from_one_up(isa: str, cell: Case, dtype: str) -> None:
    """All tails of the vectors and all rests of the tiles, in H, I and B."""
    for n in range(1, 36):
        shape = (3, 1 + n % 14, 1 + (7 * n) % 35, n)
        p = problem(cell, shape, OPTIONS[n % len(OPTIONS)], dtype, seed=n)
        assert_close(core_results(p), reference_results(p), TOLERANCE[dtype])
