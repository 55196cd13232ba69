# SPDX-License-Identifier: MIT
"""Ctrl-C during ``bptt fit``: the best model so far is written, and the exit code is 130."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from bptt import models
from bptt.models import forecaster, language_model, sequence
from support.command import main

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """As at a terminal; a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Press:
    """Ctrl-C at an update, once or twice; keeps the weights after each epoch."""

    def __init__(self, at, times=1):
        self.at, self.times, self.model, self.kept = at, times, None, []

    def on_batch(self, step):
        if step.number == self.at:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)

    def on_epoch(self, epoch):
        self.kept.append(self.model.state_dict())


def pressing(monkeypatch, module, press):
    """Have an estimator's call of `bptt.fit` interrupted."""
    fit = module.fit

    def interrupted(model, *args, **options):
        press.model = model
        return fit(model, *args, callbacks=[press], **options)

    monkeypatch.setattr(module, "fit", interrupted)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=rng.standard_normal((40, 6, 2)), y=np.arange(40) % 2)
    np.savez(tmp_path / "y.npz", y=np.sin(np.arange(300)))
    (tmp_path / "text.txt").write_text("abcd" * 500)
    return tmp_path


TASKS = {
    "classify": ("x.npz", sequence), "regress": ("x.npz", sequence),
    "forecast": ("y.npz", forecaster), "text": ("text.txt", language_model),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_the_best_model_so_far_is_written(task, files, capsys, monkeypatch):
    (name, module), out, press = TASKS[task], files / "m.npz", Press(at=40)
    pressing(monkeypatch, module, press)
    more = {"forecast": ("--steps", "3", "--window", "20"), "text": ("--window", "32")}
    code, output, error = main(
        capsys, "fit", files / name, "--task", task, "--out", out, "--hidden-size", "4",
        "--epochs", "1000", "--batch-size", "4", "--json", *more.get(task, ()),
    )  # fmt: skip
    said = json.loads(output)
    assert (code, error) == (130, "")
    assert said["interrupted"]
    assert said["score"]["value"] > 0
    assert 1 < said["epochs"] == len(press.kept) < 1000
    written = models.load(out)
    assert written.history_.interrupted
    found = written.model_.state_dict()
    if task in ("forecast", "text"):  # these hold a part out, and keep the best epoch
        best = press.kept[written.history_.best.number - 1]
        assert all((found[key] == best[key]).all() for key in best)
    assert all((found[key] == press.model.state_dict()[key]).all() for key in found)


def test_the_summary_says_so_and_the_checkpoint_goes_on(files, capsys, monkeypatch):
    command = ("fit", files / "x.npz", "--task", "classify", "--hidden-size", "4", "--epochs", "6",
               "--checkpoint")  # fmt: skip
    whole, other = (files / "whole.npz", files / "other.npz")
    assert main(capsys, *command, files / "c1.npz", "--out", whole)[0] in (0, 1)
    with monkeypatch.context() as patch:
        pressing(patch, sequence, Press(at=3))
        code, output, _ = main(capsys, *command, files / "c2.npz", "--out", other)
    assert code == 130
    assert "(interrupted)" in output
    code, output, _ = main(capsys, *command, files / "c2.npz", "--out", other)
    assert code in (0, 1)
    assert "6 epochs" in output
    one, two = (models.load(path).model_.state_dict() for path in (whole, other))
    assert all((one[key] == two[key]).all() for key in one)


def test_twice_or_before_the_training_writes_nothing(files, capsys, monkeypatch):
    command = ("fit", files / "x.npz", "--task", "classify", "--out", files / "m.npz")
    with monkeypatch.context() as patch:
        pressing(patch, sequence, Press(at=2, times=2))
        assert main(capsys, *command) == (130, "", "bptt: interrupted\n")

    def read(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("bptt.command.fit.read_sequences", read)
    assert main(capsys, *command) == (130, "", "bptt: interrupted\n")
    assert not (files / "m.npz").exists()


def test_in_the_score_the_trained_model_is_kept(files, capsys, monkeypatch):
    def predict(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("bptt.models.SequenceClassifier.score", predict)
    out = files / "m.npz"
    code, output, _ = main(capsys, "fit", files / "x.npz", "--task", "classify", "--out", out,
                           "--epochs", "2", "--json")  # fmt: skip
    said = json.loads(output)
    assert (code, said["score"], said["epochs"], said["interrupted"]) == (130, None, 2, True)
    assert len(models.load(out).history_) == 2
