# SPDX-License-Identifier: MIT
"""The suite's power: wrong gradients must fail the checks of test_reference and test_core.

Core and reference are compared with tight tolerances, so a mutant of the reference stands for one
of the core as well. `scripts/mutate_core.py` mutates the C++ itself; it builds for each mutant, so
it runs by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference
from bptt.reference import loop
from support import textbook
from support.compare import TOLERANCE, assert_close
from support.complex_step import gradients
from support.mutants import mutants
from support.problems import (
    BY_ID,
    CASES,
    CELLS,
    OPTIONS,
    Case,
    Problem,
    backward,
    flat,
    forward,
    problem,
    reference_results,
    results,
    state_of,
)

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
    """The check of test_reference, with the tolerance of float32."""
    states = p.dstate if isinstance(p.dstate, tuple) else (p.dstate,)
    zeros = tuple(np.zeros_like(p.dy[0]) for _ in range(reference.CELLS[p.cell].states))
    given = p._replace(
        dy=np.zeros((*p.arrays["x"].shape[:2], len(p.arrays["w_hh"][0]))) if p.dy is None else p.dy,
        dstate=(zeros if len(zeros) > 1 else zeros[0]) if states[0] is None else p.dstate,
    )
    want = gradients(given)

    def check() -> None:
        got = reference_results(p)
        assert_close({name: got[name] for name in want}, want, TOLERANCE["float32"])

    return check


OF_CELLS = {
    "rnn": ["leak"],
    "lstm": [
        "peepholes",
        "coupled-peepholes",
        "clips",
        "none",
        "layer_norm-peepholes",
        "projected-plain",
    ],
    "gru": ["before-clip-mask"],
    "mgu": ["plain", "preact_clip"],
    "slstm": ["plain"],
    "lstm1997": ["plain"],
}
OF_LOOP = ["skip-resets-reverse", "dilation-lengths", "zoneout-skip-dilation"]


def option_checks(cell: str, ids: list[str], expected: Any, **how: Any) -> list[Check]:
    """Checks of cases: ``expected`` gives all results, or gradients alone."""

    def checked(c: Problem) -> Check:
        want = expected(c, **how)

        def check() -> None:
            got = results(reference, c, **how)
            assert_close({name: got[name] for name in want}, want, TOLERANCE["float32"])

        return check

    cases = [c for c in CASES if c.id in [f"{cell}-{name}" for name in ids]]
    assert len(cases) == len(ids)
    return [checked(problem(c, (5, 2, 2, 4))) for c in cases]


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_wrong_cell_gradients_are_caught(cell: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    row = reference.CELLS[cell.cell]

    def install(mutant: Any) -> None:
        monkeypatch.setitem(reference.CELLS, cell.cell, row._replace(grad=mutant))

    checks = [gradient_check(problem(cell, (4, 2, 3, 4)))]
    checks += option_checks(cell.cell, OF_CELLS[cell.cell], gradients)
    assert survivors(row.grad, install, checks) == []


def empty_memory_check(expected: Any) -> Check:
    """An sLSTM that has seen nothing, with any scale of its empty memory."""
    case = next(c for c in CASES if c.id == "slstm-plain")
    c = problem(case, (5, 2, 2, 4))
    h, _, _, m = c.arrays["state"]
    state = (h, np.zeros_like(h), np.zeros_like(h), np.full_like(m, 50.0))
    c = c._replace(arrays={**c.arrays, "state": state})
    want = expected(c)

    def check() -> None:
        got = results(reference, c)
        assert_close({name: got[name] for name in want}, want, TOLERANCE["float32"])

    return check


def trace_check(zoneout: Any) -> Check:
    """The gradient of an LSTM's c at every step, compared with the core."""
    case = next(c for c in CASES if c.id == "lstm-plain")
    c = problem(case, (5, 2, 2, 4))
    c = c._replace(options={**c.options, "zoneout": zoneout})

    def dc(module: Any) -> Any:
        tape = forward(module, c)[2]
        return {"dc": backward(module, c, tape, trace=True).trace.dc}

    want = dc(bptt)
    return lambda: assert_close(dc(reference), want, TOLERANCE["float32"])


