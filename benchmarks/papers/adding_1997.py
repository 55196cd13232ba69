# SPDX-License-Identifier: MIT
"""LSTM of 1997, experiment 4: add two marked numbers among 100.

Sequences have 100 to 110 pairs of a number from U(-1, 1) and a marker. The marker is 1 at one of
the first ten pairs (its number is X1) and at another of the first 49 pairs (X2), -1 at the first
and the last pair, and 0 elsewhere; if the first pair is marked, X1 is 0. The target, at the end, is
0.5 + (X1 + X2) / 4. Two blocks of two cells (93 weights), input gates biased by -3 and -6 and a
learning rate of 0.5 train until the last 2000 sequences were within 0.04. Published:
74,000 sequences on average, 1 of 2560 wrong.

    python -m benchmarks.papers.adding_1997
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .lstm1997 import Batch, Network, learn_online
from .runs import Experiment, Result, Row, Settings, main, spread


def draw(rng: np.random.Generator, T: int, batch: int) -> Batch:
    lengths = rng.integers(T, T + T // 10 + 1, batch)
    b = np.arange(batch)
    number = rng.uniform(-1, 1, (T + T // 10, batch))
    marker = np.zeros_like(number)
    first = rng.integers(0, 10, batch)
    second = rng.integers(0, T // 2 - 2, batch)  # among the pairs that are left
    second += second >= first
    marker[0], marker[lengths - 1, b] = -1, -1
    marker[first, b], marker[second, b] = 1, 1
    # The paper sets X1 to zero; the network can know it only if the input is zero as well.
    number[0, marker[0] == 1] = 0
    target = 0.5 + (number[first, b] + number[second, b]) / 4
    return Batch(np.stack([number, marker, np.ones_like(number)], axis=2), lengths, target[:, None])


def run(seed: int, T: int, limit: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    net = Network(2, 2, 2, 1, bound=0.1, lr=0.5, rng=rng, input_bias=[-3.0, -6.0])
    return learn_online(net, lambda n: draw(rng, T, n), tolerance=0.04, error=0.01, limit=limit)


def row(settings: Settings, runs: list[Result]) -> Row:
    solved = [run for run in runs if run["solved"]]
    wrong = sorted(run["wrong_of_2560"] for run in solved)
    return Row(
        "4, adding, T = 100, 93 weights",
        "74,000 sequences, 1 of 2560 wrong",
        f"{len(solved)} of {len(runs)} runs stop within {settings['limit']:,}, after "
        f"{spread(solved, 'sequences')} sequences; 99 % right after "
        f"{spread(runs, 'sequences_99')}; of 2560 wrong: {wrong[0]} to {wrong[-1]}",
    )


EXPERIMENT = Experiment(
    "adding_1997",
    run,
    row,
    variants=[{"T": 100, "limit": 1_000_000}],
    seeds=10,
    quick=[{"T": 20, "limit": 30_000}],
)

if __name__ == "__main__":
    main([EXPERIMENT.name])
