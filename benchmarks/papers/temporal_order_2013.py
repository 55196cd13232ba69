# SPDX-License-Identifier: MIT
"""Temporal order by a tanh RNN: plain SGD, SGD with clipping, and with clipping and Omega.

Settings of Pascanu, Mikolov & Bengio (2013), section 4.1, and of their published program: 50 tanh
units, all weights from N(0, 0.1^2), batches of 20, a learning rate of 0.01, gradients clipped to a
norm of 1, and 4 times the penalty Omega as a function of w_hh alone. Success is an error below 1 %
on 10,000 sequences, within 5 million updates. Their figure 7 shows success rates over 5 seeds that
fall with the length, for plain SGD first. With all three methods, one model trained on lengths 50
to 200 made no error at any length from 50 to 5000. Here two more symbols frame a sequence (8
inputs, not 6), as in the paper of 1997, and there are far fewer updates. Runs at lengths 50 to 200
have the sparse initialisation of the authors' program, with a spectral radius of 0.95.

    python -m benchmarks.papers.temporal_order_2013
"""

from __future__ import annotations

from typing import Any

import numpy as np

import bptt
from bptt import init, tasks

from .runs import Experiment, Result, Row, Settings, main, spread
from .training import Model, train


def errors(model: Model, T: int, rng: np.random.Generator, sequences: int) -> float:
    """Return the share of wrong answers; batches are smaller for long sequences, to save memory."""
    batch = min(500, 100_000 // T)
    wrong = 0
    for _ in range(sequences // batch):
        x, target, _ = tasks.temporal_order(T, batch, rng)
        wrong += int((model(x).argmax(axis=1) != target).sum())
    return wrong / (sequences // batch * batch)


def tanh_model(seed: int, sparse: bool = False) -> Model:
    """The authors' "basic tanh", or the "smart tanh": 15 recurrent weights a unit, radius 0.95."""
    rng = np.random.default_rng(seed)
    model = Model(bptt.RNN(8, 50), 4, last=True, seed=0)
    for name, array in model.parameters.items():
        init.normal(array, rng, 0.0 if "bias" in name else 0.01 if sparse else 0.1)
    if sparse:
        w = model.parameters["layer.weight_hh_l0"]
        for column in w.T:  # outgoing weights of a unit, as in the authors' program
            column[rng.permutation(len(w))[15:]] = 0
        init.spectral(w, 0.95)
    return model


def run(
    seed: int, method: str, shortest: int, longest: int, updates: int, tested: list[int],
    sparse: bool = False, below: float = 0.01,
) -> dict[str, Any]:  # fmt: skip
    """Train with a length from shortest..longest for each batch; return errors at `tested` lengths.

    Stops when the mean error of 10,000 sequences at the shortest and longest length is less than
    `below`.
    """
    rng = np.random.default_rng(seed)
    model = tanh_model(seed, sparse)
    sgd = bptt.SGD(model.parameters, lr=0.01)

    def draw() -> tasks.Task:
        return tasks.temporal_order(int(rng.integers(shortest, longest + 1)), 20, rng)

    def failing(sequences: int) -> float:
        return float(np.mean([errors(model, T, rng, sequences) for T in (shortest, longest)]))

    bound = None if method == "sgd" else 1.0
    omega = 4.0 if method == "omega" else 0.0
    done, solved = 0, False
    for n, _ in train(model, sgd, draw, bptt.cross_entropy, updates, 500, bound, omega):
        done = n
        if failing(500) < below and failing(10_000) < below:
            solved = True
            break
    return {
        "solved": solved,
        "updates": done,
        "diverged": not all(np.isfinite(p).all() for p in model.parameters.values()),
        "errors": [errors(model, T, rng, 10_000 if T <= 200 else 1000) for T in tested],
    }


def fixed(method: str, T: int, updates: int) -> dict[str, Any]:
    return {"method": method, "shortest": T, "longest": T, "updates": updates, "tested": [T]}


METHODS = {"sgd": "SGD", "clip": "SGD, clipping", "omega": "SGD, clipping, Omega"}


def row(settings: Settings, runs: list[Result]) -> Row:
    solved = [run for run in runs if run["solved"]]
    measured = f"{len(solved)} of {len(runs)} within {settings['updates']:,} updates"
    if solved:
        measured += f", after {spread(solved, 'updates')}"
    method = METHODS[settings["method"]]
    if settings["shortest"] == settings["longest"]:
        return Row(f"T = {settings['shortest']}, {method}", "a curve", measured)
    lengths = f"T = {settings['shortest']} to {settings['longest']}, {method}"
    lengths += ", sparse start" * settings.get("sparse", False)
    for i, T in enumerate(settings["tested"]):
        wrong = ", ".join(f"{run['errors'][i]:.2%}" for run in runs)
        measured += f"; error at {T}: {wrong}"
    return Row(lengths, "trained on 50 to 200: no error of 10,000 at 50 to 5000", measured)


EXPERIMENT = Experiment(
    "temporal_order_2013",
    run,
    row,
    variants=[
        *(fixed(method, T, 30_000) for T in (20, 30, 40) for method in METHODS),
        {
            "method": "omega",
            "shortest": 20,
            "longest": 50,
            "updates": 30_000,
            "tested": [20, 50, 100, 200, 500, 1000, 2000, 5000],
        },
        # As in the authors' program: until none of 20,000 is wrong.
        {
            "method": "omega",
            "shortest": 50,
            "longest": 200,
            "updates": 50_000,
            "tested": [50, 100, 150, 200, 500, 1000, 2000, 5000],
            "sparse": True,
            "below": 5e-5,
        },
    ],
    seeds=5,
    quick=[fixed("clip", 10, 10_000), fixed("omega", 10, 10_000)],
)

if __name__ == "__main__":
    main([EXPERIMENT.name])
