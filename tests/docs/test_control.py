# SPDX-License-Identifier: MIT
"""docs/control.md: its tables show the recorded results, and its rows can be measured again."""

from __future__ import annotations

import importlib.util
import json
import math
import sys

import pytest

from support.paths import ROOT

SPEC = importlib.util.spec_from_file_location("control", ROOT / "benchmarks" / "control.py")
control = importlib.util.module_from_spec(SPEC)
sys.modules["control"] = control  # dataclasses look their module up
SPEC.loader.exec_module(control)
RESULTS = json.loads(control.RESULTS.read_text("utf-8"))
RUNS = [
    # The regulariser takes longer than all other rows.
    pytest.param(table, run, marks=pytest.mark.slow if "flossing" in run.name else ())
    for table in control.TABLES
    for run in table.runs
]


def test_the_page_has_the_tables_of_the_results():
    page = control.PAGE.read_text("utf-8")
    assert page.count("<!-- control ") == len(control.TABLES)
    assert control.update(page, RESULTS) == page, "python benchmarks/control.py"


def test_the_results_are_those_of_the_rows():
    for table in control.TABLES:
        assert list(RESULTS[table.name]) == [run.name for run in table.runs]
        assert all(len(rows) == table.seeds for rows in RESULTS[table.name].values())


@pytest.mark.parametrize(("table", "run"), RUNS, ids=lambda v: v.name)
def test_a_row_measured_again_starts_where_it_did(table, run):
    """The horizon at the start must be equal; the training must only run."""
    got = control.measure(table, run, seed=0, updates=2)
    want = RESULTS[table.name][run.name][0]["before"]
    if want is None or got["before"] is None:
        assert want is got["before"] is None
    else:
        assert got["before"] == pytest.approx(want, rel=0.02)
    assert math.isfinite(got["score"])


def scores(table, run):
    return [result["score"] for result in RESULTS[table][run]]


def horizons(table, run, key="before"):
    return [math.inf if r[key] is None else r[key] for r in RESULTS[table][run]]


def test_what_is_said_of_clips():
    assert max(scores("taming", "nothing")) < 0.3
    for name in (
        "`clip_grad_norm`, 1",
        "`clip_grad_norm`, `AutoClip(0.1)`",
        "`clip_grad_value`, 0.01",
    ):
        assert min(scores("taming", name)) > 0.99
    assert max(scores("taming", "`clip_grad_norm`, 0.1")) < 0.9
    for name in ("`step_clip=('norm', 0.01)`", "`step_clip=('value', 0.001)`"):
        assert sum(score > 0.9 for score in scores("taming", name)) == 1


def test_what_is_said_of_starts_and_regularisers():
    assert max(horizons("keeping", "PyTorch's start")) < 12
    learnt = ("`init.spectral`, radius 1", "`init.nearest_orthogonal`", "`init.orthogonal`")
    for name in (*learnt, "`init.irnn`, ReLU"):
        assert min(horizons("keeping", name)) > 30
        assert min(scores("keeping", name)) > 0.9
    at_chance = ("PyTorch's start", "`init.identity`, 0.99", "`init.orthogonal`, `cut=20`")
    assert max(max(scores("keeping", name)) for name in at_chance) < 0.3
    omega, floss = "4 `regularise.omega`", "100 updates of `regularise.flossing` before"
    for name in (omega, "the same, `immediate=True`"):
        assert min(scores("keeping", name)) > 0.4
        assert min(horizons("keeping", name, "after")) > 10 * max(horizons("keeping", name))
    assert min(horizons("keeping", floss)) > 100
    assert sum(score > 0.99 for score in scores("keeping", floss)) == 2


def test_what_is_said_of_gates():
    for name in ("LSTM, `init.chrono` to 150", "GRU, PyTorch's start", "GRU, `init.chrono` to 150"):
        assert max(scores("gates", name)) < 0.01
    for bias in (1, 5):
        assert min(scores("gates", f"LSTM, `init.forget_bias` {bias}")) > 0.15
    assert max(horizons("gates", "LSTM, `init.forget_bias` 5", "after")) < 20
    assert min(horizons("gates", "GRU, PyTorch's start", "after")) > 100
