# SPDX-License-Identifier: MIT
"""Does the advice of `gradient_flow` help? Twelve tasks, trained without and with it.

    python benchmarks/advice.py                   # ten minutes on a free core; writes the page
    python benchmarks/advice.py "adding" "copy"   # these tasks, kept with the others
    python benchmarks/advice.py --quick           # a few updates of each, printed only

Each task first trains a new layer. The number of inputs that an answer needs comes from the
definition of the task for the six tasks that need long memory, because a model that has learnt
nothing cannot show it; for the other six `needed_memory` measures it on the trained model. With
this need, `gradient_flow` examines the trained layer on a batch. If its advice names initial
weights, a new layer of the same seed gets the first of them and the same updates.

A task is solved if its held-out loss is at most a tenth of the best loss without memory. Pictures
are the 8 x 8 digits of scikit-learn (pip install scikit-learn).
"""

from __future__ import annotations

import importlib
import json
import math
import re
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import bptt
from bptt import tasks
from bptt.flow import needed_memory

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs" / "gradient_flow.md", ROOT / "benchmarks" / "results" / "advice.json"
SEEDS, BATCH, HELD_OUT = 3, 32, 500
Layer = Any
Array = Any
Rng = np.random.Generator


class Batch(NamedTuple):
    x: Array  # (T, B, I)
    target: Array  # (B, ...), or (T, B, ...) with an answer after every step
    lengths: Array | None = None


@dataclass(frozen=True)
class Problem:
    """A task, and the layer that is trained on it."""

    name: str
    layer: Callable[[int], Layer]  # from a seed
    outputs: int
    draw: Callable[[int, Rng], Batch]  # from the number of sequences
    updates: int
    rate: float
    held_out: Callable[[], Batch] | None = None  # default: drawn from a separate seed
    every: bool = False  # an answer after every step?
    needs: int | None = None  # inputs; None: measured
    baseline: float | None = None  # the best loss without memory; tasks that need long memory

    def test(self) -> Batch:
        return self.held_out() if self.held_out else self.draw(HELD_OUT, np.random.default_rng(99))


# --- training


class Model:
    """A layer under a `bptt.Linear`, on every output or on the last state."""

    def __init__(self, problem: Problem, layer: Layer, seed: int) -> None:
        self.every, self.layer = problem.every, layer
        self.readout = bptt.Linear(layer.hidden_size, problem.outputs, seed=seed + 1)
        self.parameters = bptt.optim.join(layer=layer.parameters, readout=self.readout.parameters)

    def __call__(self, x: Array, lengths: Array | None = None) -> Array:
        return self.readout(self._read(*self.layer(x, lengths=lengths)))

    def _read(self, y: Array, state: Any) -> Array:
        return y if self.every else (state[0] if isinstance(state, tuple) else state)[-1]

    def gradients(self, batch: Batch) -> dict[str, Array]:
        y, state, tape = self.layer.forward(batch.x, lengths=batch.lengths)
        prediction, readout_tape = self.readout.forward(self._read(y, state))
        top = self.readout.backward(readout_tape, loss_of(prediction, batch.target)[1])
        dh = None if self.every else top.x[None]
        dstate = (dh, None) if isinstance(state, tuple) else dh
        grads = self.layer.backward(tape, top.x if self.every else None, dstate)
        return bptt.optim.join(layer=grads.params, readout=top.params)


def loss_of(prediction: Array, target: Array) -> tuple[float, Array]:
    return (bptt.cross_entropy if target.dtype.kind == "i" else bptt.mse)(prediction, target)


def train(problem: Problem, layer: Layer, seed: int, updates: int) -> tuple[Model, float]:
    """Return the trained model and its held-out loss."""
    rng, model = np.random.default_rng((seed, 7)), Model(problem, layer, seed)
    adam = bptt.Adam(model.parameters, lr=problem.rate)
    schedule = bptt.schedules.CosineAnnealing(adam, t_max=updates)
    for _ in range(updates):
        gradients = model.gradients(problem.draw(BATCH, rng))
        bptt.clip_grad_norm(gradients, 1.0)
        adam.step(gradients)
        schedule.step()
    test = problem.test()
    return model, loss_of(model(test.x, test.lengths), test.target)[0]


def measure(problem: Problem, seed: int, updates: int) -> dict[str, Any]:
    """Train a new layer, ask for advice, follow it."""
    model, loss = train(problem, problem.layer(seed), seed, updates)
    batch = problem.draw(4 * BATCH, np.random.default_rng((seed, 8)))
    needs = problem.needs or needed_memory(model, *batch[:2], lengths=batch.lengths).steps
    how = "every" if problem.every else "last"
    report = bptt.gradient_flow(model.layer, batch.x, loss=how, lengths=batch.lengths, needs=needs)
    (cell,) = report.cells
    result = {
        "needs": needs,
        "horizon": round(cell.curve.horizon, 1) if cell.curve.horizon < cell.curve.reach else None,
        "verdict": report.verdict,
        "loss": loss,
        "advice": None,
        "advised": loss,
    }
    starts = [a for a in report.advice if a.start is not None]
    if starts:
        layer = problem.layer(seed)
        starts[0].start(layer)
        result |= {
            "advice": name_of(starts[0].text),
            "advised": train(problem, layer, seed, updates)[1],
        }
    return result


