# SPDX-License-Identifier: MIT
"""Training that is interrupted, saved and continued in another process: the same bits."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.cli import main
from bptt.layers.bound import BoundCell
from support import child

TRAINING = """
import json, sys
import numpy as np
import bptt
from bptt.optim import join, split

N = 5
ALL = {"dropout": 0.3, "zoneout": 0.2, "recurrent_dropout": 0.3}
PLATEAU = {"patience": 0, "cooldown": 1, "factor": 0.5}
CASES = {
    "rnn": (bptt.RNN, ALL, bptt.SGD, {"momentum": 0.9}, "step"),
    "lstm": (bptt.LSTM, ALL | {"zoneout": (0.2, 0.4), "bidirectional": True}, bptt.Adam, {},
             "cosine"),
    "gru": (bptt.GRU, ALL | {"variational_dropout": True}, bptt.AdamW, {}, "warm-up"),
    "mgu": (bptt.MGU, ALL | {"batch_first": True}, bptt.RMSprop, {}, "plateau"),
    "slstm": (bptt.SLSTM, {"recurrent_dropout": 0.5, "dtype": "float64"}, bptt.SGD, {},
              "warm-up plateau"),
    "lstm1997": (bptt.LSTM1997, {"dropout": 0.5, "zoneout": 0.1}, bptt.Adam, {}, "warm-up cosine"),
    "plain": (bptt.LSTM, {}, bptt.Adam, {"weight_decay": 0.1}, "step"),
}
SCHEDULES = {
    "step": lambda opt: bptt.StepLR(opt, 2, 0.5),
    "cosine": lambda opt: bptt.CosineAnnealing(opt, 7),
    "plateau": lambda opt: bptt.ReduceLROnPlateau(opt, **PLATEAU),
    "warm-up": lambda opt: bptt.WarmUp(opt, 3),
    "warm-up cosine": lambda opt: bptt.WarmUp(opt, 2, after=bptt.CosineAnnealing(opt, 7)),
    "warm-up plateau": lambda opt: bptt.WarmUp(
        opt, 2, after=bptt.ReduceLROnPlateau(opt, **PLATEAU)
    ),
}


class Run:
    def __init__(self, case, folder):
        kind, options, optimiser, more, schedule = CASES[case]
        self.layer = kind(3, 4, 2, seed=0, **options)
        self.width = 4 * (1 + self.layer.bidirectional)
        self.readout = bptt.Linear(self.width, 2, seed=1, dtype=self.layer.dtype)
        params = join(layer=self.layer.parameters, readout=self.readout.parameters)
        self.optimiser = optimiser(params, lr=0.05, **more)
        self.schedule = SCHEDULES[schedule](self.optimiser)
        self.auto = bptt.AutoClip(0.5, window=3)
        self.rng = np.random.default_rng(2)
        path = folder / f"{case}.jsonl"
        self.monitor = bptt.FlowMonitor(2, path, on_alert=lambda alert: None)

    def update(self, step):
        x = self.rng.standard_normal((6, 5, 3))
        y, _, tape = self.layer.forward(x)
        prediction, readout_tape = self.readout.forward(y)
        loss, d = bptt.mse(prediction, np.ones_like(prediction))
        out = self.readout.backward(readout_tape, d)
        grads = self.layer.backward(tape, out.x, trace=self.monitor.wants(step))
        if not self.layer.bidirectional:
            self.monitor.update(step, grads.trace, loss=loss)
        gradients = join(layer=grads.params, readout=out.params)
        bptt.clip_grad_norm(gradients, self.auto)
        self.optimiser.step(gradients)
        self.schedule.step(loss)

    def parts(self):
        return {"layer": self.layer, "readout": self.readout, "optimiser": self.optimiser,
                "schedule": self.schedule, "auto": self.auto}

    def save(self, path):
        state = {name: part.state_dict() for name, part in self.parts().items()}
        bptt.save(path, join(**state), {"rng": json.dumps(self.rng.bit_generator.state)})

    def load(self, path):
        state = split(bptt.load(path))
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.rng.bit_generator.state = json.loads(bptt.load_metadata(path)["rng"])
"""

FIRST = """
from pathlib import Path
folder = Path({folder!r})
for case in CASES:
    run = Run(case, folder)
    for step in range(N):
        run.save(folder / f"{{case}}-{{step}}.npz")
        run.update(step)
    run.save(folder / f"{{case}}-{{N}}.npz")
