# SPDX-License-Identifier: MIT
"""A monitor ends no training, and writes over nothing: whatever traces and files hold."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.flow import records

T, B, SIZE, HIDDEN = 24, 3, 4, 8
X = np.random.default_rng(0).standard_normal((T, B, SIZE))
CELLS = (bptt.RNN, bptt.LSTM, bptt.GRU, bptt.MGU, bptt.SLSTM, bptt.LSTM1997)


def last(y: np.ndarray) -> np.ndarray:
    dy = np.zeros_like(y)
    dy[-1:] = 1
    return dy


def forecast(y: np.ndarray) -> np.ndarray:
    dy = 2 * y / max(y.size, 1)
    dy[-2:] = 0
    return dy


def some(y: np.ndarray) -> np.ndarray:
    return y * (np.arange(len(y)) % 7 == 3)[:, None, None]


def filled(value: float) -> Any:
    return lambda y: np.full_like(y, value)


def one(value: float) -> Any:
    def dy(y: np.ndarray) -> np.ndarray:
        d = np.zeros_like(y)
        d[len(y) // 2 : len(y) // 2 + 1, :1, :1] = value
        return d

    return dy


LOSSES = {
    "last": last, "forecast": forecast, "some": some, "every": np.ones_like,
    "none": np.zeros_like, "nan": filled(np.nan), "inf": filled(np.inf), "large": filled(1e300),
    "one": one(1.0), "one nan": one(np.nan), "tiny": filled(5e-324),
}  # fmt: skip
SHAPES = {
    "whole": (X, None), "T = 0": (X[:0], None), "B = 0": (X[:, :0], None), "T = 1": (X[:1], None),
    "T = 2": (X[:2], None), "empty": (X, [0, 0, 0]), "ragged": (X, [24, 0, 3]),
    "nan": (np.where(np.arange(T)[:, None, None] == 9, np.nan, X), None),
}  # fmt: skip
VERDICTS = {"non-finite", "exploding", "dead", "vanishing", "healthy", "too short", "mixed"}


def refuse(constant: str) -> None:
    raise AssertionError(constant)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_whatever_a_trace_holds_there_is_a_record(tmp_path, loss, shape):
    path = tmp_path / "flow.jsonl"
    monitor = bptt.FlowMonitor(1, path, on_alert=lambda a: str(a))
    x, lengths = SHAPES[shape]
    step = 0
    for cell in (bptt.RNN, bptt.LSTM, bptt.LSTM1997):
        for how in ({}, {"num_layers": 2, "bidirectional": True}, {"dilation": 3, "skip": 6}):
            if shape == "B = 0" and "dilation" in how:
                continue
            layer = cell(SIZE, HIDDEN, dtype="float64", seed=0, **how)
            with np.errstate(all="ignore"):
                y, _, tape = layer.forward(x, lengths=lengths)
                cut = None if how.get("dilation") else 5
                trace = layer.backward(tape, LOSSES[loss](y), cut=cut, trace=True).trace
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                monitor.update(step, trace, loss=np.float32("nan"), other=None)
            step += 1
    lines = [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]
    assert lines == monitor.records
    assert [line["step"] for line in lines] == list(range(step))
    for line in lines:
        assert line["loss"] is line["other"] is None
        for sample in line["cells"]:
            assert sample["verdict"] in VERDICTS
            if loss == "none" and shape == "whole":
                assert sample["verdict"] == "dead"
            if shape in ("T = 0", "B = 0", "empty"):
                assert sample["verdict"] == "too short"
                assert sample["last"] is sample["first"] is sample["horizon"] is None
    assert bptt.FlowMonitor(path=path).records == monitor.records
    monitor.records and pytest.importorskip("matplotlib") and monitor.plot()


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("silent", [1, 2, 5])
def test_steps_without_loss_at_the_end_are_no_part_of_the_curve(kind, silent):
    """As if the sequence ended where the loss does, in one batch for each length."""
    layer = getattr(bptt, kind)(SIZE, HIDDEN, dtype="float64", seed=0)

    def sample(x: np.ndarray, dy: np.ndarray) -> dict[str, Any]:
        monitor = bptt.FlowMonitor(1, on_alert=lambda a: None)
        monitor.update(0, layer.backward(layer.forward(x)[2], dy, trace=True).trace)
        return monitor.records[0]["cells"][0]

    dy = np.random.default_rng(1).standard_normal((T, B, HIDDEN))
    for given in (dy, last(dy)):
        whole = np.concatenate([given[silent:], np.zeros((silent, B, HIDDEN))])
        found, expected = sample(X, whole), sample(X[:-silent], given[silent:])
        found.pop("saturated"), expected.pop("saturated")
        assert found == pytest.approx(expected)
        assert found["last"] > 0


def test_a_direction_that_no_gradient_goes_through_is_too_short():
    """In the reverse direction, y[-1] depends on x[-1] alone."""
    monitor = bptt.FlowMonitor(1, on_alert=lambda a: None)
    layer = bptt.GRU(SIZE, HIDDEN, 2, bidirectional=True, seed=0)
    y, _, tape = layer.forward(X)
    monitor.update(0, layer.backward(tape, last(y), trace=True).trace)
    verdicts = [cell["verdict"] for cell in monitor.records[0]["cells"]]
    assert verdicts == ["mixed", "mixed", "vanishing", "too short"]
    reverse = monitor.records[0]["cells"][3]
    assert reverse["last"] == reverse["first"] == pytest.approx(HIDDEN**0.5)


def test_a_reversed_call_has_its_name():
    monitor = bptt.FlowMonitor(1, on_alert=lambda a: None)
    w = np.ones((HIDDEN, SIZE)), 0.5 * np.eye(HIDDEN)
    y, _, tape = bptt.rnn_forward(X, *w, reverse=True)
    monitor.update(0, bptt.rnn_backward(tape, y, trace=True).trace)
    assert monitor.records[0]["cells"][0]["name"] == "layer 0, reverse"


@pytest.mark.parametrize("cell", CELLS)
def test_a_tape_with_a_checkpoint(cell):
    layer, long = cell(SIZE, HIDDEN, seed=0), np.concatenate([X] * 20).astype(np.float32)
    monitor = bptt.FlowMonitor(1, on_alert=lambda a: None)
    for how in ({"checkpoint": "sqrt"}, {"checkpoint": 400_000}, {}):
        y, _, tape = layer.forward(long, **how)
        monitor.update(0, layer.backward(tape, last(y), trace=True).trace)
    first, second, whole = (record["cells"][0] for record in monitor.records)
    for other in (first, second):
        assert other["verdict"] == whole["verdict"]
        assert other["saturated"].keys() == whole["saturated"].keys()


# --- files ----------------------------------------------------------------------------------------


def trace() -> Any:
    layer = bptt.GRU(SIZE, HIDDEN, seed=0)
    y, _, tape = layer.forward(X)
    return layer.backward(tape, last(y), trace=True).trace


def written(path: Any, steps: int) -> bytes:
    monitor = bptt.FlowMonitor(1, path, on_alert=lambda a: None)
    for step in range(steps):
        monitor.update(step, trace(), loss=0.5)
    return path.read_bytes()


CELL = {"name": "layer 0", "last": 1.0, "first": None, "horizon": None, "growth": 1.0,
        "verdict": "healthy", "saturated": {"h": 0.0}}  # fmt: skip
FOREIGN = [
    json.dumps({"lr": 0.1, "data": list(range(1000))}),
    json.dumps({"step": 100, "lr": 0.1, "best": 0.3}),
    json.dumps({"step": 100, "cells": [1, 2]}),
    json.dumps({"step": 100, "cells": []}) + "\n",
    json.dumps({"step": 100, "cells": [{**CELL, "last": "1"}]}) + "\n",
    json.dumps({"step": 100, "cells": [{**CELL, "saturated": [1]}]}) + "\n",
    json.dumps({"step": "100", "cells": [CELL]}) + "\n",
    json.dumps({"step": 1, "cells": [CELL]}) + "\nnotes of mine",
    json.dumps({"step": 1, "cells": [CELL]}) + "\n{\n",
    json.dumps({"step": 1, "cells": [CELL]}) + "\n[1, 2]",
    json.dumps({"step": 1, "cells": [CELL]}, indent=2),
    json.dumps({"step": 1, "cells": [CELL]}) + "\n\n",
    '{"step": 12, "loss": 0.',
    '{"step": ',
    '{"step": 1, "cells": ' + "[" * 100000 + "\n",
    "[1, 2]\n", "hello\n", "hello", '{"step": 1}\n', "{", "{}", "\n", "\x00\xff", "\x00" * 99,
]  # fmt: skip


@pytest.mark.parametrize("content", FOREIGN, ids=range(len(FOREIGN)))
def test_another_file_is_refused_and_stays_as_it_is(tmp_path, content):
    path = tmp_path / "other"
    path.write_text(content)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"FlowMonitor: path has .*, expected a file of a monitor"):
        bptt.FlowMonitor(path=path)
    assert path.read_bytes() == before


def test_no_special_file_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null"):
        with pytest.raises(ValueError, match="it is no regular file"):
            bptt.FlowMonitor(path=path)
    with pytest.raises(IsADirectoryError):
        bptt.FlowMonitor(path=tmp_path)


def test_a_file_that_is_cut_anywhere_keeps_its_whole_lines(tmp_path):
    path = tmp_path / "flow.jsonl"
    content = written(path, 3)
    lines = content.splitlines(keepends=True)
    before = len(lines[0] + lines[1])
    for end in range(before, len(content) + 1):
        for zeros in (b"", b"\0" * 7) if before < end < len(content) - 1 else (b"",):
            path.write_bytes(content[:end] + zeros)
            monitor = bptt.FlowMonitor(1, path, on_alert=lambda a: None)
            whole = 3 if end >= len(content) - 1 else 2  # all but the end of the line
            assert [r["step"] for r in monitor.records] == list(range(whole))
            assert path.read_bytes() == b"".join(lines[:whole])
    monitor.update(3, trace(), loss=0.5)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]


def test_a_first_line_that_is_cut_is_known_by_how_it_begins(tmp_path):
    path = tmp_path / "flow.jsonl"
    content = written(path, 1)
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        if 0 < end < len('{"step": 0'):  # it may be anybody's
            with pytest.raises(ValueError, match="expected a file of a monitor"):
                bptt.FlowMonitor(path=path)
            assert path.read_bytes() == content[:end]
        else:
            assert len(bptt.FlowMonitor(path=path).records) == (end >= len(content) - 1)
            assert path.read_bytes() == (content if end >= len(content) - 1 else b"")


def test_a_process_that_is_killed_leaves_whole_lines(tmp_path):
    path = tmp_path / "flow.jsonl"
    code = f"""