def name_of(text: str) -> str:
    """The name of the function in a piece of advice."""
    found = re.search(r"bptt\.(init\.\w+)", text)
    assert found
    return found[1]


# --- six tasks that need long memory


def adding(size: int, rng: Rng) -> Batch:
    x, target, _ = tasks.adding(60, size, rng)
    return Batch(x, target[:, None])


def copy(size: int, rng: Rng) -> Batch:
    return Batch(*tasks.copy_memory(COPY, size, rng)[:2])


COPY = 15


def order(size: int, rng: Rng) -> Batch:
    return Batch(*tasks.temporal_order(60, size, rng)[:2])


def hundred_digits(size: int, rng: Rng) -> Batch:
    """The sequences of examples/three_digits.py, with new random digits each time."""
    parts = [tasks.three_digits(100, rng) for _ in range(size // 4)]
    return Batch(
        np.concatenate([p.x for p in parts], 1), np.concatenate([p.target for p in parts])[:, None]
    )


@lru_cache
def pictures() -> tuple[Array, Array]:
    digits = importlib.import_module("sklearn.datasets").load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    return digits.images[order].astype(np.float32) / 16, digits.target[order].astype(np.int64)


def picture(rows: bool, which: Array) -> Batch:
    """Row by row, each four times (32 steps of 8), or pixel by pixel (64 steps of 1)."""
    images, labels = pictures()
    images = images[which].repeat(4, axis=1) if rows else images[which].reshape(-1, 64, 1)
    return Batch(np.ascontiguousarray(images.swapaxes(0, 1)), labels[which])


def of_pictures(rows: bool) -> dict[str, Any]:
    split = 1347  # of 1797
    return {
        "draw": lambda size, rng: picture(rows, rng.integers(0, split, size)),
        "held_out": lambda: picture(rows, np.arange(split, 1797)),
        "baseline": math.log(10),
    }


# --- six tasks that do not


@lru_cache
def characters() -> tuple[Array, int, int]:
    text = bptt.datasets.load_text()
    letters = sorted(set(text))
    return np.array([letters.index(c) for c in text]), len(letters), len(text) * 9 // 10


def play(starts: Array) -> Batch:
    codes, letters, _ = characters()
    windows = codes[starts + np.arange(41)[:, None]]
    return Batch(np.eye(letters, dtype=np.float32)[windows[:-1]], windows[1:])


def next_character(size: int, rng: Rng) -> Batch:
    return play(rng.integers(0, characters()[2] - 41, size))


def play_held_out() -> Batch:
    codes, _, split = characters()
    return play(np.arange(split, len(codes) - 41, 60))


@lru_cache
def vowels() -> tuple[Any, Any, Array, Array]:
    train, test = bptt.datasets.load_japanese_vowels()
    frames = train.x[np.arange(len(train.x))[:, None] < train.lengths]
    return train, test, frames.mean(axis=0), frames.std(axis=0)


def speaker(size: int, rng: Rng) -> Batch:
    train, _, mean, scale = vowels()
    b = rng.integers(0, len(train.labels), size)
    x = (train.x[:, b] - mean) / scale
    x += 0.6 * rng.standard_normal(x.shape, dtype=np.float32)  # against overfitting
    return Batch(x, train.labels[b], train.lengths[b])


def speaker_held_out() -> Batch:
    _, test, mean, scale = vowels()
    return Batch((test.x - mean) / scale, test.labels, test.lengths)


def past(x: Array, k: int) -> Array:
    """x delayed by k steps."""
    return np.concatenate([np.zeros_like(x[:k]), x[: len(x) - k]])


def noise(size: int, rng: Rng) -> Array:
    return rng.standard_normal((50, size, 1), dtype=np.float32)


def sum_of_three(size: int, rng: Rng) -> Batch:
    x = noise(size, rng)
    return Batch(x, x + past(x, 1) + past(x, 2))


def distortion(size: int, rng: Rng) -> Batch:
    x = noise(size, rng)
    return Batch(x, np.tanh(x + 0.7 * past(x, 1) - 0.5 * past(x, 2) + 0.3 * past(x, 3)))


def parity_of_two(size: int, rng: Rng) -> Batch:
    bits = rng.integers(0, 2, (50, size))
    return Batch(bits[..., None].astype(np.float32), bits ^ past(bits, 1))


def autoregression(size: int, rng: Rng) -> Batch:
    """Forecast x_t = 1.2 x_{t-1} - 0.6 x_{t-2} + noise; the best squared error is 1."""
    x = rng.standard_normal((101, size, 1))
    for t in range(2, len(x)):
        x[t] += 1.2 * x[t - 1] - 0.6 * x[t - 2]
    x = x[-51:].astype(np.float32)
    return Batch(x[:-1], x[1:])


# --- the problems and the page


def lstm(inputs: int, hidden: int = 32) -> Callable[[int], Layer]:
    return lambda seed: bptt.LSTM(inputs, hidden, seed=seed)


LONG = [
    Problem("adding", lstm(2), 1, adding, 2000, 5e-3, needs=60, baseline=1 / 6),
    Problem("copy", lstm(10, 48), 9, copy, 1000, 1e-2, every=True, needs=COPY + 11,
            baseline=10 * math.log(8) / (COPY + 20)),
    Problem("temporal order", lambda seed: bptt.RNN(8, 50, seed=seed), 4, order, 1500, 2e-3,
            needs=54, baseline=math.log(4)),
    Problem("100 digits", lstm(1), 1, hundred_digits, 1200, 5e-3, needs=100, baseline=0.25),
    Problem("row-wise digits", lstm(8), 10, updates=800, rate=5e-3, needs=32, **of_pictures(True)),
    Problem("pixel-wise digits", lstm(1, 48), 10, updates=3000, rate=5e-3, needs=64,
            **of_pictures(False)),
]  # fmt: skip
SHORT = [
    Problem("next character", lstm(65, 48), 65, next_character, 600, 1e-2, play_held_out, True),
    Problem("JapaneseVowels", lambda seed: bptt.GRU(12, 32, seed=seed), 9, speaker, 400, 5e-3,
            speaker_held_out),
    Problem("sum of three", lstm(1), 1, sum_of_three, 400, 5e-3, every=True),
    Problem("parity of two", lstm(1), 2, parity_of_two, 400, 5e-3, every=True),
    Problem("distortion", lstm(1), 1, distortion, 400, 5e-3, every=True),
    Problem("autoregression", lstm(1), 1, autoregression, 400, 5e-3, every=True),
]  # fmt: skip
PROBLEMS = [*LONG, *SHORT]


def solved(problem: Problem, loss: float) -> bool:
    return problem.baseline is not None and loss <= problem.baseline / 10


def markdown(results: dict[str, Any]) -> str:
    """Make one row per task: medians over the seeds, and the number of seeds that solve it."""
    lines = [
        "| task | inputs needed | horizon after plain training | advice "
        "| held-out loss, plain start | held-out loss, as advised | solved: plain, advised |",
        "|---|---|---|---|---|---|---|",
    ]
    for problem in PROBLEMS:
        runs = results[problem.name]
        needs = " or ".join(str(n) for n in sorted({r["needs"] for r in runs}))
        needs += "" if problem.needs else ", measured"
        horizons = sorted(math.inf if r["horizon"] is None else r["horizon"] for r in runs)
        middle = statistics.median(horizons)
        horizon = "longer than the sequence" if math.isinf(middle) else f"{middle:.0f}"
        names = sorted({f"`{r['advice']}`" if r["advice"] else "none" for r in runs})
        before, after = (statistics.median(r[key] for r in runs) for key in ("loss", "advised"))
        done = [sum(solved(problem, r[key]) for r in runs) for key in ("loss", "advised")]
        of = f"{done[0]}, {done[1]} of {len(runs)}" if problem.baseline else ""
        cells = [
            problem.name,
            needs,
            horizon,
            ", ".join(names),
            f"{before:.3g}",
            f"{after:.3g}",
            of,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def update(text: str, results: dict[str, Any]) -> str:
    """Return the page with the table of these results."""
    mark = r"(<!-- advice -->\n).*?(<!-- /advice -->)"
    return re.sub(mark, rf"\g<1>{markdown(results)}\n\g<2>", text, flags=re.DOTALL)


def main() -> None:
    quick, names = "--quick" in sys.argv, [a for a in sys.argv[1:] if a != "--quick"]
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() and not quick else {}
    for problem in PROBLEMS:
        if names and problem.name not in names:
            continue
        runs = [
            measure(problem, seed, 3 if quick else problem.updates)
            for seed in range(1 if quick else SEEDS)
        ]
        print(problem.name, *runs, sep="\n  ", flush=True)
        results[problem.name] = runs
        if not quick:
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    if results.keys() >= {p.name for p in PROBLEMS}:
        print(markdown(results))
        if not quick:
            PAGE.write_text(update(PAGE.read_text("utf-8"), results), "utf-8")


if __name__ == "__main__":
    main()
