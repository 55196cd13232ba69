# SPDX-License-Identifier: MIT
"""What a training shows: history, pictures, progress."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.training import Epoch
from bptt.training.progress import Progress, _clock
from support.models import Chain


def history(losses: list[float | None], **more: Any) -> bptt.History:
    rows = [Epoch(k, 2.0 / k, v, None, 0.01, 1.5, 0) for k, v in enumerate(losses, 1)]
    return bptt.History(rows, **more)


def test_the_best_epoch() -> None:
    assert bptt.History().best is None
    assert history([None, None, None]).best == history([None] * 3).epochs[2]
    for losses, best in (([3.0, 1.0, 2.0], 2), ([1.0, 1.0], 1), ([math.nan, 5.0, math.nan], 2)):
        found = history([*losses]).best
        assert found is not None
        assert found.number == best
    assert history([math.nan]).best is None


def test_a_history_prints_as_a_table() -> None:
    text = """\
        History(3 epochs, stopped early)
          epoch    loss  validation    lr  seconds
              1       2           3  0.01      1.5
              2       1           1  0.01      1.5  best
              3  0.6667           2  0.01      1.5"""
    want = "\n".join(line[8:] for line in text.splitlines())
    assert repr(history([3.0, 1.0, 2.0], stopped=True)) == want
    assert repr(bptt.History(interrupted=True)) == "History(0 epochs, interrupted)"
    assert "validation" not in repr(history([None]))
    long = repr(history([abs(k - 20.0) for k in range(40)])).splitlines()
    numbers = [line.split()[0] for line in long[2:]]
    assert numbers == [*"12345", "...", "21", "...", *map(str, range(36, 41))]
    assert long[8].endswith("best")


def test_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "history.png"
    figure = history([3.0, 1.0, 2.0]).plot(path)
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "Learning rate"]
    labels = [line.get_label() for line in figure.axes[0].get_lines()]
    assert labels == ["training", "validation", "best: 2"]
    np.testing.assert_array_equal(figure.axes[0].get_lines()[1].get_ydata(), [3, 1, 2])
    assert path.read_bytes().startswith(b"\x89PNG")
    history([None]).plot(path)  # over a picture of its own
    rows = [Epoch(1, 1.0, 1.0, 0.5, 0.1, 1.0, 0)]
    assert [a.get_title() for a in bptt.History(rows).plot().axes][1] == "Metric"
    with pytest.raises(ValueError, match=r"^History\.plot: the history has no epochs"):
        bptt.History().plot()
    with pytest.raises(ValueError, match=r"^History\.plot: path has .*, expected a name in"):
        history([None]).plot(tmp_path / "history.text")
    other = tmp_path / "other.png"
    other.write_bytes(b"not a picture of bptt")
    with pytest.raises(ValueError, match=r"^History\.plot: path has "):
        history([None]).plot(other)
    assert other.read_bytes() == b"not a picture of bptt"


# --- progress -------------------------------------------------------------------------------------


class Screen(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool, progress: bool | None) -> str:
    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr("bptt.training.progress.EVERY", 0.0)
    x, target = np.ones((10, 4, 2)), np.arange(10) % 2
    arguments: dict[str, Any] = {"loss": bptt.cross_entropy, "epochs": 2, "batch_size": 5}
    bptt.fit(Chain(), (x, target), validation=0.2, progress=progress, **arguments)
    return screen.getvalue()


def test_progress_is_silent_but_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, False, None) == shown(monkeypatch, False, False) == ""
    assert shown(monkeypatch, True, False) == ""
    lines = shown(monkeypatch, False, True).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2  loss 0.")
    for text in ("  validation 0.", "  lr 0.001  ", " batches/s  ", "0:00 left"):
        assert text in lines[1]


@pytest.mark.parametrize("package", [True, False])
def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, package: bool) -> None:
    if package:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    text = shown(monkeypatch, True, None)
    assert text.endswith("\n")
    assert text.count("\n") == 1
    last = [line for line in text.split("\r") if line.strip()][-1]
    assert "epoch 2/2" in last
    for part in ("loss 0.", "validation 0.", "lr 0.001"):
        assert part in last
    assert ("4/4" in last and "batch/s" in last) if package else ("batches/s" in last)


def test_progress_of_a_resumed_training_counts_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, now = Screen(True), [0.0]
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr("bptt.training.progress.time.monotonic", lambda: now[0])
    bar = Progress(None, 10, 100, 500)
    now[0] = 10.0
    for _ in range(100):
        bar.update(6, 0.5, 0.01)
    assert "0.1 batches/s  1:23:10 left" in screen.getvalue()  # at its first change
    now[0] = 20.0
    bar.update(7, 0.5, 0.01)
    assert "5.05 batches/s  1:19 left" in screen.getvalue()
    assert [_clock(s) for s in (0, 59.6, 3599, 3600)] == ["0:00", "1:00", "59:59", "1:00:00"]
