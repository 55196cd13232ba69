# SPDX-License-Identifier: MIT
"""Measure how controls of the gradient change its reach and learning: tables of docs/control.md.

    python benchmarks/control.py                  # six minutes on a free core; writes the page
    python benchmarks/control.py keeping          # one table, kept with the others
    python benchmarks/control.py --quick          # the same rows from a few updates, printed only

Two tasks: temporal order (which of two symbols came first, twice; chance is 25 %) and adding (two
marked numbers; answering 1 has a mean squared error of 1/6). Every row is trained from several
seeds, which also draw its examples. Rows of a table differ only in the setting that they name.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import bptt
from bptt import init, regularise, tasks

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs" / "control.md", ROOT / "benchmarks" / "results" / "control.json"
Layer = Any
LONG = 300  # steps over which horizons are measured


@dataclass(frozen=True)
class Run:
    """One row: a layer, its initial weights and its training."""

    name: str
    layer: Callable[[int], Layer]  # from a seed
    start: Callable[[Layer, int], None] = lambda layer, seed: None
    clip: Callable[[dict[str, Any]], Any] = field(default=lambda grads: None)
    make_clip: Callable[[], Any] | None = None  # a clip with a history
    omega: float = 0.0
    immediate: bool = False
    floss: int = 0  # updates before the training
    backward: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Rows that differ only in the setting that they name."""

    name: str
    task: Callable[..., tasks.Task]
    T: int
    updates: int
    seeds: int
    optimiser: Callable[[dict[str, Any]], bptt.optim.Optimizer]
    runs: list[Run]


# --- one run


def horizon(layer: Layer, task: Callable[..., tasks.Task], seed: int) -> float | None:
    """`bptt.memory_horizon` of a random dL/dh after the last of 300 steps; None if beyond."""
    _, state, tape = layer.forward(task(LONG, 8, seed).x)
    h = state[0] if isinstance(state, tuple) else state
    dh = np.random.default_rng(seed).standard_normal(h.shape)
    given = (dh, None) if isinstance(state, tuple) else dh
    trace = layer.backward(tape, dstate=given, trace=True).trace
    steps = bptt.memory_horizon(trace.dh[0])
    return round(float(steps), 1) if np.isfinite(steps) else None


def loss_of(task: Callable[..., tasks.Task], prediction: Any, target: Any) -> tuple[float, Any]:
    """The score of a batch, and the gradient of its loss."""
    if task is tasks.adding:
        value, d = bptt.mse(prediction[:, 0], target)
        return value, d[:, None]
    _, d = bptt.cross_entropy(prediction, target)
    return float(np.mean(prediction.argmax(axis=1) == target)), d


