# SPDX-License-Identifier: MIT
"""Real-time recurrent learning gives what backpropagation through time gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference
from support.compare import assert_close
from support.problems import CELLS, OPTIONS, Case, Options, Problem, flat, problem
from support.problems import reference_results as bptt_results

SHAPES = [(7, 3, 2, 4), (1, 1, 3, 2), (12, 2, 1, 1), (0, 2, 3, 2)]
UNCLIPPED = [o for o in OPTIONS if o.step_clip is None]


def rtrl_results(p: Problem, **changed: Any) -> dict[str, Any]:
    """The gradients, named as in `problems.results`."""
    given = {"dy": p.dy, "dstate": p.dstate} | changed
    grads = reference.rtrl(p.cell, *p.arrays.values(), **given, **p.options)
    named = {f"d {k}": v for k, v in grads._asdict().items() if k != "state" and v is not None}
    return named | {f"d state[{i}]": s for i, s in enumerate(flat(grads.state))}


@pytest.mark.parametrize("options", UNCLIPPED, ids=lambda o: o.id)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_rtrl_is_bptt(cell: Case, options: Options) -> None:
    for seed, shape in enumerate(SHAPES[:3]):
        p = problem(cell, shape, options, seed=seed)
        want = {k: v for k, v in bptt_results(p).items() if k.startswith("d ")}
        assert_close(rtrl_results(p), want, 1e-12)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_rtrl_of_an_empty_sequence(name: str) -> None:
    p = problem(Case(name, name), SHAPES[3])
    got = rtrl_results(p)
    assert all(np.array_equal(got[f"d state[{i}]"], d) for i, d in enumerate(flat(p.dstate)))
    assert not any(np.any(v) for k, v in got.items() if "state" not in k)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_gradients_may_be_left_out(name: str) -> None:
    p = problem(Case(name, name), SHAPES[0])
    zeros = tuple(np.zeros_like(d) for d in flat(p.dstate))
    want = rtrl_results(p, dstate=zeros if len(zeros) > 1 else zeros[0])
    assert_close(rtrl_results(p, dstate=None), want, 0)
    assert_close(rtrl_results(p, dy=None), rtrl_results(p, dy=np.zeros_like(p.dy)), 0)
    if name == "lstm":
        half = (p.dstate[0], np.zeros_like(p.dstate[1]))
        assert_close(rtrl_results(p, dstate=(p.dstate[0], None)), rtrl_results(p, dstate=half), 0)


def test_a_linear_unit_by_hand() -> None:
    """h_T = w^T h_0: dh_T/dw = T w^(T-1) h_0, and dh_T/dh_0 = w^T."""
    x, one = np.zeros((10, 1, 1)), np.ones((1, 1))
    d = reference.rtrl(
        "rnn", x, one, 0.9 * one, None, None, 2 * one, None, one, activation="identity"
    )
    assert d.w_hh.item() == pytest.approx(10 * 0.9**9 * 2, rel=1e-13)
    assert d.state.item() == pytest.approx(0.9**10, rel=1e-13)
    assert d.b_ih is None


@pytest.mark.parametrize("k2", [4, 11])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_truncated_gradients_are_others_until_the_window_has_all(name: str, k2: int) -> None:
    T, B, I, H = 12, 3, 2, 4
    p = problem(Case(name, name), (T, B, I, H))
    layer = getattr(bptt, name.upper())(I, H, dtype="float64")
    weights = [p.arrays[k] for k in ("w_ih", "w_hh", "b_ih", "b_hh")]
    layer.load(dict(zip(layer.parameters, weights)))
    state = [s[None] for s in flat(p.arrays["state"])]
    initial = tuple(state) if name == "lstm" else state[0]
    want = rtrl_results(p, dstate=None)["d w_hh"]

    def total(k2: int) -> Any:
        chunks = bptt.tbptt(layer, p.arrays["x"], 4, k2, initial)
        return sum(c.backward(p.dy[c.steps]).params["weight_hh_l0"] for c in chunks)

    assert np.abs(total(T) - want).max() < 1e-12 * np.abs(want).max()
    assert np.abs(total(k2) - want).max() > 1e-6 * np.abs(want).max()
