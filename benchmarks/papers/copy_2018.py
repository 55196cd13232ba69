# SPDX-License-Identifier: MIT
"""Copy ten symbols after 100 blanks: an LSTM with chrono and with standard initialisation.

Tallec & Ollivier (2018): 128 units, batches of 50, RMSprop with a learning rate of 1e-3 and a decay
of 0.9. The standard start has a forget bias of 1; the chrono start has log U(1, 3 T / 2 - 1), and
the negative in the input gate. The paper has curves without numbers, at longer gaps, and concludes
that the chrono start learns long dependencies far better. The baseline of a model without memory
is 10 ln 8 / (T + 20).

    python -m benchmarks.papers.copy_2018
"""

from __future__ import annotations

from typing import Any

import numpy as np

import bptt
from bptt import init, tasks

from .runs import Experiment, Result, Row, Settings, main
from .training import Model, train


def run(
    seed: int, start: str, T: int, hidden: int, updates: int, lr: float = 1e-3
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    lstm = bptt.LSTM(10, hidden, seed=seed)
    if start == "chrono":
        init.chrono(lstm, 1.5 * T, rng)
    else:
        init.forget_bias(lstm, 1.0)
    model = Model(lstm, 9, last=False, seed=seed + 1)
    rmsprop = bptt.RMSprop(model.parameters, lr, alpha=0.9)
    baseline = tasks.copy_memory(T, 1, 0).baseline
    curve = []
    below = None

    def draw() -> tasks.Task:
        return tasks.copy_memory(T, 50, rng)

    for n, loss in train(model, rmsprop, draw, bptt.cross_entropy, updates, 100, 1.0):
        curve.append([n, round(loss, 6)])
        if below is None and loss < 0.5 * baseline:
            below = n
        if loss < 0.01 * baseline:
            break
    x, target, _ = tasks.copy_memory(T, 1000, rng)
    right = model(x).argmax(axis=2) == target
    return {
        "updates": curve[-1][0],
        "loss": curve[-1][1],
        "baseline": round(baseline, 6),
        "below_half_at": below,
        "symbols_right": float(right[-10:].mean()),  # 0.125 by guessing
        "curve": curve,
    }


def row(settings: Settings, runs: list[Result]) -> Row:
    losses = ", ".join(f"{run['loss']:.2g}" for run in runs)
    right = ", ".join(f"{run['symbols_right']:.1%}" for run in runs)
    updates = ", ".join(f"{run['updates']:,}" for run in runs)
    return Row(
        f"{settings['start']} start",
        "curves only",
        f"loss {losses} (baseline {runs[0]['baseline']:.4f}) after {updates} updates; "
        f"{right} of the symbols right",
    )


EXPERIMENT = Experiment(
    "copy_2018",
    run,
    row,
    variants=[
        {"start": start, "T": 100, "hidden": 128, "updates": 6000}
        for start in ("standard", "chrono")
    ],
    seeds=2,
    quick=[{"start": "chrono", "T": 5, "hidden": 64, "updates": 1000, "lr": 1e-2}],
)

if __name__ == "__main__":
    main([EXPERIMENT.name])
