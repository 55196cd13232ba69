# SPDX-License-Identifier: MIT
"""Every example of ``--help``, and every command of docs/command_line.md, runs as it stands."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import bptt
from support.command import main
from support.paths import ROOT

COMMANDS = ("fit", "predict", "generate", "convert")
PAGE = (ROOT / "docs" / "command_line.md").read_text("utf-8")
QUICK = ("--epochs", "1", "--hidden-size", "8")  # added to each training


def examples(command: str) -> list[str]:
    text = importlib.import_module(f"bptt.command.{command}").EPILOG
    found = re.findall(r"^  bptt .*", text.partition("examples:\n")[2], re.MULTILINE)
    assert found
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the examples name."""
    monkeypatch.chdir(tmp_path)
    rng, steps = np.random.default_rng(0), ["rec,x,y,label"]
    for k in range(40):
        label, mean = ("rises", 0.5) if k % 2 else ("falls", -0.5)
        for x, y in rng.normal(mean, 1, (rng.integers(5, 12), 2)):
            steps.append(f"r{k},{x:.3f},{y:.3f},{label}")
    days = np.arange("2024-01-01", "2024-12-31", dtype="datetime64[D]")
    weekend = ((days.astype(int) + 3) % 7 > 4).astype(int)
    sales = ["" if k >= len(days) - 14 else 100 + 40 * w for k, w in enumerate(weekend)]
    lines = {
        "gestures.csv": steps,
        "new.csv": [line.rpartition(",")[0] for line in steps],
        "reviews.csv": ["text,sentiment", *['"good, very good",+', "bad,-"] * 20],
        "sales.csv": ["date,sales,holiday", *map("{},{},{}".format, days, sales, weekend)],
        "hamlet.txt": bptt.datasets.load_text()[:8000].splitlines(),
    }
    for name, rows in lines.items():
        Path(name).write_text("\n".join(rows))
    Path("co2.csv").write_bytes((Path(bptt.__file__).parent / "data" / "co2.csv").read_bytes())
    return tmp_path


def run(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a line of a shell prints, or writes to a file after ">"."""
    command, _, target = line.strip().partition(" > ")
    name, *words = shlex.split(command)
    assert name == "bptt"
    code, output, error = main(capsys, *words, *(QUICK if words[0] == "fit" else ()))
    assert code in ((0, 1) if words[0] == "fit" else (0,)), error
    if target:
        Path(target).write_text(output)
    return output


def test_trained_models_are_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The examples of three commands, one after the other, as they build on each other."""
    for command in COMMANDS[:3]:
        for line in examples(command):
            assert run(line, capsys)
    assert len((folder / "predictions.csv").read_text().splitlines()) == 41
    text = examples("fit")
    for task in ("classify", "forecast", "text"):
        assert any(f"--task {task}" in line for line in text)


def test_converted_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    for package in ("h5py", "onnx", "safetensors"):
        pytest.importorskip(package)
    bptt.save_keras("model.keras", [bptt.GRU(2, 3, seed=0), bptt.Linear(3, 1, seed=1)])
    torch.save(torch.nn.LSTM(2, 3).state_dict(), "state_dict.pt")
    for line in examples("convert"):
        run(line, capsys)
        assert (folder / line.split()[-1]).stat().st_size


@pytest.mark.usefixtures("folder")
def test_commands_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("h5py")
    bptt.save_keras("model.keras", [bptt.GRU(2, 3, seed=0), bptt.Linear(3, 1, seed=1)])
    lines = re.findall(r"^\$ (.*)", PAGE, re.MULTILINE)
    assert {line.split()[1] for line in lines} == {*COMMANDS}
    for line in lines:
        run(line, capsys)


def test_the_page_names_every_option_of_tables() -> None:
    for option in ("--group-column", "--target", "--inputs", "--fill-gaps", "--test", "--json"):
        assert option in PAGE


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, text, _ = main(capsys, command, "--help")
    assert code == 0
    assert max(map(len, text.splitlines())) <= 100
    assert "Exit code: 0 " in text