"""

REST = """
from pathlib import Path
folder = Path({folder!r})
wrong = []
for case in CASES:
    want = bptt.load(folder / f"{{case}}-{{N}}.npz")
    moved = bptt.load(folder / f"{{case}}-0.npz")
    assert any(not np.array_equal(want[name], a) for name, a in moved.items()), case
    for begin in range(N):
        run = Run(case, folder)
        run.load(folder / f"{{case}}-{{begin}}.npz")
        for step in range(begin, N):
            run.update(step)
        run.save(folder / "again.npz")
        got = bptt.load(folder / "again.npz")
        assert got.keys() == want.keys()
        wrong += [(case, begin, n) for n in want if got[n].tobytes() != want[n].tobytes()]
print(wrong)
"""


def test_training_interrupted_at_any_update_ends_with_the_same_bits(tmp_path: Path) -> None:
    for program, printed in ((FIRST, ""), (REST, "[]\n")):
        text = child.dedent(TRAINING) + program.format(folder=str(tmp_path))
        assert child.output(text, timeout=300) == printed


def test_truncated_training_goes_on_from_the_state_of_a_chunk(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((30, 2, 3))

    def make() -> tuple[bptt.GRU, bptt.Adam]:
        gru = bptt.GRU(3, 4, 2, dropout=0.5, zoneout=0.2, recurrent_dropout=0.3, seed=0)
        return gru, bptt.Adam(gru.parameters)

    def train(gru: bptt.GRU, adam: bptt.Adam, chunks: Any) -> Any:
        for chunk in chunks:
            adam.step(chunk.backward(np.ones_like(chunk.y)).params)
            yield chunk

    gru, adam = make()
    end = [*train(gru, adam, bptt.tbptt(gru, x, 10, 10))][-1]
    first, its = make()
    chunk = next(train(first, its, bptt.tbptt(first, x, 10, 10)))
    states = {"gru": first.state_dict(), "adam": its.state_dict(), "run": {"h": chunk.state}}
    bptt.save(tmp_path / "run.npz", bptt.optim.join(**states))
    again, other = make()
    saved = bptt.optim.split(bptt.load(tmp_path / "run.npz"))
    again.load_state_dict(saved["gru"])
    other.load_state_dict(saved["adam"])
    rest = bptt.tbptt(again, x[10:], 10, 10, state=saved["run"]["h"])
    last = [*train(again, other, rest)][-1]
    np.testing.assert_array_equal(last.y, end.y)
    for name, array in gru.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], array)


def test_a_stream_goes_on_from_its_state(tmp_path: Path) -> None:
    lstm = bptt.LSTM(3, 4, 2, zoneout=0.2, seed=0)
    x = np.random.default_rng(0).standard_normal((20, 1, 3))
    stream = lstm.stream()
    stream.process(x[:9])
    bptt.save(tmp_path / "run.npz", {**dict(zip("hc", stream.state)), **lstm.state_dict()})
    saved = bptt.load(tmp_path / "run.npz")
    state = saved.pop("h"), saved.pop("c")
    other = bptt.LSTM(3, 4, 2, zoneout=0.2, seed=5)
    other.load_state_dict(saved)
    np.testing.assert_array_equal(other.stream(state=state).process(x[9:]), lstm(x)[0][9:])


# --- masks of calls that fail

RANDOM: dict[str, Any] = {
    "dropout": {"num_layers": 2, "dropout": 0.5},
    "variational": {"num_layers": 2, "dropout": 0.5, "variational_dropout": True},
    "zoneout": {"num_layers": 2, "zoneout": (0.5, 0.3)},
    "recurrent": {"num_layers": 2, "recurrent_dropout": 0.5},
}
X = np.random.default_rng(0).standard_normal((6, 3, 4)).astype("f4")


def failing(number: int, error: BaseException) -> Any:
    """Make the n-th call of one cell raise."""
    real, calls = BoundCell.forward, iter(range(number + 1))

    def forward(*args: Any, **options: Any) -> Any:
        if next(calls, None) == number:
            raise error
        return real(*args, **options)

    return forward


@pytest.mark.parametrize("options", RANDOM.values(), ids=RANDOM.keys())
def test_a_call_that_fails_leaves_its_masks_to_the_next(
    options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, twin = (bptt.LSTM(4, 8, seed=0, **options) for _ in range(2))
    want = [twin.forward(X)[0].tobytes() for _ in range(3)]
    assert len(set(want)) == 3
    assert layer.forward(X)[0].tobytes() == want[0]
    for number, error in enumerate((MemoryError(), KeyboardInterrupt())):
        with monkeypatch.context() as patch:
            patch.setattr(BoundCell, "forward", failing(number, error))
            with pytest.raises(type(error)):
                layer.forward(X)
    for wrong, how in ((X, {"checkpoint": 10}), (X[:, :, :2], {}), (X, {"state": np.ones(3)})):
        with pytest.raises((ValueError, TypeError)):
            layer.forward(wrong, **how)
    assert [layer.forward(X)[0].tobytes() for _ in range(2)] == want[1:]
    assert layer.state_dict()["masks"][1] == 3


def test_a_chunk_that_fails_leaves_its_masks_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    lstm, twin = (bptt.LSTM(4, 8, zoneout=0.5, seed=0) for _ in range(2))
    want = [chunk.y.tobytes() for chunk in bptt.tbptt(twin, X, 4, 5)]  # the first in two pieces
    with monkeypatch.context() as patch:
        patch.setattr(BoundCell, "forward", failing(1, MemoryError()))
        with pytest.raises(MemoryError):
            next(bptt.tbptt(lstm, X, 4, 5))
    assert [chunk.y.tobytes() for chunk in bptt.tbptt(lstm, X, 4, 5)] == want


def test_calls_at_the_same_time_draw_different_masks_though_one_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, twin = (bptt.LSTM(4, 8, zoneout=0.5, seed=0) for _ in range(2))
    want = [twin.forward(X)[0].tobytes() for _ in range(4)]
    begun, go = threading.Event(), threading.Event()
    real, errors = BoundCell.forward, list[BaseException]()

    def forward(cell: Any, x: Any, *args: Any, **options: Any) -> Any:
        if len(x) == 1:  # that of the other thread
            begun.set()
            assert go.wait(60)
            raise MemoryError
        return real(cell, x, *args, **options)

    def fail() -> None:
        try:
            layer.forward(X[:1])
        except MemoryError as error:
            errors.append(error)

    monkeypatch.setattr(BoundCell, "forward", forward)
    other = threading.Thread(target=fail)
    other.start()
    assert begun.wait(60)
    got = [layer.forward(X)[0].tobytes()]
    go.set()
    other.join()
    assert errors
    saved = layer.state_dict()
    assert saved["masks"].tolist()[1:] == [2, 0]
    got += [layer.forward(X)[0].tobytes() for _ in range(3)]
    assert got == [want[1], want[0], want[2], want[3]]
    again = bptt.LSTM(4, 8, zoneout=0.5, seed=1)
    again.load_state_dict(saved)
    assert [again.forward(X)[0].tobytes() for _ in range(3)] == got[1:]


def test_only_layers_with_random_masks_save_their_count() -> None:
    for layer in (bptt.LSTM(3, 4), bptt.Linear(3, 4), bptt.Attention(4), bptt.Embedding(3, 4)):
        assert layer.state_dict().keys() == layer.parameters.keys()
    gru = bptt.GRU(3, 4, zoneout=0.5, seed=0)
    state = gru.state_dict()
    assert list(state) == [*gru.parameters, "masks"]
    other = bptt.GRU(3, 4, zoneout=0.5, seed=1)
    masks = other.state_dict()["masks"]
    plain = bptt.GRU(3, 4, seed=2)
    for arrays in (gru.parameters, state):  # the parameters alone
        for layer in (other, plain):
            layer.load(arrays)
            assert all(np.array_equal(layer.parameters[k], v) for k, v in gru.parameters.items())
    np.testing.assert_array_equal(other.state_dict()["masks"], masks)
    for layer, given, has in ((other, gru.parameters, "no"), (plain, state, "a")):
        message = f"GRU.load_state_dict: state has {has} count of random masks, expected"
        with pytest.raises(ValueError, match=message):
            layer.load_state_dict(given)


def test_a_state_with_a_count_of_masks_is_exported_as_the_parameters_are(tmp_path: Path) -> None:
    gru = bptt.GRU(3, 4, zoneout=0.5, seed=0)
    texts = []
    for model in (gru, gru.state_dict(), {"gru": gru}, bptt.optim.join(gru=gru.state_dict())):
        bptt.save_c_header(tmp_path / "m.h", model, "m")
        texts.append((tmp_path / "m.h").read_text())
    assert not any("masks" in text.lower() for text in texts)
    bptt.save(tmp_path / "m.npz", bptt.optim.join(gru=gru.state_dict()))
    assert main(["export", str(tmp_path / "m.npz"), "--json", str(tmp_path / "m.json")]) == 0
    (again,) = bptt.load_rtneural(tmp_path / "m.json")
    np.testing.assert_allclose(again(X[:, :, :3])[0], gru_without_zoneout(gru)(X[:, :, :3])[0])


def gru_without_zoneout(gru: bptt.GRU) -> bptt.GRU:
    plain = bptt.GRU(gru.input_size, gru.hidden_size)
    plain.load(gru.parameters)
    return plain
