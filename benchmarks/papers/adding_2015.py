# SPDX-License-Identifier: MIT
"""Adding two of 200 numbers, by a tanh RNN, an IRNN, an LSTM and a GRU of 100 units.

Le, Jaitly & Hinton (2015) compare the first three, at lengths 150 to 400: batches of 16, gradients
clipped by norm, the IRNN's input weights from N(0, 0.001^2). They publish curves without numbers
and conclude that the IRNN does as well as the LSTM. They searched learning rates, bounds and forget
biases with plain SGD. Here all networks use Adam and a bound of 1, and the LSTM has a forget bias
of 1 or a chrono start (Tallec & Ollivier, 2018) for 200 steps. A run stops below 0.002; a constant
answer of 1 has a mean squared error of 0.1667.

    python -m benchmarks.papers.adding_2015
"""

from __future__ import annotations

from typing import Any

import numpy as np

import bptt
from bptt import init, tasks

from .runs import Experiment, Result, Row, Settings, main
from .training import Array, Model, train


def recurrent(cell: str, T: int, hidden: int, seed: int) -> Any:
    if cell == "IRNN":
        layer = bptt.RNN(2, hidden, activation="relu", seed=seed)
        init.irnn(layer)
        init.normal(layer.parameters["weight_ih_l0"], seed, 0.001)
        return layer
    kind, _, start = cell.partition(", ")
    layer = {"RNN": bptt.RNN, "LSTM": bptt.LSTM, "GRU": bptt.GRU}[kind](2, hidden, seed=seed)
    if start == "chrono":
        init.chrono(layer, T, seed)
    elif kind == "LSTM":
        init.forget_bias(layer, 1.0)
    return layer


def mse(prediction: Array, target: Array) -> tuple[float, Array]:
    return bptt.mse(prediction, target[:, None])


def run(seed: int, cell: str, T: int, hidden: int, lr: float, updates: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    model = Model(recurrent(cell, T, hidden, seed), 1, last=True, seed=seed + 1)
    test = tasks.adding(T, 1000, rng)
    adam = bptt.Adam(model.parameters, lr)
    curve: list[list[float]] = []
    below = None
    for n, _ in train(model, adam, lambda: tasks.adding(T, 16, rng), mse, updates, 200, 1.0):
        curve.append([n, round(mse(model(test.x), test.target)[0], 6)])
        if below is None and curve[-1][1] < 0.01:
            below = n
        if curve[-1][1] < 0.002:
            break
    return {
        "updates": curve[-1][0],
        "test_mse": curve[-1][1],
        "below_0.01_at": below,
        "curve": curve,
    }


def row(settings: Settings, runs: list[Result]) -> Row:
    errors = ", ".join(f"{run['test_mse']:.4f}" for run in runs)
    updates = ", ".join(f"{run['updates']:,}" for run in runs)
    return Row(
        f"{settings['cell']}, Adam {settings['lr']:g}",
        "curves only" if settings["cell"] in ("RNN", "IRNN", "LSTM") else "-",
        f"mean squared error {errors} after {updates} updates",
    )


EXPERIMENT = Experiment(
    "adding_2015",
    run,
    row,
    variants=[
        {"cell": "RNN", "T": 200, "hidden": 100, "lr": 1e-3, "updates": 6000},
        {"cell": "IRNN", "T": 200, "hidden": 100, "lr": 1e-4, "updates": 12_000},
        {"cell": "LSTM", "T": 200, "hidden": 100, "lr": 5e-3, "updates": 6000},
        {"cell": "LSTM, chrono", "T": 200, "hidden": 100, "lr": 2e-3, "updates": 6000},
        {"cell": "GRU", "T": 200, "hidden": 100, "lr": 2e-3, "updates": 6000},
    ],
    seeds=2,
    quick=[{"cell": "GRU", "T": 20, "hidden": 32, "lr": 1e-2, "updates": 1000}],
)

if __name__ == "__main__":
    main([EXPERIMENT.name])
