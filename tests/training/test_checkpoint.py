# SPDX-License-Identifier: MIT
"""A training that is killed, stopped or fails at any moment, and goes on with the same bits."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.training import Epoch, Step
from support.child import PATIENCE
from support.models import Chain
from support.paths import TESTS

MASKS: dict[str, Any] = {"num_layers": 2, "dropout": 0.3, "zoneout": 0.2, "recurrent_dropout": 0.3}


def plateau(optimizer: Any, steps: int) -> Any:
    return bptt.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, cooldown=1)


def warm_up(optimizer: Any, steps: int) -> Any:
    return bptt.WarmUp(optimizer, 5, after=bptt.CosineAnnealing(optimizer, steps - 5))


# Options of the model, the optimiser and its options, arguments of fit.
Case = tuple[dict[str, Any], Callable[..., Any], dict[str, Any], dict[str, Any]]
CASES: dict[str, Case] = {
    "early": (
        MASKS, bptt.Adam, {"lr": 0.05},
        {"schedule": "cosine", "validation": 0.3, "patience": 2, "clip": "auto", "epochs": 20},
    ),
    "plateau": (
        {**MASKS, "batch_first": True, "dtype": "float64"}, bptt.RMSprop, {"lr": 0.02},
        {"schedule": plateau, "validation": 0.2, "clip": 0.5, "groups": True, "epochs": 8},
    ),
    "warm": (
        {**MASKS, "variational_dropout": True}, bptt.SGD, {"lr": 0.2, "momentum": 0.9},
        {"schedule": warm_up, "clip": None, "epochs": 8},
    ),
}  # fmt: skip


def accuracy(logits: Any, target: Any) -> float:
    return float(np.mean(logits.argmax(1) == target))


def data(n: int = 30) -> tuple[list[Any], Any]:
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((rng.integers(1, 9), 2)) for _ in range(n)]
    return x, rng.integers(0, 2, n)


class Run:
    """A call of fit, and everything that it changes."""

    def __init__(self, case: str, seed: int = 0) -> None:
        options, kind, how, arguments = CASES[case]
        self.model = Chain(hidden=6, seed=seed, **options)
        self.optimizer = kind(self.model.parameters, **how)
        self.arguments = {**arguments, "loss": bptt.cross_entropy, "batch_size": 4}
        if arguments["clip"] == "auto":
            self.arguments["clip"] = bptt.AutoClip(0.5, window=10)
        if arguments.get("groups"):
            self.arguments["groups"] = np.arange(30) % 7
        if "validation" in arguments:
            self.arguments["metric"] = accuracy

    def fit(self, checkpoint: Path | None = None, **more: Any) -> bptt.History:
        arguments = {**self.arguments, "checkpoint_minutes": 0, **more}
        return bptt.fit(
            self.model, data(), optimizer=self.optimizer, checkpoint=checkpoint, **arguments
        )

    def state(self, history: bptt.History) -> dict[str, Any]:
        """All bits that depend on the training, but for times."""
        rows = [[np.nan if v is None else v for v in e._replace(seconds=0)] for e in history.epochs]
        clip = self.arguments["clip"]
        return {
            **bptt.optim.join(model=self.model.state_dict(), optimizer=self.optimizer.state_dict()),
            "clip": np.array(clip.history if isinstance(clip, bptt.AutoClip) else []),
            "epochs": np.array(rows),
            "stopped": np.array(history.stopped),
        }


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if one[name].tobytes() != other[name].tobytes()]


# --- kill -9 --------------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, "training")
from test_checkpoint import Run
import bptt

case, folder = sys.argv[1], Path(sys.argv[2])
run = Run(case, seed=int(sys.argv[3]))
print("begun", flush=True)
history = run.fit(folder / "run.npz", checkpoint_minutes=float(sys.argv[4]))
bptt.save(folder / "end.npz", run.state(history))
print("done", flush=True)
"""


def start(case: str, folder: Path, seed: int, minutes: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, case, str(folder), str(seed), str(minutes)]
    return subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True)


