# SPDX-License-Identifier: MIT
"""LSTM of 1997, experiment 6a: name the order of two symbols that came 40 to 100 steps ago.

Sequences have 100 to 110 symbols: E first, B last, X or Y at one of the places 10 to 20 and again
at one of 50 to 60, and a to d elsewhere. At the end, four outputs stand for XX, XY, YX and YY. Two
blocks of two cells (156 weights), input gates biased by -2 and -4 and a learning rate of 0.5 train
until the last 2000 sequences had all outputs within 0.3. Published:
31,390 sequences on average, 1 of 2560 wrong.

    python -m benchmarks.papers.temporal_order_1997
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .lstm1997 import Batch, Network, learn_online
from .runs import Experiment, Result, Row, Settings, main, spread


def draw(rng: np.random.Generator, T: int, batch: int) -> Batch:
    lengths = rng.integers(T, T + T // 10 + 1, batch)
    b = np.arange(batch)
    codes = rng.integers(2, 6, (T + T // 10, batch))
    order = rng.integers(0, 4, batch)
    codes[rng.integers(T // 10, T // 5 + 1, batch), b] = 6 + order // 2
    codes[rng.integers(T // 2, 3 * T // 5 + 1, batch), b] = 6 + order % 2
    codes[0], codes[lengths - 1, b] = 0, 1
    x = np.ones((*codes.shape, 9))
    x[:, :, :8] = np.eye(8)[codes]
    return Batch(x, lengths, np.eye(4)[order])


def run(seed: int, T: int, limit: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    net = Network(8, 2, 2, 4, bound=0.1, lr=0.5, rng=rng, input_bias=[-2.0, -4.0])
    return learn_online(net, lambda n: draw(rng, T, n), tolerance=0.3, error=0.1, limit=limit)


def row(settings: Settings, runs: list[Result]) -> Row:
    solved = [run for run in runs if run["solved"]]
    wrong = sorted(run["wrong_of_2560"] for run in solved)
    return Row(
        "6a, temporal order, 156 weights",
        "31,390 sequences, 1 of 2560 wrong",
        f"{len(solved)} of {len(runs)} runs stop within {settings['limit']:,}, after "
        f"{spread(solved, 'sequences')} sequences; of 2560 wrong: median "
        f"{wrong[len(wrong) // 2]}, mean {sum(wrong) / len(wrong):.1f}, most {wrong[-1]}",
    )


EXPERIMENT = Experiment(
    "temporal_order_1997",
    run,
    row,
    variants=[{"T": 100, "limit": 200_000}],
    seeds=100,
    quick=[{"T": 20, "limit": 40_000}],
)

if __name__ == "__main__":
    main([EXPERIMENT.name])