import numpy as np, bptt
layer = bptt.GRU(4, 8, seed=0)
y, _, tape = layer.forward(np.ones((9, 2, 4)))
trace = layer.backward(tape, y, trace=True).trace
monitor = bptt.FlowMonitor(1, {str(path)!r}, on_alert=lambda a: None)
print(len(monitor.records), flush=True)
for step in range(len(monitor.records), 10**9):
    monitor.update(step, trace)
    if step % 20 == 0: print(step, flush=True)
"""
    seen = 0
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert int(child.stdout.readline()) >= seen
        for _ in range(3):
            child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        steps = [record["step"] for record in bptt.FlowMonitor(path=path).records]
        assert steps == list(range(len(steps)))
        assert len(steps) > seen
        seen = len(steps)


def test_a_full_disk_is_one_warning_and_nothing_is_lost(tmp_path, monkeypatch):
    path = tmp_path / "flow.jsonl"
    monitor = bptt.FlowMonitor(1, path, on_alert=lambda a: None)
    monitor.update(0, trace())
    size = path.stat().st_size

    class Full:
        """A file on a disk that is full after half of the text."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, content: bytes) -> int:
            return self.file.write(content[: len(content) // 2])

    monkeypatch.setattr(records, "open", lambda *a, **k: Full(open(*a, **k)), raising=False)
    with pytest.warns(bptt.FlowWarning, match="step 1: samples are kept, but .* No space left"):
        monitor.update(1, trace())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.update(2, trace())  # said once
        assert path.stat().st_size == size
        assert [r["step"] for r in bptt.FlowMonitor(path=path).records] == [0]
        monkeypatch.undo()
        monitor.update(3, trace())
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]
    assert [r["step"] for r in monitor.records] == [0, 1, 2, 3]


def test_a_folder_that_goes_away_and_a_program_that_moves(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monitor = bptt.FlowMonitor(1, "runs/flow.jsonl", on_alert=lambda a: None)
    monkeypatch.chdir("/")
    monitor.update(0, trace())
    assert len((folder / "flow.jsonl").read_text().splitlines()) == 1
    (folder / "flow.jsonl").unlink()
    folder.rmdir()
    with pytest.warns(bptt.FlowWarning, match="cannot be written: .*No such file or directory"):
        monitor.update(1, trace())
    folder.mkdir()
    monitor.update(2, trace())
    assert [r["step"] for r in bptt.FlowMonitor(path=folder / "flow.jsonl").records] == [1, 2]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_file_without_permission_is_an_error_at_once(tmp_path):
    path = tmp_path / "flow.jsonl"
    written(path, 1)
    path.chmod(0o444)
    with pytest.raises(PermissionError):
        bptt.FlowMonitor(path=path)


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"step": 1.5}, "FlowMonitor.update: step is 1.5, expected a whole number"),
        ({"trace": "x"}, "FlowMonitor.update: trace is 'x', expected grads.trace"),
        ({"cells": 3}, "FlowMonitor.update: a number is called 'cells', expected another name"),
        ({"loss": "low"}, "FlowMonitor.update: loss is 'low', expected a number"),
        ({"loss": [1, 2]}, r"FlowMonitor.update: loss is \[1, 2\], expected a number"),
    ],
)
def test_wrong_arguments(arguments, words):
    monitor = bptt.FlowMonitor(on_alert=lambda a: None)
    with pytest.raises(TypeError, match=words):
        monitor.update(**{"step": 0, "trace": trace(), **arguments})
    assert monitor.records == []
    if "cells" in arguments:  # at the first update, not at the first sample
        with pytest.raises(TypeError, match=words):
            monitor.update(1, None, cells=3)


def test_numbers_of_any_kind():
    monitor = bptt.FlowMonitor(on_alert=lambda a: None)
    monitor.update(np.int64(3), trace(), a=math.inf, b=np.float32(0.5), c=np.array(2), d=None)
    assert monitor.records[0]["step"] == 3
    assert [monitor.records[0][k] for k in "abcd"] == [None, 0.5, 2.0, None]