def measure(table: Table, run: Run, seed: int, updates: int) -> dict[str, Any]:
    """Train once: return the score over the last tenth of the updates, and horizons."""
    rng, layer = np.random.default_rng(seed), run.layer(seed)
    run.start(layer, seed)
    floss(table, run, layer, rng)
    before = horizon(layer, table.task, seed)
    readout = bptt.Linear(layer.hidden_size, 1 if table.task is tasks.adding else 4, seed=seed + 1)
    optimiser = table.optimiser(bptt.optim.join(rnn=layer.parameters, out=readout.parameters))
    clip = run.make_clip() if run.make_clip else run.clip
    scores = []
    for _ in range(updates):
        x, target, _ = table.task(table.T, 32, rng)
        _, state, tape = layer.forward(x)
        several = isinstance(state, tuple)
        prediction, readout_tape = readout.forward((state[0] if several else state)[0])
        score, d = loss_of(table.task, prediction, target)
        scores.append(score)
        last = readout.backward(readout_tape, d)
        dh = last.x[None]
        grads = layer.backward(tape, dstate=(dh, None) if several else dh, **run.backward).params
        if run.omega:
            penalty = regularise.omega(tape, dstate=dh, immediate=run.immediate)
            grads = {name: g + run.omega * penalty.params[name] for name, g in grads.items()}
        gradients = bptt.optim.join(rnn=grads, out=last.params)
        clip(gradients)
        optimiser.step(gradients)
    return {
        "score": float(np.mean(scores[-max(updates // 10, 1) :])),
        "before": before,
        "after": horizon(layer, table.task, seed),
    }


def floss(table: Table, run: Run, layer: Layer, rng: np.random.Generator) -> None:
    optimiser = bptt.Adam(layer.parameters, lr=1e-3)
    for _ in range(run.floss):
        _, _, tape = layer.forward(table.task(table.T, 8, rng).x)
        optimiser.step(regularise.flossing(tape, 8).params)


# --- the rows


def rnn(size: int, activation: str = "tanh") -> Callable[[int], Layer]:
    return lambda seed: bptt.RNN(size, 50, activation=activation, seed=seed)


def lstm(seed: int) -> Layer:
    return bptt.LSTM(2, 50, seed=seed)


def gru(seed: int) -> Layer:
    return bptt.GRU(2, 50, seed=seed)


def orthogonal(gain: float) -> Callable[[Layer, int], None]:
    return lambda layer, seed: init.orthogonal(layer.parameters["weight_hh_l0"], seed, gain)


def nearest(layer: Layer, seed: int) -> None:
    init.nearest_orthogonal(layer.parameters["weight_hh_l0"])


def spectral(layer: Layer, seed: int) -> None:
    init.spectral(layer.parameters["weight_hh_l0"], 1.0)


def scaled_identity(layer: Layer, seed: int) -> None:
    init.identity(layer.parameters["weight_hh_l0"], 0.99)


def irnn(layer: Layer, seed: int) -> None:
    init.irnn(layer)
    init.normal(layer.parameters["weight_ih_l0"], seed, 0.001)


def forget_bias(value: float) -> Callable[[Layer, int], None]:
    return lambda layer, seed: init.forget_bias(layer, value)


def chrono(layer: Layer, seed: int) -> None:
    init.chrono(layer, 150, seed)


def by_norm(bound: float) -> Callable[[dict[str, Any]], Any]:
    return lambda grads: bptt.clip_grad_norm(grads, bound)


def by_value(grads: dict[str, Any]) -> Any:
    return bptt.clip_grad_value(grads, 0.01)


def automatic() -> Callable[[dict[str, Any]], Any]:
    auto = bptt.AutoClip(0.1)
    return lambda grads: bptt.clip_grad_norm(grads, auto)


TANH, RELU, ONE = rnn(8), rnn(8, "relu"), by_norm(1.0)
TABLES = [
    Table(
        "keeping", tasks.temporal_order, 60, 2000, 3, lambda p: bptt.Adam(p, lr=1e-3),
        [
            Run("PyTorch's start", TANH, clip=ONE),
            Run("`init.spectral`, radius 1", TANH, spectral, ONE),
            Run("`init.nearest_orthogonal`", TANH, nearest, ONE),
            Run("`init.orthogonal`", TANH, orthogonal(1.0), ONE),
            Run("`init.orthogonal`, `cut=20`", TANH, orthogonal(1.0), ONE, backward={"cut": 20}),
            Run("`init.identity`, 0.99", TANH, scaled_identity, ONE),
            Run("`init.irnn`, ReLU", RELU, irnn, ONE),
            Run("4 `regularise.omega`", TANH, clip=ONE, omega=4),
            Run("the same, `immediate=True`", TANH, clip=ONE, omega=4, immediate=True),
            Run("100 updates of `regularise.flossing` before", TANH, clip=ONE, floss=100),
        ],
    ),
    Table(
        "gates", tasks.adding, 150, 1500, 3, lambda p: bptt.Adam(p, lr=3e-3),
        [
            Run("LSTM, PyTorch's start", lstm, clip=ONE),
            Run("LSTM, `init.forget_bias` 1", lstm, forget_bias(1), ONE),
            Run("LSTM, `init.forget_bias` 5", lstm, forget_bias(5), ONE),
            Run("LSTM, `init.chrono` to 150", lstm, chrono, ONE),
            Run("GRU, PyTorch's start", gru, clip=ONE),
            Run("GRU, `init.chrono` to 150", gru, chrono, ONE),
        ],
    ),
    Table(
        "taming", tasks.temporal_order, 60, 2000, 3, lambda p: bptt.SGD(p, lr=0.03),
        [
            Run("nothing", TANH, orthogonal(1.2)),
            Run("`clip_grad_norm`, 1", TANH, orthogonal(1.2), ONE),
            Run("`clip_grad_norm`, 0.1", TANH, orthogonal(1.2), by_norm(0.1)),
            Run("`clip_grad_norm`, `AutoClip(0.1)`", TANH, orthogonal(1.2), make_clip=automatic),
            Run("`clip_grad_value`, 0.01", TANH, orthogonal(1.2), by_value),
            Run("`step_clip=('norm', 0.01)`", TANH, orthogonal(1.2),
                backward={"step_clip": ("norm", 0.01)}),
            Run("`step_clip=('value', 0.001)`", TANH, orthogonal(1.2),
                backward={"step_clip": ("value", 0.001)}),
        ],
    ),
]  # fmt: skip


# --- the page


def text_of(steps: list[float | None]) -> str:
    """The median horizon; None stands for a horizon beyond the end."""
    middle = statistics.median(float("inf") if k is None else k for k in steps)
    return f"more than {LONG}" if np.isinf(middle) else f"{middle:.0f}"


def markdown(table: Table, rows: dict[str, list[dict[str, Any]]]) -> str:
    percent = table.task is not tasks.adding
    unit = "right answers, %" if percent else "mean squared error"
    lines = [
        f"| | horizon at the start | after training | {unit}: median (each seed) |",
        "|---|---|---|---|",
    ]
    for name, results in rows.items():
        scores = [r["score"] * (100 if percent else 1) for r in results]
        each = " ".join(f"{s:.0f}" if percent else f"{s:.3f}" for s in sorted(scores))
        middle = statistics.median(scores)
        before, after = (text_of([r[key] for r in results]) for key in ("before", "after"))
        shown = f"{middle:.0f}" if percent else f"{middle:.3f}"
        lines.append(f"| {name} | {before} | {after} | {shown} ({each}) |")
    return "\n".join(lines)


def update(text: str, results: dict[str, Any]) -> str:
    """Return the page with the tables of these results."""
    for table in TABLES:
        mark = rf"(<!-- control {table.name} -->\n).*?(<!-- /control -->)"
        new = rf"\g<1>{markdown(table, results[table.name])}\n\g<2>"
        text = re.sub(mark, new, text, flags=re.DOTALL)
    return text


def main() -> None:
    quick, names = "--quick" in sys.argv, [a for a in sys.argv[1:] if a != "--quick"]
    for table in TABLES:
        if names and table.name not in names:
            continue
        rows = {}
        for run in table.runs:
            seeds, updates = (1, 5) if quick else (table.seeds, table.updates)
            rows[run.name] = [measure(table, run, seed, updates) for seed in range(seeds)]
        print(f"{table.name}\n\n{markdown(table, rows)}\n", flush=True)
        if not quick:
            kept = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
            RESULTS.write_text(json.dumps(kept | {table.name: rows}, indent=1) + "\n", "utf-8")
    if not quick:
        results = json.loads(RESULTS.read_text("utf-8"))
        if results.keys() >= {table.name for table in TABLES}:
            PAGE.write_text(update(PAGE.read_text("utf-8"), results), "utf-8")


if __name__ == "__main__":
    main()