@pytest.mark.parametrize("part", ["step", "grad"])
@pytest.mark.parametrize("name", ["mgu", "slstm", "lstm1997"])
def test_wrong_cells_are_caught(name: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = pytest.importorskip("support.torch_twin")
    row = reference.CELLS[name]

    def install(mutant: Any) -> None:
        monkeypatch.setitem(reference.CELLS, name, row._replace(**{part: mutant}))

    checks = option_checks(name, OF_CELLS[name], twin.results)
    if name == "slstm":
        checks.append(empty_memory_check(twin.results))
    assert survivors(getattr(row, part), install, checks) == []


@pytest.mark.parametrize("name", ["step", "step_grad", "mixed", "retreat", "is_cut", "filled"])
def test_wrong_steps_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = pytest.importorskip("support.torch_twin")

    def install(mutant: Any) -> None:
        monkeypatch.setattr(loop, name, mutant)

    checks = option_checks("lstm", [*OF_LOOP, "projected-layer_norm-skip"], twin.results, cut=2)
    checks += option_checks(
        "gru", ["before-clip-mask", "before-lengths", "zoneout"], twin.results, cut=3
    )
    checks += option_checks("lstm1997", ["zoneout"], twin.results)
    clip = ("value", 0.1, "gates")
    checks += option_checks("mgu", ["plain"], twin.results, step_clip=clip)
    checks += [trace_check(zoneout) for zoneout in (None, (0.4, 0.0), (0.0, 0.4))]
    assert survivors(getattr(loop, name), install, checks) == []


def forward_check(p: Problem) -> Check:
    want = textbook.outputs(p)

    def check() -> None:
        got = reference_results(p)
        assert_close({name: got[name] for name in want}, want, TOLERANCE["float32"])

    return check


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_wrong_equations_are_caught(cell: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the gradient fits the wrong equations."""
    row = reference.CELLS[cell.cell]

    def install(mutant: Any) -> None:
        monkeypatch.setitem(reference.CELLS, cell.cell, row._replace(step=mutant))

    checks = [forward_check(problem(cell, (4, 3, 2, 3)))]
    if cell.cell != "gru":  # the textbook has no options of a step
        twin = pytest.importorskip("support.torch_twin")
        checks += option_checks(cell.cell, OF_CELLS[cell.cell], twin.results)
    assert survivors(row.step, install, checks) == []


def test_a_wrong_forward_loop_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def install(mutant: Any) -> None:
        monkeypatch.setattr(reference, "forward", mutant)

    cells = [c for c in CELLS if c.cell in ("lstm", "gru")]
    problems = [problem(c, (4, 3, 2, 3), o) for c in cells for o in OPTIONS if not o.step_clip]
    checks = [check(p) for p in problems for check in (forward_check, gradient_check)]
    checks += option_checks("gru", OF_LOOP, gradients)
    # Not wrong: the padding of x counts for nothing, whatever finite number it is.
    equivalent = ["forward: 0 -> 1 in `x = np.where(active[:, :, None], x, 0)`"]
    assert survivors(reference.forward, install, checks) == equivalent


@pytest.mark.parametrize("name", list(reference.ACTIVATIONS))
def test_a_wrong_derivative_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check = gradient_check(problem(Case(name, "rnn", {"activation": name}), (4, 2, 3, 4)))
    check()
    value, derivative = reference.ACTIVATIONS[name]
    for wrong in (
        lambda a, y: 0.9 * derivative(a, y),
        lambda a, y: derivative(a, y) + 0.1,
        lambda a, y: 1 - y,
    ):
        monkeypatch.setitem(reference.ACTIVATIONS, name, (value, wrong))
        assert fails(check)


def loop_checks(name: str) -> list[Check]:
    cell = next(c for c in CELLS if c.cell == name)
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
    checks += option_checks("gru", OF_LOOP, gradients)
    checks += [
        gradient_check(with_state_after_resets("lstm")),
        gradient_check(with_state_after_resets("gru").given(skip=2)),
    ]
    assert survivors(reference.backward, install, checks) == []


def with_state_after_resets(cell: str) -> Problem:
    """A state has a row more, which follows each reset."""
    p = problem(Case("", cell, {"resets": True}), (5, 2, 3, 4))
    rng = np.random.default_rng(5)
    states = [np.concatenate([s, rng.normal(size=s[:1].shape)]) for s in flat(p.arrays["state"])]
    return p._replace(arrays={**p.arrays, "state": state_of(states)})


def no_dy(p: Problem) -> None:
    """A dy that is left out counts as zeros."""
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
