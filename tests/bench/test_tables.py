# SPDX-License-Identifier: MIT
"""Tables on pages are written from the recorded sets of results, and from nothing else."""

import json
import subprocess
import sys

import pytest
from benchmarks.speed import __main__ as command
from benchmarks.speed.sets import RESULTS, ROOT, read_sets
from benchmarks.speed.tables import update

from bptt.bench.machine import describe, kind
from bptt.bench.peers import rivals

RECORDED = sorted((ROOT / RESULTS / "speed").glob("*.json"))


def peers(probe=100.0, **ms):
    return {
        name: {"seconds": [1e-3 * value] * 3, "cpu": [1.0] * 3, "probe": [probe] * 3}
        for name, value in ms.items()
    }


def result(cell, point, mode, threads, peers):
    known = {"cell": cell, "point": point, "pass": mode, "threads": threads}
    return {**known, "shape": [100, 1, 2, 32], "flops": 10**8, "peers": peers}


def report(day, architecture, results, **versions):
    return {
        "date": f"{day}T03:04:05+00:00",
        "machine": {"cpu": "A CPU", "architecture": architecture, "isa": "avx9"},
        "versions": {"bptt": "1.2", **versions},
        "results": results,
    }


OLD = report(
    "2030-01-02",
    "Old",
    [
        result("rnn", "tiny", "inference", 1, peers(bptt=2, fast=1, torch=7)),
        result("rnn", "tiny", "training", 1, peers(bptt=2, torch=5)),
        result("lstm", "tiny", "inference", 1, peers(probe=50.0, bptt=2, torch=3)),
        result("rnn", "small", "inference", 1, peers(bptt=4, torch=5)),
        result("rnn", "tiny", "inference", 2, peers(bptt=3, torch=6)),
    ],
    fast="3.4",
    torch="5.6",
)
NEW = report(
    "2030-05-06",
    "New",
    [
        result("rnn", "tiny", "inference", 1, peers(bptt=1, torch=3, bptt_bf16=0.5, torch_bf16=2)),
        result("lstm", "tiny", "inference", 1, peers(bptt=1, torch=2)),
    ],
    torch="5.7",
    bptt_bf16="1.2",
    torch_bf16="5.7",
)
HEADING = ["size", "T, B, I, H", "RNN inference", "RNN training", "LSTM inference"]
SHAPE = "100, 1, 2, 32"


@pytest.fixture
def results(tmp_path):
    """A folder with the samples of two machines, in a tree with a page."""
    results = tmp_path / RESULTS
    for folder in (results / "speed", results / "costs", tmp_path / "docs"):
        folder.mkdir(parents=True)
    for name, written in (("old-avx9", OLD), ("new-avx9", NEW)):
        (results / "speed" / f"{name}.json").write_text(json.dumps(written))
    (tmp_path / "README.md").write_text("<!-- speed machines -->\n<!-- /speed -->\n")
    return results


def block(results, what):
    """What stands between the comments."""
    page = f"before\n<!-- speed {what} -->\nold\n<!-- /speed -->\nafter\n"
    text = update(page, results)
    assert update(text, results) == text
    head, foot = f"before\n<!-- speed {what} -->\n", "<!-- /speed -->\nafter\n"
    assert text.startswith(head)
    assert text.endswith(foot)
    return text[len(head) : -len(foot)]


