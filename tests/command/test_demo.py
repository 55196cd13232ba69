# SPDX-License-Identifier: MIT
"""The demo: its claims, its numbers, its picture, and that it leaves cleanly."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bptt import GRU, LSTM, RNN, Linear, mse, tasks
from bptt._files.pictures import MARK, write_picture
from bptt.demo.console import Result
from bptt.demo.digits import terms
from bptt.demo.model import Batch, Reader, state_gradient_norms

# Runs the command line in this process's Python, after a line of preparation.
MAIN = "import sys; from bptt.cli import main; sys.exit(main(sys.argv[1:]))"
SHORT = "import bptt.demo.command as d; d.FULL = d.QUICK = dict.fromkeys(d.FULL, 2); "
HIDE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
"""


def demo(folder, *args, before=""):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", before + MAIN, "demo", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert content[-8:-4] == b"IEND"  # whole
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


@pytest.mark.slow
def test_full_run_meets_its_goals(tmp_path):
    pytest.importorskip("matplotlib")
    done = demo(tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.count(" met") == 4, done.stdout
    assert "MISSED" not in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["bptt-demo.png"]
    width, height = png_size(tmp_path / "bptt-demo.png")
    assert width > 1000
    assert height > 600


def test_quick_run(tmp_path):
    pytest.importorskip("matplotlib")
    done = demo(tmp_path, "--quick", "--seed", "1", "--out", "a picture.PNG")
    assert (done.returncode, done.stderr) == (0, ""), done
    for text in ("three digits", "adding, T=100", "speaker of 9", "CO2, 52 weeks", "full run"):
        assert text in done.stdout
    assert " met" not in done.stdout
    png_size(tmp_path / "a picture.PNG")


def test_same_seed_same_numbers(tmp_path):
    def run(*args):
        lines = demo(tmp_path, "--quick", *args, before=SHORT).stdout.splitlines()
        return [line for line in lines if not line.endswith(" s.")]  # the time

    first = run("--seed", "3")
    assert first == run("--seed", "3")
    assert first != run("--seed", "4")


@pytest.mark.parametrize(
    "hidden", [["matplotlib"], ["tqdm"], ["rich"], ["matplotlib", "tqdm", "rich"]]
)
def test_without_optional_packages(tmp_path, hidden):
    done = demo(tmp_path, "--quick", before=HIDE.format(hidden=set(hidden)) + SHORT)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert ('without tqdm: pip install "bptt[progress]"' in done.stdout) == ("tqdm" in hidden)
    assert ('without rich: pip install "bptt[progress]"' in done.stdout) == ("rich" in hidden)
    assert ('without matplotlib: pip install "bptt[plot]"' in done.stdout) == (
        "matplotlib" in hidden
    )
    assert (tmp_path / "bptt-demo.png").exists() == ("matplotlib" not in hidden)
    for text in ("baseline", "three digits", "adding, T=100", "speaker of 9", "CO2, 52 weeks"):
        assert text in done.stdout


def test_full_run_that_misses_says_so(tmp_path):
    done = demo(tmp_path, before=SHORT)
    assert done.returncode == 1
    assert "MISSED" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_interrupt(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "bptt", "demo"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore SIGINT, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        for line in process.stdout:
            if line.startswith("2 "):  # in the middle of training
                process.send_signal(signal.SIGINT)
                break
        _, stderr = process.communicate(timeout=10)
    assert stderr == "bptt: interrupted\n"
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


class Figure:
    def __init__(self, error=None):
        self.error = error

    def savefig(self, file, format, dpi, metadata):
        file.write(f"half, {metadata['Software']}".encode())
        if self.error:
            raise self.error
        file.write(b" and half")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk full")])
def test_picture_is_written_whole_or_not_at_all(tmp_path, error):
    out = tmp_path / "x.png"
    write_picture("demo", "--out", out, Figure(), 120, False)
    whole = f"half, {MARK} and half".encode()
    assert out.read_bytes() == whole
    with pytest.raises(type(error)):
        write_picture("demo", "--out", out, Figure(error), 120, False)
    assert out.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [out]


def test_terms_are_the_derivatives_by_each_steps_own_weight():
    """Give every step its own copy of w_in, in plain Python, and move one at a time."""
    x, target, _ = tasks.three_digits(6, seed=0)
    x, target = x.astype(np.float64), target.astype(np.float64)
    w = {"in": 0.7, "h": 0.9, "out": 0.6}

    def loss(w_in):
        errors = []
        for b in range(4):
            o = 0.0
            for t in range(6):
                o = math.tanh(float(x[t, b, 0]) * w_in[t] + o * w["h"])
            errors.append((w["out"] * o - target[b]) ** 2)
        return sum(errors) / 4

    step = 1e-6 * np.eye(6)
    w_in = np.full(6, w["in"])
    expected = [(loss(w_in + e) - loss(w_in - e)) / 2e-6 for e in step]
    value, gradient, shares = terms(w, x, target)
    assert value == pytest.approx(loss(w_in), rel=1e-12)
    np.testing.assert_allclose(shares, expected, rtol=1e-7, atol=1e-10)
    assert shares.sum() == pytest.approx(gradient["in"], rel=1e-12)
    for name in ("h", "out"):
        moved = []
        for sign in (1, -1):
            w[name] += sign * 1e-6
            moved.append(loss(w_in))
            w[name] -= sign * 1e-6
        assert gradient[name] == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-6)


def reader(layer) -> tuple[Reader, Batch]:
    model = Reader(layer(2, 5, dtype="float64", seed=0), 1, 0)
    model.head = Linear(5, 1, dtype="float64", seed=0)
    x, target, _ = tasks.adding(8, 6, seed=0)
    return model, Batch(x.astype(np.float64), target[:, None].astype(np.float64))


@pytest.mark.parametrize("layer", [RNN, LSTM, GRU])
def test_state_gradient_norms(layer):
    """Another way: the initial state's gradient, of the rest of the sequence from each step."""
    model, batch = reader(layer)
    norms = state_gradient_norms(model, batch, mse)
    assert norms.shape == (8,)
    for t in range(1, 8):
        _, state = model.rnn(batch.x[:t])
        y, _, tape = model.rnn.forward(batch.x[t:], state)
        prediction, head_tape = model.head.forward(y[-1])
        dy = np.zeros_like(y)
        dy[-1] = model.head.backward(head_tape, mse(prediction, batch.target)[1]).x
        dstate = model.rnn.backward(tape, dy).state
        dh = dstate[0] if layer is LSTM else dstate
        assert norms[t - 1] == pytest.approx(np.linalg.norm(dh), rel=1e-10)
    assert norms[-1] == pytest.approx(np.linalg.norm(dy[-1]), rel=1e-10)


@pytest.mark.parametrize("layer", [RNN, LSTM, GRU])
def test_reader_gradients(layer):
    """The derivative of the loss along a random direction, with ragged lengths."""
    model, batch = reader(layer)
    batch = batch._replace(lengths=np.array([8, 3, 5, 8, 1, 6]))
    _, grads = model.gradients(batch, mse)
    arrays = {f"rnn.{k}": v for k, v in model.rnn.parameters.items()}
    arrays |= {f"head.{k}": v for k, v in model.head.parameters.items()}
    assert set(grads) == set(arrays)
    rng = np.random.default_rng(0)
    direction = {k: rng.standard_normal(v.shape) for k, v in arrays.items()}
    values = []
    for step in (1e-6, -2e-6):
        for k, v in arrays.items():
            v += step * direction[k]
        values.append(mse(model(batch.x, batch.lengths), batch.target)[0])
    slope = sum(float((grads[k] * direction[k]).sum()) for k in arrays)
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope, rel=1e-6)


def test_result():
    low = Result("a", "b", 0.2, "MSE", 0.25, goal=0.2)
    high = Result("a", "b", 0.2, "accuracy", 0.1, goal=0.2, higher_is_better=True)
    free = Result("a", "b", 0.3, "MSE", 0.25)
    assert [r.met() for r in (low, high, free)] == [False, True, True]
    assert [r.row(True)[-1] for r in (low, high, free)] == ["< 0.2 MISSED", ">= 0.2 met", ""]
    assert low.row(False)[-1] == "< 0.2"
