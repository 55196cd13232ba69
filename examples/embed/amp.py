# SPDX-License-Identifier: MIT
"""An LSTM learns the sound of a guitar amplifier, for amp.cpp to play in real time.

    python amp.py && c++ -std=c++17 -O3 -march=native amp.cpp $(python -m bptt --includes) -o amp
    ./amp clean.f32 amplified.f32

The signal is plucked strings. The amplifier is a formula: a tube that saturates more on one side
and whose bias sags while the signal is loud, then a loudspeaker that rolls off. The script writes
amp_model.h (the weights), clean.f32 (a test signal, raw float32 at 48 kHz), expected.f32 (the
model's output for it) and, if matplotlib is installed, amp.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bptt
from bptt.optim import join

RATE = 48000  # samples a second
HIDDEN = 16

Signal = NDArray[np.float32]


def plucked_strings(seconds: float, seed: int) -> Signal:
    """Play four notes a second by Karplus and Strong (1983), Computer Music Journal 7(2)."""
    rng = np.random.default_rng(seed)
    out = np.zeros(round(seconds * RATE))
    for start in range(0, len(out), RATE // 4):
        period = round(RATE / (82.4 * 2 ** (rng.integers(0, 25) / 12)))  # from the low E up
        samples = len(out) - start
        string = np.zeros((samples // period + 2, period))
        string[0] = rng.uniform(-1, 1, period)
        for turn in range(1, len(string)):  # the mean of two neighbours one period before
            before = string[turn - 1]
            string[turn] = 0.498 * (before + np.append(string[turn - 2, -1:], before[:-1]))
        out[start:] += rng.uniform(0.2, 0.6) * string.reshape(-1)[:samples]
    return np.asarray(np.clip(out, -1, 1), np.float32)


def amplifier(x: Signal) -> Signal:
    """The formula to learn; its state is the loudness and the position of the loudspeaker."""
    out, loudness, speaker = np.empty_like(x), 0.0, 0.0
    for t, sample in enumerate(x.tolist()):
        loudness += 0.001 * (abs(sample) - loudness)
        driven = 4 * sample - 1.5 * loudness
        tube = np.tanh(driven) if driven > 0 else 0.7 * np.tanh(1.3 * driven)
        speaker += 0.4 * (tube - speaker)
        out[t] = 0.5 * speaker
    return out


def segments(signal: Signal, steps: int) -> Signal:
    """Cut the signal into consecutive pieces, [steps, pieces, 1]."""
    pieces = len(signal) // steps
    return np.ascontiguousarray(signal[: steps * pieces].reshape(pieces, steps).T[..., None])


class Model:
    """LSTM(1, HIDDEN), and a linear output added to the clean signal."""

    def __init__(self) -> None:
        self.lstm = bptt.LSTM(1, HIDDEN, seed=0)
        self.out = bptt.Linear(HIDDEN, 1, seed=1)
        self.parameters = join(lstm=self.lstm.parameters, out=self.out.parameters)

    def __call__(self, x: Signal, state: Any = None) -> tuple[Any, Any, tuple[Any, Any]]:
        h, state, tape = self.lstm.forward(x, state)
        y, out_tape = self.out.forward(h)
        return y + x, state, (tape, out_tape)

    def gradients(self, tapes: tuple[Any, Any], dy: Signal) -> dict[str, Any]:
        tape, out_tape = tapes
        dout = self.out.backward(out_tape, dy)
        grads = self.lstm.backward(tape, dout.x)
        return join(lstm=grads.params, out=dout.params)


def error_to_signal(y: Signal, target: Signal) -> float:
    return float(np.square(y - target).sum() / np.square(target).sum())


def train(model: Model, epochs: int, seconds: float) -> list[float]:
    """Truncated BPTT: pieces of half a second side by side, 1000 samples at a time."""
    clean = plucked_strings(seconds, seed=1)
    x, target = segments(clean, RATE // 2), segments(amplifier(clean), RATE // 2)
    adam = bptt.Adam(model.parameters, lr=5e-3)
    errors = []
    for epoch in range(epochs):
        adam.lr = 5e-3 * 0.97**epoch
        state, squares = None, 0.0
        for t in range(0, len(x), 1000):
            y, state, tapes = model(x[t : t + 1000], state)
            wrong = y - target[t : t + 1000]
            squares += float(np.square(wrong).sum())
            gradients = model.gradients(tapes, 2 * wrong / wrong.size)
            bptt.clip_grad_norm(gradients, 1.0)
            adam.step(gradients)
        errors.append(squares / float(np.square(target).sum()))
        if epoch % 10 == 9 or epoch == epochs - 1:
            print(f"epoch {epoch + 1}: error to signal {errors[-1]:.4f}")
    return errors


def draw(path: Path, clean: Signal, target: Signal, y: Signal, errors: list[float]) -> None:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    left.semilogy(range(1, len(errors) + 1), errors)
    left.set(xlabel="epoch", ylabel="error to signal", title="Training")
    part = slice(RATE // 2, RATE // 2 + 288)
    ms = np.arange(288) / RATE * 1e3
    right.plot(ms, clean[part], color="0.7", label="clean")
    right.plot(ms, target[part], label="amplifier")
    right.plot(ms, y[part], "--", label="LSTM")
    right.set(xlabel="time (ms)", ylabel="amplitude", title="6 ms not seen in training")
    right.legend()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=20, help="of the signal to learn from")
    parser.add_argument("--folder", type=Path, default=Path())
    args = parser.parse_args()

    model = Model()
    errors = train(model, args.epochs, args.seconds)
    clean = plucked_strings(2, seed=2)
    target = amplifier(clean)
    y = model(clean[:, None, None])[0][:, 0, 0]
    print(f"signal not seen in training: error to signal {error_to_signal(y, target):.4f}")

    bptt.save_c_header(args.folder / "amp_model.h", model.parameters, "amp")
    clean.tofile(args.folder / "clean.f32")
    y.tofile(args.folder / "expected.f32")
    draw(args.folder / "amp.png", clean, target, y, errors)


if __name__ == "__main__":
    main()