def cells(text):
    """The cells of a table, without its ruler."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines if "---" not in line]


def section(results, machine):
    """The tables of a machine by title, as cells and caption."""
    (text,) = (t for t in block(results, "sets").split("### ") if t.startswith(machine))
    parts = [part.strip() for part in text.split("\n\n")[1:]]
    titles, tables, captions = parts[::3], parts[1::3], parts[2::3]
    return {t: (cells(table), end) for t, table, end in zip(titles, tables, captions)}


# --- what a table shows ---------------------------------------------------------------------------


def test_a_machine_beside_pytorch(results):
    rows, caption = section(results, "Old")["PyTorch in its default settings, on 1 thread:"]
    assert rows == [
        HEADING,
        ["tiny", SHAPE, "3.50", "2.50", "1.50*"],  # the last one's probe is half of the best
        ["small", SHAPE, "1.25", "", ""],
    ]
    old = "Old, avx9 (A CPU), 1 thread; bptt 1.2 of 2030-01-02 (older code)"
    assert caption == f"{old}, torch 5.6."


def test_a_machine_beside_the_fastest(results):
    rows, caption = section(results, "Old")["The fastest library, on 1 thread:"]
    assert rows[1] == ["tiny", SHAPE, "0.500 fast", "2.50 torch", "1.50* torch"]
    assert caption.endswith("(older code), fast 3.4, torch 5.6.")
    # Neither bfloat16 nor another way of calling bptt competes in float32.
    rows, caption = section(results, "New")["The fastest library, on 1 thread:"]
    assert rows[1] == ["tiny", SHAPE, "3.00 torch", "2.00 torch"]
    assert caption == "New, avx9 (A CPU), 1 thread; bptt 1.2 of 2030-05-06, torch 5.7."


def test_own_time_and_share_of_the_peak(results):
    tables = section(results, "Old")
    rows, _ = tables["Milliseconds of bptt, and their share of the peak, on 1 thread:"]
    # 1e8 operations in 2 ms are 50 GFLOP/s, of 100 at best.
    assert rows[1] == ["tiny", SHAPE, "2.00 ms, 50%", "2.00 ms, 50%", "2.00 ms*, 50%"]


def test_threads(results):
    rows, caption = section(results, "Old")["PyTorch in its default settings, on 2 threads:"]
    assert rows == [HEADING[:3], ["tiny", SHAPE, "2.00"]]
    assert "2 threads" in caption
    assert not any("2 threads" in title for title in section(results, "New"))


def test_the_newest_machine_comes_first(results):
    text = block(results, "sets")
    assert text.index("### New, avx9") < text.index("### Old, avx9")
    new, old = cells(block(results, "machines"))[1:]
    peak = "100"
    assert new == ["New, avx9", "A CPU", "not recorded", peak, "bptt 1.2 of 2030-05-06", "0 of 2"]
    assert old[3:] == ["100, 100", "bptt 1.2 of 2030-01-02 (older code)", "1 of 4"]


def test_bfloat16_is_beside_bfloat16_and_float32(results):
    text = block(results, "bf16")
    assert cells(text) == [["size", "T, B, I, H", "RNN inference", "LSTM inference"],
                           ["tiny", SHAPE, "4.00 (6.00)", ""]]  # fmt: skip
    assert "New, avx9 (A CPU), 1 thread; bptt 1.2 of 2030-05-06, torch 5.7, torch_bf16 5.7." in text
    assert "Old" not in text
    (results / "speed" / "new-avx9.json").unlink()
    assert block(results, "bf16") == "Not measured yet.\n"


def test_worst_and_best(results):
    text = block(results, "range torch 1")
    assert cells(text) == [
        ["size", "T, B, I, H", "RNN inference", "LSTM inference", "RNN training"],
        ["tiny", SHAPE, "3.00 to 3.50", "1.50* to 2.00", "2.50"],
        ["small", SHAPE, "1.25", "", ""],
    ]
    for caption in ("2030-05-06, torch 5.7.", "2030-01-02 (older code), torch 5.6."):
        assert caption in text
    assert cells(block(results, "range fastest 1"))[1][2] == "0.500 to 3.00"


def test_a_machine_kept_from_its_best_instruction_set_stands_for_no_other(results):
    before = block(results, "range torch 1")
    slow = [result("rnn", "tiny", "inference", 1, peers(bptt=9, torch=1))]
    written = report("2030-04-04", "New", slow, torch="5.7")
    written["machine"] |= {"isa": "avx2", "best_isa": "avx9"}
    (results / "speed" / "new-avx2.json").write_text(json.dumps(written))
    assert block(results, "range torch 1") == before
    assert "### New, avx2 instead of avx9\n" in block(results, "sets")


def test_worst_and_best_that_are_equal_are_shown_once(results):
    almost = result("rnn", "tiny", "training", 1, peers(probe=50.0, bptt=2, torch=5.001))
    disturbed = {**NEW, "results": [*NEW["results"], almost]}
    (results / "speed" / "new-avx9.json").write_text(json.dumps(disturbed))
    assert cells(block(results, "range torch 1"))[1][-1] == "2.50*"


def test_costs_are_of_the_newest_machine_that_has_the_table(results):
    assert block(results, "costs calls") == "Not measured yet.\n"
    for day, machine, tables in (("02", "Old", "calls memory"), ("06", "New", "calls")):
        date = f"2030-01-{day}T00:00:00"
        table = {"title": "Costs", "head": "a | b", "rows": [[machine, "1"]]}
        table |= {"date": date, "versions": {"bptt": "1.2"}}
        known = {"date": date, "machine": {"cpu": "A", "architecture": machine, "isa": "avx9"}}
        known["tables"] = dict.fromkeys(tables.split(), table)
        (results / "costs" / f"{machine.lower()}-avx9.json").write_text(json.dumps(known))
    text = "| a | b |\n| --- | --- |\n| New | 1 |\n\nNew, avx9 (A); bptt 1.2; 2030-01-06.\n"
    assert block(results, "costs calls") == text
    assert "| Old | 1 |" in block(results, "costs memory")


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("everything", "has 'everything', expected machines, sets, bf16, range PEER"),
        ("range torch", "has 'range torch', expected machines"),
        ("range torch two", "has 'range torch two', expected machines"),
        ("range quick 1", "no set has 'quick' on 1 thread"),
        ("range torch 3", "no set has 'torch' on 3 threads"),
    ],
)
def test_wrong_comments(what, message, results):
    with pytest.raises(ValueError, match=message):
        update(f"<!-- speed {what} -->\n<!-- /speed -->\n", results)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine", OLD, "mine.json: its machine is of another kind, expected old-avx9.json"),
        # Kernels for an instruction set on a machine that has more are another kind.
        ("new-avx2", NEW, "new-avx2.json: its machine is of another kind, expected new-avx9.json"),
        ("mine", {"machine": OLD["machine"]}, "mine.json: no record of a machine, expected 'date'"),
        ("mine", {**OLD, "machine": {"cpu": "A"}}, "no record of a machine"),
        ("mine", [], "no record of a machine"),
    ],
)
def test_files_of_an_unknown_kind(name, content, message, results):
    (results / "speed" / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_sets(results / "speed")


# --- the recorded sets ----------------------------------------------------------------------------


@pytest.mark.parametrize("file", RECORDED, ids=lambda f: f.stem)
def test_every_recorded_set_is_shown(file, tmp_path):
    """Every result, and nothing of the workplace."""
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / file.name).write_bytes(file.read_bytes())
    written = json.loads(file.read_text())
    for what in ("torch", "fastest"):
        text = block(tmp_path, f"range {what} 1")
        assert " to " not in text
    text = block(tmp_path, "sets")
    own = [r for t in text.split("Milliseconds of bptt")[1:] for r in cells(t.split("\n\n")[1])]
    shown = sum(len([c for c in row[2:] if " ms" in c]) for row in own)
    assert shown == len(written["results"])
    assert written["machine"].keys() >= {"cpu", "architecture", "isa", "cores", "system"}
    assert "/" not in json.dumps({**written, "results": []})
    for r in written["results"]:
        assert next(iter(r["peers"])) == "bptt"
        assert r["peers"].keys() <= written["versions"].keys()


def simple_ratio(one, other):
    """The median over the rounds, for sets whose samples need no selection."""
    ratios = sorted(a / b for a, b in zip(one["seconds"], other["seconds"]))
    middle = len(ratios) // 2
    return (ratios[middle] + ratios[~middle]) / 2


def test_worst_and_best_of_the_recorded_sets():
    """Recomputed where no sample is disturbed: no ratio lies outside, and many are an end."""
    found = {}
    sets = [json.loads(file.read_text()) for file in RECORDED]
    for r in (r for written in sets for r in written["results"] if r["threads"] == 1):
        if any(peer["disturbed"] for peer in r["peers"].values()):
            continue
        others = rivals(r["peers"])
        ratio = min(simple_ratio(r["peers"][n], r["peers"]["bptt"]) for n in others)
        found.setdefault((r["point"], f"{r['cell'].upper()} {r['pass']}"), []).append(ratio)
    head, *body = cells(block(ROOT / RESULTS, "range fastest 1"))
    table = {(row[0], name): text for row in body for name, text in zip(head, row) if text}
    reached = []
    for place, ratios in found.items():
        ends = [float(number.strip("*")) for number in table[place].split(" to ")]
        for ratio in ratios:
            assert ends[0] * (1 - 6e-3) <= ratio <= ends[-1] * (1 + 6e-3), place
            reached.append(any(ratio == pytest.approx(end, rel=6e-3) for end in ends))
    assert sum(reached) >= max(len(reached) / 2, 1)


# --- the command ----------------------------------------------------------------------------------


def test_pages_are_all_written_or_none(results, tmp_path):
    page = tmp_path / "docs" / "page.md"
    page.write_text("<!-- speed nothing -->\n<!-- /speed -->\n")
    with pytest.raises(ValueError, match="speed comment"):
        command.write_pages(tmp_path)
    assert "A CPU" not in (tmp_path / "README.md").read_text()
    page.write_text("<!-- speed range torch 1 -->\n<!-- /speed -->\n")
    command.write_pages(tmp_path)
    for written in (page, tmp_path / "README.md"):
        assert "A CPU" in written.read_text()


def test_a_recorded_set_is_not_replaced_by_accident(results, tmp_path, monkeypatch, capsys):
    file = results / "speed" / f"{kind(describe())}.json"
    asked = []
    monkeypatch.setattr(command, "bptt", lambda arguments: asked.append(arguments) or 1)
    assert command.main(["--seconds", "0"], tmp_path) == 1
    assert asked[0][asked[0].index("--json") + 1] == str(file)
    assert asked[0][-2:] == ["--seconds", "0"]
    file.write_text("{}")
    with pytest.raises(SystemExit):
        command.main([], tmp_path)
    assert "exists, expected a new kind of machine, or --force" in capsys.readouterr().err
    assert len(asked) == 1
    assert command.main(["--force"], tmp_path) == 1
    assert len(asked) == 2


def test_the_command_writes_a_set_the_pages_and_the_pictures(results, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    few = "--points stream32 --cells rnn --peers reference --threads 1 --seconds 0".split()
    assert command.main(few, tmp_path) == 0
    assert (results / "speed" / f"{kind(describe())}.json").exists()
    assert describe()["architecture"] in (tmp_path / "README.md").read_text()
    assert (tmp_path / "docs" / "bench-rnn.png").exists()
    assert "1.2 of 2030-05-06" in (tmp_path / "README.md").read_text()


def test_the_documented_command():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "--pages" in done.stdout
