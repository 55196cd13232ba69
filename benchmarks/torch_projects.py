# SPDX-License-Identifier: MIT
"""Measure whole trainings before and after the one line that changes, in the examples for PyTorch.

    python benchmarks/torch_projects.py                    # all that are installed, --quick sizes
    python benchmarks/torch_projects.py deepar --rounds 5
    python benchmarks/torch_projects.py --full             # as the examples run by themselves

One thread. In each round both variants run once, in another order; the table has medians and the
range of the ratios of all rounds. Before anything is timed, the first losses of both must agree to
rounding, and both must have a number to show.
"""

from __future__ import annotations

import argparse
import importlib
import random
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import bptt
import bptt.torch

PROJECTS = {
    "speakers": ("PackedSequence classifier, japanese vowels", "accuracy"),
    "skorch": ("skorch around a GRU, temporal order", "accuracy"),
    "deepar": ("DeepAR forecaster, CO2", "RMSE, ppm"),
    "cartpole": ("sb3-contrib's RecurrentPPO, CartPole without velocities", "episode, steps"),
}
CHECKED = 2  # first losses; then rounding grows with the steps, and in a game by other actions


def variants(name: str, module: Any) -> tuple[Any, Any]:
    """What `train` takes before and after the change."""
    if name == "cartpole":
        return module.MlpLstmPolicy, module.Policy
    return torch.nn, bptt.torch


def timed(module: Any, variant: Any, quick: bool) -> tuple[float, Any]:
    start = time.perf_counter()
    result = module.train(variant, quick)
    return time.perf_counter() - start, result


def row(name: str, module: Any, rounds: int, quick: bool) -> str:
    pair = variants(name, module)
    results = [timed(module, variant, True)[1] for variant in pair]  # also warms up
    for before, after in zip(results[0][0][:CHECKED], results[1][0][:CHECKED], strict=True):
        assert abs(before - after) <= 1e-4 * abs(before), (name, before, after)
    seconds: list[list[float]] = [[], []]
    last: list[Any] = [None, None]
    for _ in range(rounds):
        for k in random.sample((0, 1), 2):
            took, last[k] = timed(module, pair[k], quick)
            seconds[k].append(took)
    ratios = [a / b for a, b in zip(*seconds)]
    before, after = map(statistics.median, seconds)
    scores = " | ".join(f"{score:.4g}" for _, score in last)
    return (
        f"| {PROJECTS[name][0]} | {before:.2f} | {after:.2f} | {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}) | {PROJECTS[name][1]} | {scores} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", choices=[[], *PROJECTS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="as long as the examples")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bptt.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    print(f"bptt {bptt.__version__}, torch {torch.__version__}, 1 thread\n")
    print("| project | before, s | after, s | ratio | score | before | after |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.names or PROJECTS:
        try:
            module = importlib.import_module(f"torch_{name}")
        except ImportError as error:
            print(f"| {PROJECTS[name][0]} | not run: {error} |", flush=True)
            continue
        print(row(name, module, arguments.rounds, not arguments.full), flush=True)


if __name__ == "__main__":
    main()
