# SPDX-License-Identifier: MIT
"""Recorded tables of costs, and the pages that show them."""

import re

import pytest
from benchmarks import costs
from benchmarks.speed.costs import Table, newest, record
from benchmarks.speed.sets import RESULTS, ROOT, read_files

import bptt
from bptt.bench.machine import describe, kind

TABLE = Table("Title", "cell | PyTorch", [["rnn", "1.0"]])
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
SHOWN = {
    name for page in PAGES for name in re.findall(r"<!-- speed costs (\w+) -->", page.read_text())
}


def test_the_pages_show_every_table():
    assert set(costs.TABLES) == SHOWN


def test_recorded_tables_are_those_of_the_command():
    for known in read_files(ROOT / RESULTS / "costs"):
        for name, table in known["tables"].items():
            assert name in costs.TABLES
            width = len(table["head"].split(" | "))
            assert {len(row) for row in table["rows"]} == {width}, name
            assert table["versions"]["bptt"]


def test_a_table_is_recorded_beside_the_others(tmp_path):
    record("one", TABLE, tmp_path)
    record("two", TABLE._replace(head="cell | bptt"), tmp_path)
    record("one", TABLE._replace(rows=[["gru", "2.0"]]), tmp_path)
    (known,) = read_files(tmp_path)
    assert (tmp_path / f"{kind(describe())}.json").exists()
    assert list(known["tables"]) == ["one", "two"]
    assert known["tables"]["two"]["versions"].keys() == {"bptt"}
    text = newest([known], "one")
    assert text.startswith("| cell | PyTorch |\n| --- | --- |\n| gru | 2.0 |\n\n")
    assert describe()["architecture"] in text
    assert known["date"][:10] in text


@pytest.fixture
def unchanged(monkeypatch):
    """Leave the threads and the cores of this process as they are."""
    monkeypatch.setattr(costs.os, "sched_setaffinity", lambda *arguments: None)
    before = bptt.get_num_threads()
    yield
    bptt.set_num_threads(before)


def test_the_command_prints_and_only_records_when_asked(monkeypatch, capsys, unchanged):
    asked = []
    monkeypatch.setattr(costs, "TABLES", {"one": lambda: TABLE, "two": lambda: 1 / 0})
    monkeypatch.setattr(costs, "record", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(costs, "write_pages", lambda: asked.append("pages"))
    costs.main(["one"])
    assert capsys.readouterr().out == "\nTitle\n\n" + TABLE.markdown()
    assert asked == []
    costs.main(["one", "--record"])
    assert asked == [("one", TABLE), "pages"]


def test_every_table_begins_on_one_thread(monkeypatch, capsys, unchanged):
    seen = []

    def table():
        seen.append(bptt.get_num_threads())
        bptt.set_num_threads(2)
        return TABLE

    monkeypatch.setattr(costs, "TABLES", {"one": table, "threads": table, "two": table})
    costs.main([])
    assert seen == [1, 1, 1]


def test_an_unknown_table_is_refused_before_any_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(costs, "TABLES", {"one": lambda: pytest.fail("work was begun")})
    with pytest.raises(SystemExit):
        costs.main(["one", "nothing"])
    assert "there is no table 'nothing', expected some of: one" in capsys.readouterr().err


def test_minima_run_in_turn(monkeypatch):
    order = []
    best = costs.minima({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 0.0)
    assert order == ["a", "b"] + ["a", "a", "b", "b"] * 3  # once first, and three rounds of two
    assert best.keys() == {"a", "b"}
    assert all(seconds > 0 for seconds in best.values())