def killed_and_resumed(case: str, folder: Path, moments: list[float]) -> bool:
    """Kill at each moment, in seconds after the beginning, then run to the end. Was one killed?"""
    killed = False
    for seed, moment in enumerate(moments):
        child = start(case, folder, seed, 0)
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        timer = threading.Timer(moment, child.kill)
        timer.start()
        rest = child.stdout.read()
        timer.cancel()
        killed |= not rest
        assert child.wait(60 * PATIENCE) in (0, -signal.SIGKILL)
        child.stdout.close()
    # Killed before its first checkpoint, a training begins again, from its own weights.
    child = start(case, folder, 99 if (folder / "run.npz").exists() else 0, 60)
    assert child.communicate(timeout=60 * PATIENCE)[0] == "begun\ndone\n"
    assert child.returncode == 0
    return killed


def kills(folder: Path, count: int) -> int:
    """Trainings of each case in turn, killed once each at a random moment."""
    rng, hits = random.Random(0), 0
    for k in range(count):
        case = [*CASES][k % len(CASES)]
        run = Run(case)
        want = run.state(run.fit())
        place = folder / str(k)
        place.mkdir()
        hits += killed_and_resumed(case, place, [rng.uniform(0, 0.4)])
        assert differing(bptt.load(place / "end.npz"), want) == [], (case, k)
        shutil.rmtree(place)
    return hits


def test_a_training_killed_at_a_random_moment_ends_with_the_same_bits(tmp_path: Path) -> None:
    kills(tmp_path, 2)


@pytest.mark.slow
def test_a_training_killed_at_fifty_random_moments_ends_with_the_same_bits(tmp_path: Path) -> None:
    assert kills(tmp_path, int(os.environ.get("BPTT_KILLS", 50))) > 0


# --- each update ----------------------------------------------------------------------------------


class Stop:
    """Ends a training at an update, before it is saved."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_batch(self, step: Step) -> None:
        if step.number == self.at:
            raise RuntimeError("stop")


class Copy:
    """Keeps the checkpoint of each update, as a kill would leave it."""

    def __init__(self, path: Path) -> None:
        self.path, self.contents = path, list[bytes]()

    def on_batch(self, step: Step) -> None:
        if step.number:
            self.contents.append(self.path.read_bytes())


@pytest.mark.parametrize("case", CASES)
def test_a_training_ended_at_any_update_goes_on_with_the_same_bits(
    case: str, tmp_path: Path
) -> None:
    path, first = tmp_path / "run.npz", Run(case)
    want = first.state(first.fit(epochs=4))
    run, copy = Run(case), Copy(path)
    assert differing(run.state(run.fit(path, epochs=4, callbacks=[copy])), want) == []
    copy.contents.append(path.read_bytes())
    for number, content in enumerate(copy.contents, 1):
        path.write_bytes(content)
        again = Run(case, seed=number)
        history = again.fit(path, epochs=4, checkpoint_minutes=60)
        assert differing(again.state(history), want) == [], number
        assert len(again.model.calls) == len(copy.contents) - number


def test_a_finished_training_is_not_run_again(tmp_path: Path) -> None:
    run, again = Run("early"), Run("early", seed=5)
    want = run.state(run.fit(tmp_path / "run.npz"))
    history = again.fit(tmp_path / "run.npz")
    assert again.model.calls == []
    assert history.stopped
    assert differing(again.state(history), want) == []


def test_checkpoints_are_minutes_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, times = [0.0], list[float]()
    monkeypatch.setattr("bptt.training.checkpoint.time.monotonic", lambda: now[0])
    real = bptt.training.checkpoint.save

    def save(*args: Any) -> None:
        times.append(now[0])
        real(*args)

    class Clock:
        def on_batch(self, step: Step) -> None:
            now[0] += 25.0

    monkeypatch.setattr("bptt.training.checkpoint.save", save)
    run = Run("warm")
    run.fit(tmp_path / "run.npz", checkpoint_minutes=2, callbacks=[Clock()], epochs=2)
    assert times == [125.0, 250.0, 375.0, 400.0]  # 16 updates; the last at the end


# --- Ctrl-C ---------------------------------------------------------------------------------------


class Press:
    """Ctrl-C at some updates, once or twice."""

    def __init__(self, at: int, times: int = 1) -> None:
        self.at, self.times = at, times

    def on_batch(self, step: Step) -> None:
        if step.number == self.at:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """As at a terminal; a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("at", [0, 5, 6, 12])
