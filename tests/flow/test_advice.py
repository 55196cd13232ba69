# SPDX-License-Identifier: MIT
"""The benchmark of the advice: its table shows the recorded results, and its code runs."""

from __future__ import annotations

import importlib.util
import json
import math
import statistics
import sys

import pytest

from support.paths import ROOT

SPEC = importlib.util.spec_from_file_location("advice", ROOT / "benchmarks" / "advice.py")
advice = importlib.util.module_from_spec(SPEC)
sys.modules["advice"] = advice  # dataclasses look their module up
SPEC.loader.exec_module(advice)
RESULTS = json.loads(advice.RESULTS.read_text("utf-8"))
NAMES = [problem.name for problem in advice.PROBLEMS]


def test_the_page_has_the_table_of_the_results():
    page = advice.PAGE.read_text("utf-8")
    assert page.count("<!-- advice -->") == 1
    assert advice.update(page, RESULTS) == page, "python benchmarks/advice.py"


def test_there_are_results_of_every_task_and_seed():
    assert len(advice.LONG) == len(advice.SHORT) == 6
    assert sorted(RESULTS) == sorted(NAMES)
    assert all(len(runs) == advice.SEEDS for runs in RESULTS.values())


@pytest.mark.parametrize("name", NAMES)
def test_following_the_advice_costs_nothing(name):
    """No seed loses more than 1 % of the held-out loss."""
    for run in RESULTS[name]:
        assert run["advised"] <= 1.01 * run["loss"]
        assert (run["advice"] is None) == (run["verdict"] == "healthy")


def test_tasks_that_need_little_are_left_alone():
    for problem in advice.SHORT:
        assert {run["advice"] for run in RESULTS[problem.name]} == {None}


def test_tasks_that_need_long_memory_are_solved():
    def solved(key):
        return [
            problem.name
            for problem in advice.LONG
            if advice.solved(problem, statistics.median(r[key] for r in RESULTS[problem.name]))
        ]

    assert len(solved("advised")) >= 5
    assert set(solved("loss")) < set(solved("advised"))


@pytest.mark.parametrize("problem", advice.PROBLEMS, ids=lambda problem: problem.name)
def test_a_task_can_be_measured_again(problem, monkeypatch):
    """The training must only run; a new layer must get the recorded advice."""
    if "digits" in problem.name and problem.held_out:
        pytest.importorskip("sklearn")
    monkeypatch.setattr(advice, "HELD_OUT", 20)
    run = advice.measure(problem, seed=0, updates=1)
    assert math.isfinite(run["loss"])
    assert math.isfinite(run["advised"])
    if problem.needs:
        assert run["needs"] == problem.needs
        assert (run["verdict"], run["advice"] is None) == ("vanishing", False)
    else:
        assert 1 <= run["needs"] <= 50
