# SPDX-License-Identifier: MIT
"""Every option of every recurrence in the reference: gradients, and what each option equals."""

from __future__ import annotations

import pytest

from bptt import reference
from cases import assert_close
from recurrences import (
    CASES,
    Case,
    call,
    gradients,
    results,
)

EXACT = [c for c in CASES if not reference.CELLS[c.cell].truncated]
BY_ID = {c.id: c for c in CASES}


@pytest.mark.parametrize("case", EXACT, ids=lambda c: c.id)
def test_backward_is_the_complex_step_derivative(case: Case) -> None:
    for seed, (shape, bias) in enumerate([((5, 2, 2, 4), True), ((7, 3, 3, 4), False)]):
        c = call(case, shape, seed=seed, bias=bias)
        got, want = results(c), gradients(c)
        tolerance = 1e-11 if "layer_norm" in c.arrays else 1e-12
        assert_close({name: got[name] for name in want}, want, tolerance)
        assert {name for name in got if name.startswith("d ")} == want.keys()