def test_ctrl_c_returns_the_best_model_so_far(at: int, tmp_path: Path) -> None:
    """And its checkpoint goes on; an epoch has 6 updates."""
    path, run, kept = tmp_path / "run.npz", Run("early"), list[Any]()

    class Keep:
        def on_epoch(self, epoch: Epoch) -> None:
            kept.append(run.model.state_dict())

    history = run.fit(path, callbacks=[Press(at), Keep()])
    assert history.interrupted
    assert not history.stopped
    assert len(history) == at // 6
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if history.best is not None:
        best = kept[history.best.number - 1]
        assert differing(run.model.state_dict(), best) == []
    other = Run("early")
    want = other.state(other.fit())
    # The same objects go on, as in a notebook, or others.
    run.optimizer.lr = 0.05
    assert differing(run.state(run.fit(path)), want) == []


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_raises_at_once(tmp_path: Path) -> None:
    path, run = tmp_path / "run.npz", Run("early")
    with pytest.raises(KeyboardInterrupt):
        run.fit(path, callbacks=[Press(8, times=2)])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    other, again = Run("early"), Run("early")
    assert differing(again.state(again.fit(path)), other.state(other.fit())) == []


def test_ctrl_c_of_a_program_with_a_handler_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run("early")

    def handler(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    try:
        history = run.fit(callbacks=[Press(13)])
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert history.interrupted
    assert len(history) == 2


def test_a_training_in_another_thread() -> None:
    run, other, results = Run("warm"), Run("warm"), list[Any]()
    thread = threading.Thread(target=lambda: results.append(run.fit()))
    thread.start()
    thread.join()
    assert differing(run.state(results[0]), other.state(other.fit())) == []


# --- files that do not fit ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"epochs": 21}, "epochs"),
        ({"batch_size": 5}, "batch_size"),
        ({"seed": 1}, "seed"),  # also holds out others
        ({"clip": 1.0}, "clip"),
        ({"clip": bptt.AutoClip(0.4, window=10)}, "clip"),
        ({"schedule": None}, "schedule"),
        ({"patience": 3}, "patience"),
        ({"nonfinite": "skip"}, "nonfinite"),
        ({"validation": 0.5}, "data"),
        ({"metric": None}, "metric"),
    ],
)
def test_a_checkpoint_of_other_arguments_is_refused(
    change: dict[str, Any], what: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.npz"
    with pytest.raises(RuntimeError, match="stop"):
        Run("early").fit(path, callbacks=[Stop(8)])
    content, run = path.read_bytes(), Run("early", seed=3)
    before = run.state(bptt.History())
    what = "data" if "seed" in change else what
    with pytest.raises(ValueError, match=rf"^fit: checkpoint .* is of a call with other {what}, "):
        run.fit(path, **change)
    assert path.read_bytes() == content
    assert differing(run.state(bptt.History()), before) == []


def test_a_checkpoint_of_another_model_or_data_is_refused(tmp_path: Path) -> None:
    path, (x, target) = tmp_path / "run.npz", data()
    arguments: dict[str, Any] = {"loss": bptt.cross_entropy, "epochs": 2, "checkpoint": path}
    bptt.fit(Chain(), (x, target), **arguments)
    content = path.read_bytes()
    moved = [x[0] + 1e-9, *x[1:]]
    calls: dict[str, Callable[[], Any]] = {
        "parameters": lambda: bptt.fit(Chain(hidden=6), (x, target), **arguments),
        "data": lambda: bptt.fit(Chain(), (moved, target), **arguments),
        "data.*29 seq": lambda: bptt.fit(Chain(), (x[1:], target[1:]), **arguments),
        "optimizer": lambda: bptt.fit(Chain(), (x, target), lr=0.5, **arguments),
    }
    model = Chain()
    other = bptt.AdamW(model.parameters)
    calls["optimizer, .Adam"] = lambda: bptt.fit(model, (x, target), optimizer=other, **arguments)
    decayed = bptt.Adam(model.parameters, weight_decay=0.1)
    calls["optimizer"] = lambda: bptt.fit(model, (x, target), optimizer=decayed, **arguments)
    slow = bptt.Adam(model.parameters, groups=[{"params": "gru.*", "lr": 0.1}])
    calls["optimizer, .Adam.*0.1"] = lambda: bptt.fit(
        model, (x, target), optimizer=slow, **arguments
    )
    for what, call in calls.items():
        with pytest.raises(ValueError, match=f"^fit: checkpoint .* with other {what}"):
            call()
        assert path.read_bytes() == content
    assert len(bptt.fit(Chain(seed=9), (x, target), **arguments)) == 2


def test_files_that_are_no_checkpoints_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    bptt.save(path, Chain().state_dict())
    files = {"is another file": path.read_bytes(), "not known to be": b"some text"}
    for text, content in files.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^fit: checkpoint .*{text}"):
            Run("warm").fit(path)
        assert path.read_bytes() == content
    with pytest.raises(FileNotFoundError, match=r"^fit: checkpoint has the folder"):
        Run("warm").fit(tmp_path / "none" / "run.npz")
    path.unlink()
    with pytest.raises(RuntimeError, match="stop"):
        Run("warm").fit(path, callbacks=[Stop(8)])
    whole = path.read_bytes()
    for cut in (len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"^fit: checkpoint "):
            Run("warm").fit(path)
        assert len(path.read_bytes()) == cut


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no position": lambda c: c.pop("position"),
    "a list": lambda c: c.update(position=[1, 2]),
    "unknown field": lambda c: c["position"].update(more=1),
    "missing field": lambda c: c["position"].pop("waited"),
    "text": lambda c: c["position"].update(updates="3"),
    "negative": lambda c: c["position"].update(batches=-1),
    "too many": lambda c: c["position"].update(batches=1000),
    "epochs": lambda c: c["position"].update(epoch=2),
    "short row": lambda c: c["position"].update(epochs=[[1, 2]], epoch=1),
    "no list": lambda c: c["position"].update(epochs=None),
    "format": lambda c: c.update(format=2),
    "call": lambda c: c.update(call=None),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_changed_checkpoint_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    with pytest.raises(RuntimeError, match="stop"):
        Run("warm").fit(path, callbacks=[Stop(4)])
    content = json.loads(bptt.load_metadata(path)["bptt.fit"])
    DAMAGES[damage](content)
    bptt.save(path, bptt.load(path), {"bptt.fit": json.dumps(content)})
    run = Run("warm", seed=4)
    before = run.state(bptt.History())
    with pytest.raises(ValueError, match=r"^fit: checkpoint "):
        run.fit(path)
    assert differing(run.state(bptt.History()), before) == []


@pytest.mark.parametrize("name", ["optimizer.lr", "schedule.steps", "model.gru.masks"])
def test_a_checkpoint_without_a_part_changes_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    with pytest.raises(RuntimeError, match="stop"):
        Run("warm").fit(path, callbacks=[Stop(4)])
    arrays = bptt.load(path)
    del arrays[name]
    bptt.save(path, arrays, bptt.load_metadata(path))
    run = Run("warm", seed=4)
    before = run.state(bptt.History())
    with pytest.raises(ValueError, match=r"^fit: checkpoint .* is damaged"):
        run.fit(path)
    assert differing(run.state(bptt.History()), before) == []


def test_a_checkpoint_that_cannot_be_written_ends_no_training(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    class Remove:
        def on_batch(self, step: Step) -> None:
            if step.number == 3:
                shutil.rmtree(folder)

    run, other = Run("warm"), Run("warm")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        history = run.fit(folder / "run.npz", callbacks=[Remove()])
    assert len(seen) == 1
    assert str(seen[0].message).startswith("fit: checkpoint cannot be written, training goes on: ")
    assert differing(run.state(history), other.state(other.fit())) == []
