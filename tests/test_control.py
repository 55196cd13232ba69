# SPDX-License-Identifier: MIT
"""docs/control.md: its tables are those of the results, and its rows can be measured again."""

from __future__ import annotations

import importlib.util
import json
import math
import statistics
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("control", ROOT / "benchmarks" / "control.py")
control = importlib.util.module_from_spec(SPEC)
sys.modules["control"] = control  # dataclasses look their module up
SPEC.loader.exec_module(control)
RESULTS = json.loads(control.RESULTS.read_text("utf-8"))
RUNS = [(table, run) for table in control.TABLES for run in table.runs]


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
    """Horizons at the start are the same numbers; of the training only that it runs."""
    got = control.measure(table, run, seed=0, updates=2)
    want = RESULTS[table.name][run.name][0]["before"]
    if want is None or got["before"] is None:
        assert want is got["before"] is None
    else:
        assert got["before"] == pytest.approx(want, rel=0.02)
    assert math.isfinite(got["score"])


def median(table, run, key):
    results = RESULTS[table][run]
    return statistics.median(math.inf if r[key] is None else r[key] for r in results)
