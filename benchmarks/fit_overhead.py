# SPDX-License-Identifier: MIT
"""Measure which part of an epoch of `bptt.fit` the layers compute, and what takes the rest.

    taskset -c 0 python benchmarks/fit_overhead.py                # a minute on a free core
    taskset -c 0 python benchmarks/fit_overhead.py --cells lstm --points small,medium

One recurrent layer, its last step and a readout of ten classes; Adam, clipping, and a fifth of the
sequences held out; float32, one thread. The sizes are those of `bptt bench`; B is the batch. Each
part counts with its fastest epoch, and ms is their sum. Columns, in percent of it:

    layers     forward and backward of the layers, in validation forward alone
    loss       the loss and its gradient
    batches    gathering a batch
    clip       clip_grad_norm
    Adam       its step
    rest       the loop itself, and what a Sequential adds
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import bptt
from bptt.bench.workloads import CELLS, POINTS, Point
from bptt.training import loop, samples

SIZES = "small,medium,medium2,large,long,wide"
CLASSES, BATCHES, HELD_OUT = 10, 8, 2
PARTS = ("layers", "loss", "batches", "clip", "Adam")


class Watch:
    """Adds up the time in some functions by part; a function inside another does not count."""

    def __init__(self) -> None:
        self._inside = False
        self.begin()

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            if self._inside:
                return function(*args, **options)
            self._inside = True
            start = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds[part] += time.perf_counter() - start
                self._inside = False

        return timed

    def replace(self, owner: Any, name: str, part: str) -> None:
        setattr(owner, name, self.around(part, getattr(owner, name)))

    def begin(self) -> None:
        self.seconds, self.epochs = dict.fromkeys(PARTS, 0.0), list[dict[str, float]]()

    def on_epoch(self, epoch: Any) -> None:
        """As a callback: note the epoch, and begin again."""
        self.epochs.append({**self.seconds, "rest": epoch.seconds - sum(self.seconds.values())})
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def fastest(self) -> dict[str, float]:
        """Seconds of each part, the first epoch left out."""
        return {part: min(e[part] for e in self.epochs[1:]) for part in (*PARTS, "rest")}


def watch_everything() -> Watch:
    """Watch the methods of all layers, before a model binds them."""
    watch = Watch()
    for kind in (bptt.RNN, bptt.LSTM, bptt.GRU, bptt.Last, bptt.Linear):
        for name in ("__call__", "forward", "backward"):
            watch.replace(kind, name, "layers")
    watch.replace(samples.Samples, "batch", "batches")
    watch.replace(loop, "clip_grad_norm", "clip")
    watch.replace(bptt.Adam, "step", "Adam")
    return watch


def measure(watch: Watch, cell: str, point: Point, epochs: int) -> dict[str, float]:
    """Seconds of each part of an epoch."""
    T, B, I, H = point
    rng = np.random.default_rng(0)
    n = B * (BATCHES + HELD_OUT)
    x = rng.standard_normal((n, T, I), np.float32)
    data = x, rng.integers(0, CLASSES, n)
    layer = getattr(bptt, cell.upper())(I, H, seed=0)
    model = bptt.Sequential(layer, bptt.Last(), bptt.Linear(H, CLASSES, seed=1))
    watch.begin()
    bptt.fit(
        model, data, loss=watch.around("loss", bptt.cross_entropy), epochs=epochs, batch_size=B,
        validation=HELD_OUT / (BATCHES + HELD_OUT), callbacks=[watch], progress=False,
    )  # fmt: skip
    return watch.fastest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--points", default=SIZES)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each row, about")
    options = parser.parse_args()
    bptt.set_num_threads(1)
    watch = watch_everything()
    print("| cell, size | T, B, I, H | ms per epoch | " + " | ".join([*PARTS, "rest"]) + " |")
    print("|---|---|" + "---|" * (len(PARTS) + 2))
    for name in options.points.split(","):
        for cell in options.cells.split(","):
            once = sum(measure(watch, cell, POINTS[name], 2).values())
            epochs = int(np.clip(options.seconds / once, 4, 200))
            parts = measure(watch, cell, POINTS[name], epochs)
            total = sum(parts.values())
            shares = " | ".join(f"{100 * seconds / total:.1f}" for seconds in parts.values())
            sizes = ", ".join(map(str, POINTS[name]))
            print(f"| {cell}, {name} | {sizes} | {1e3 * total:.1f} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
