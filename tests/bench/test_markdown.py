# SPDX-License-Identifier: MIT
"""Tables in documents are written from the samples, and from nothing else."""

import json
import subprocess
import sys

import pytest

from bptt.bench.markdown import main, update


def peers(probe=100.0, **ms):
    return {
        name: {"seconds": [1e-3 * value] * 3, "cpu": [1.0] * 3, "probe": [probe] * 3}
        for name, value in ms.items()
    }


@pytest.fixture
def folder(tmp_path):
    """With the samples of two points, two passes and two numbers of threads."""

    def result(cell, point, mode, threads, peers):
        known = {"cell": cell, "point": point, "pass": mode, "threads": threads}
        return {**known, "shape": [100, 1, 2, 32], "flops": 10**8, "peers": peers}

    calm = peers(bptt=2, fast=1, slow=7)
    report = {
        "date": "2030-01-02T03:04:05+00:00",
        "machine": {"cpu": "A CPU", "isa": "avx9"},
        "versions": {"bptt": "1.2", "fast": "3.4", "slow": "5.6"},
        "results": [
            result("rnn", "tiny", "inference", 1, calm),
            result("rnn", "tiny", "training", 1, peers(bptt=2, slow=5)),
            result("lstm", "tiny", "inference", 1, peers(probe=50.0, bptt=2, slow=3)),
            result("rnn", "small", "inference", 1, peers(bptt=4, slow=5)),
            result("rnn", "tiny", "inference", 2, peers(bptt=3, slow=6)),
        ],
    }
    (tmp_path / "b.json").write_text(json.dumps(report))
    return tmp_path


def table(folder, what):
    """The rows of the table, and the line under it."""
    page = f"before\n<!-- bench b.json {what} -->\nold\n<!-- /bench -->\nafter\n"
    text = update(page, folder)
    assert update(text, folder) == text
    first, head, *lines, foot, last = text.splitlines()
    assert (first, head) == ("before", f"<!-- bench b.json {what} -->")
    assert (foot, last) == ("<!-- /bench -->", "after")
    assert lines[-2] == ""
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[:-2]], lines[-1]


HEADING = ["size", "T, B, I, H", "RNN inference", "RNN training", "LSTM inference"]
SHAPE = "100, 1, 2, 32"


def test_ratios_to_one_library(folder):
    rows, caption = table(folder, "slow 1")
    assert rows == [
        HEADING,
        ["---"] * 5,
        ["tiny", SHAPE, "3.50", "2.50", "1.50*"],  # the last one's probe is half of the best
        ["small", SHAPE, "1.25", "", ""],
    ]
    assert caption == "A CPU, avx9, 1 thread; bptt 1.2, slow 5.6; 2030-01-02."


def test_a_library_that_lacks_something_leaves_it_empty(folder):
    rows, _ = table(folder, "fast 1")
    assert rows[2:] == [["tiny", SHAPE, "0.500", "", ""], ["small", SHAPE, "", "", ""]]


def test_ratios_to_the_fastest(folder):
    rows, caption = table(folder, "fastest 1")
    assert rows[2] == ["tiny", SHAPE, "0.500 fast", "2.50 slow", "1.50* slow"]
    assert "bptt 1.2, fast 3.4, slow 5.6" in caption


def test_own_time_and_share_of_the_peak(folder):
    rows, caption = table(folder, "bptt 1")
    # 1e8 operations in 2 ms are 50 GFLOP/s, of 100 at best.
    assert rows[2] == ["tiny", SHAPE, "2.00 ms, 50%", "2.00 ms, 50%", "2.00 ms*, 50%"]
    assert "; bptt 1.2; " in caption


def test_threads(folder):
    rows, caption = table(folder, "slow 2")
    assert rows == [HEADING[:3], ["---"] * 3, ["tiny", SHAPE, "2.00"]]
    assert "2 threads" in caption


def test_pages_without_tables_stay(folder):
    assert update("nothing <!-- here -->\n", folder) == "nothing <!-- here -->\n"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("quick 1", "library has 'quick', expected one of bptt, fast, slow, fastest"),
        ("slow 3", "number of threads has '3', expected one of 1, 2"),
    ],
)
def test_wrong_comments(what, message, folder, capsys):
    page = folder / "page.md"
    page.write_text(f"<!-- bench b.json {what} -->\n<!-- /bench -->\n")
    assert main([str(page)]) == 2
    assert f"{page}: bench comment: {message}\n" == capsys.readouterr().err


def test_the_command_writes_the_page(folder):
    page = folder / "page.md"
    page.write_text("<!-- bench b.json slow 2 -->\n<!-- /bench -->\n")
    command = [sys.executable, "-m", "bptt.bench.markdown", str(page)]
    subprocess.run(command, check=True, cwd="/", timeout=60)
    assert "| tiny | 100, 1, 2, 32 | 2.00 |" in page.read_text()
    page.write_text("<!-- bench missing.json slow 2 -->\n<!-- /bench -->\n")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "No such file" in done.stderr
