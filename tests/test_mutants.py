# SPDX-License-Identifier: MIT
"""The suite's power: wrong gradients must fail the checks of test_reference and test_core.

Core and reference are compared with tight tolerances, so a mutant of the reference stands for one
of the core as well. `tests/mutate_core.py` mutates the C++ itself; it builds for each mutant, so
it runs by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import textbook
from bptt import reference
from cases import (
    CELLS,
    OPTIONS,
    TOLERANCE,
    Cell,
    Problem,
    assert_close,
    problem,
    reference_results,
)
from complex_step import gradients
from mutants import mutants

BY_ID = {o.id: o for o in OPTIONS}
Check = Callable[[], None]  # raises if something is wrong


def survivors(function: Any, install: Callable[[Any], None], checks: list[Check]) -> list[str]:
    left, count = [], 0
    for label, mutant in mutants(function):
        install(mutant)
        count += 1
        if not any(fails(check) for check in checks):
            left.append(label)
    assert count >= 3
    return left


def fails(check: Check) -> bool:
    try:
        with np.errstate(all="ignore"):
            check()
    except (AssertionError, ValueError, TypeError, IndexError):
        return True
    return False


def gradient_check(p: Problem) -> Check:
    """As test_reference does, but as loose as float32 is compared."""
    states = p.dstate if isinstance(p.dstate, tuple) else (p.dstate,)
    zeros = tuple(np.zeros_like(p.dy[0]) for _ in range(reference.CELLS[p.cell.name].states))
    given = p._replace(
        dy=np.zeros((*p.arrays["x"].shape[:2], len(p.arrays["w_hh"][0]))) if p.dy is None else p.dy,
        dstate=(zeros if len(zeros) > 1 else zeros[0]) if states[0] is None else p.dstate,
    )
    want = gradients(given)

    def check() -> None:
        got = reference_results(p)
        assert_close({name: got[name] for name in want}, want, TOLERANCE["float32"])

    return check


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_wrong_cell_gradients_are_caught(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    row = reference.CELLS[cell.name]

    def install(mutant: Any) -> None:
        monkeypatch.setitem(reference.CELLS, cell.name, row._replace(grad=mutant))

    checks = [gradient_check(problem(cell, (4, 2, 3, 4)))]
    assert survivors(row.grad, install, checks) == []


def forward_check(p: Problem) -> Check:
    want = textbook.outputs(p)

    def check() -> None:
        got = reference_results(p)
        assert_close({name: got[name] for name in want}, want, TOLERANCE["float32"])

    return check


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_wrong_equations_are_caught(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the gradient fits the wrong equations."""
    row = reference.CELLS[cell.name]

    def install(mutant: Any) -> None:
        monkeypatch.setitem(reference.CELLS, cell.name, row._replace(step=mutant))

    checks = [forward_check(problem(cell, (4, 3, 2, 3)))]
    assert survivors(row.step, install, checks) == []


def test_a_wrong_forward_loop_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def install(mutant: Any) -> None:
        monkeypatch.setattr(reference, "forward", mutant)

    cells = [c for c in CELLS if c.name in ("lstm", "gru")]
    problems = [problem(c, (4, 3, 2, 3), o) for c in cells for o in OPTIONS if not o.step_clip]
    checks = [check(p) for p in problems for check in (forward_check, gradient_check)]
    # Not wrong: the padding of x counts for nothing, whatever finite number it is.
    equivalent = ["forward: 0 -> 1 in `x = np.where(active[:, :, None], x, 0)`"]
    assert survivors(reference.forward, install, checks) == equivalent


@pytest.mark.parametrize("name", list(reference.ACTIVATIONS))
def test_a_wrong_derivative_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check = gradient_check(problem(Cell(name, "rnn", {"activation": name}), (4, 2, 3, 4)))
    check()
    value, derivative = reference.ACTIVATIONS[name]
    for wrong in (lambda y: 0.9 * derivative(y), lambda y: derivative(y) + 0.1, lambda y: 1 - y):
        monkeypatch.setitem(reference.ACTIVATIONS, name, (value, wrong))
        assert fails(check)


def loop_checks(name: str) -> list[Check]:
    cell = next(c for c in CELLS if c.name == name)
    p = problem(cell, (4, 3, 2, 3), BY_ID["lengths-reverse"])
    return [
        gradient_check(p),
        gradient_check(p._replace(dstate=None)),
        gradient_check(problem(cell, (4, 3, 2, 3), BY_ID["no-bias"])),
        lambda: no_dy(p._replace(dy=None)),
    ]


def test_a_wrong_loop_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def install(mutant: Any) -> None:
        monkeypatch.setattr(reference, "backward", mutant)

    checks = loop_checks("lstm") + loop_checks("gru")
    assert survivors(reference.backward, install, checks) == []


def no_dy(p: Problem) -> None:
    """Gradients without dy are those with zeros."""
    zeros = np.zeros((4, 3, 3))
    assert_close(reference_results(p), reference_results(p._replace(dy=zeros)), 1e-12)


def test_wrong_clipping_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    dh = np.array([[3.0, -4.0], [-0.3, 0.4], [0.0, 0.0]])

    def check(clip: Any, kind: str, bound: float, want: Any) -> None:
        assert_close({"dh": clip(dh, (kind, bound))}, {"dh": np.array(want)}, 1e-12)

    def installed(kind: str, bound: float, want: Any) -> Check:
        return lambda: check(reference.clip_step, kind, bound, want)

    checks = [
        installed("value", 0.35, [[0.35, -0.35], [-0.3, 0.35], [0.0, 0.0]]),
        installed("norm", 2.5, [[1.5, -2.0], [-0.3, 0.4], [0.0, 0.0]]),
        installed("norm", 0.25, [[0.15, -0.2], [-0.15, 0.2], [0.0, 0.0]]),
    ]

    def install(mutant: Any) -> None:
        monkeypatch.setattr(reference, "clip_step", mutant)

    assert survivors(reference.clip_step, install, checks) == []
