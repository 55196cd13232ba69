# SPDX-License-Identifier: MIT
"""LSTM of 1997, experiment 1: the embedded Reber grammar.

Each string is a string of the Reber grammar between B T and T E, or between B P and P E, so the
last symbol but one can be predicted only by remembering the second. 256 random strings train, in
random order, and 256 others test; the target after each symbol is the next one. Success means that
for all of them and after each symbol, every possible symbol has a larger output than every
impossible one.

1997: 3 blocks of 2 cells (276 weights) or 4 of 1 (264), weights from U(-0.2, 0.2), output gates
biased by -1, -2, -3 (-4), only gates have biases, updates after each string. Published, from 30
trials each: 97 to 100 % succeed, after 39,740 to 8,440 strings on average.

Two variants are not in the paper. One has biases at cells and outputs too, for which the paper's
numbers of weights leave no room. The other is a modern LSTM, `bptt.LSTM` of 6 units with a forget
gate and the whole gradient, trained with Adam on the same strings.

    python -m benchmarks.papers.reber_1997
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bptt
from bptt import init, tasks

from .lstm1997 import Array, Network
from .runs import Experiment, Result, Row, Settings, main, spread
from .training import Model

# State of the Reber grammar: symbol -> next state. None is the end.
GRAPH: list[dict[str, int | None]] = [
    {"B": 1},
    {"T": 2, "P": 3},
    {"S": 2, "X": 4},
    {"T": 3, "V": 5},
    {"X": 3, "S": 6},
    {"P": 4, "V": 6},
    {"E": None},
]


def possible(text: str) -> list[str]:
    """List the symbols that may follow each symbol but the last."""
    state: int | None = 0
    after = ["TP", "B"]
    for symbol in text[2:-2]:
        assert state is not None
        state = GRAPH[state][symbol]
        after.append(text[1] if state is None else "".join(GRAPH[state]))
    return [*after, "E"]


def strings(rng: np.random.Generator, n: int, but: list[str]) -> list[str]:
    """Random strings that are not among `but`."""
    found: list[str] = []
    while len(found) < n:
        x, target, _ = tasks.embedded_reber(n, rng)
        for b, length in enumerate((target != -100).sum(axis=0)):
            codes = [*x[:length, b].argmax(axis=1), target[length - 1, b]]
            found.append("".join("BTPSXVE"[code] for code in codes))
        found = [text for text in found if text not in but]
    return found[:n]


def encoded(text: str) -> Array:
    """One-hot rows of all symbols."""
    return np.eye(7)[["BTPSXVE".index(symbol) for symbol in text]]


class Judge:
    """All strings in one batch, and the possible symbols at each step."""

    def __init__(self, texts: list[str]) -> None:
        texts = sorted(set(texts))
        self.lengths = np.array([len(text) - 1 for text in texts])
        shape = (int(self.lengths.max()), len(texts))
        self.x = np.zeros((*shape, 7))
        self.possible = np.ones((*shape, 7), bool)  # anything, after a string
        for b, text in enumerate(texts):
            self.x[: len(text) - 1, b] = encoded(text)[:-1]
            for t, symbols in enumerate(possible(text)):
                self.possible[t, b] = encoded(symbols).any(axis=0)
        # The step where the second symbol returns.
        self.late = np.arange(shape[0])[:, None] == self.lengths - 2

    def wrong(self, output: Array) -> tuple[int, int]:
        """Count strings that rank an impossible symbol above a possible one, late and early."""
        least = np.where(self.possible, output, np.inf).min(axis=2)
        most = np.where(self.possible, -np.inf, output).max(axis=2)
        wrong = most >= least
        late, early = (wrong & self.late).any(axis=0), (wrong & ~self.late).any(axis=0)
        return int(late.sum()), int(early.sum())


Learner = Callable[[str], Any]


def learner_1997(
    rng: np.random.Generator, judge: Judge, blocks: int, size: int, lr: float, biased: bool = False
) -> tuple[Learner, Callable[[], Array]]:
    bias = [-1.0, -2.0, -3.0, -4.0][:blocks]
    net = Network(7, blocks, size, 7, 0.2, lr, rng, gates_only=not biased, output_bias=bias)

    def with_one(x: Array) -> Array:
        return np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)

    def learn(text: str) -> None:
        symbols = encoded(text)
        net.learn(with_one(symbols[:-1, None]), symbols[1:])

    x = with_one(judge.x)
    return learn, lambda: net.read(net.forward(x, judge.lengths)[0])


def learner_today(
    rng: np.random.Generator, judge: Judge, units: int, lr: float
) -> tuple[Learner, Callable[[], Array]]:
    lstm = bptt.LSTM(7, units, seed=rng)
    init.forget_bias(lstm, 1.0)
    model = Model(lstm, 7, last=False, seed=rng)
    adam = bptt.Adam(model.parameters, lr)

    def learn(text: str) -> None:
        symbols = encoded(text)
        target = symbols[1:, None].argmax(axis=2)
        adam.step(model.gradients(symbols[:-1, None], target, bptt.cross_entropy)[1])

    return learn, lambda: model(judge.x)


def run(
    seed: int, cell: str, limit: int, training: int = 256, every: int = 100, **settings: Any
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    known = strings(rng, training, [])
    judge = Judge(known + strings(rng, training, known))
    make = {"1997": learner_1997, "today": learner_today}[cell]
    learn, outputs = make(rng, judge, **settings)
    inner, n, late, early = None, 0, 1, 1
    order: NDArray[np.int64] = rng.integers(training, size=limit)
    for n in range(1, limit + 1):
        learn(known[order[n - 1]])
        if n % every == 0:
            late, early = judge.wrong(outputs())
            if early == 0 and inner is None:
                inner = n
            if late == early == 0:
                break
    solved = late == early == 0
    return {
        "solved": solved,
        "strings": n if solved else None,
        "strings_inner": inner,  # until all but the symbol to remember was right for the first time
        "wrong_late": late,
        "wrong_early": early,
        "distinct": len(judge.lengths),
    }


def variant(blocks: int, size: int, lr: float) -> dict[str, Any]:
    return {"cell": "1997", "blocks": blocks, "size": size, "lr": lr, "limit": 50_000}


# Blocks, cells per block, learning rate: share of successful trials, and mean number of strings.
PUBLISHED = {
    (4, 1, 0.1): ("100 %", 39_740),
    (3, 2, 0.1): ("100 %", 21_730),
    (3, 2, 0.2): ("97 %", 14_060),
    (4, 1, 0.5): ("97 %", 9_500),
    (3, 2, 0.5): ("100 %", 8_440),
}


def row(settings: Settings, runs: list[Result]) -> Row:
    solved = [run for run in runs if run["solved"]]
    inner = [run for run in runs if run["strings_inner"] is not None]
    if settings["cell"] == "1997":
        key = settings["blocks"], settings["size"], settings["lr"]
        setting = "{} blocks of {}, lr {}".format(*key)
        published = "{} of 30, {:,} strings".format(*PUBLISHED[key])
        if settings.get("biased"):
            setting, published = f"{setting}, all units biased", "-"
    else:
        setting = f"modern LSTM, {settings['units']} units"
        published = "-"
    measured = f"{len(solved)} of {len(runs)} within {settings['limit']:,}"
    if solved:
        measured += f", after {spread(solved, 'strings')}"
    measured += f"; all but the symbol to remember: {len(inner)} of {len(runs)}"
    if inner:
        measured += f", after {spread(inner, 'strings_inner')}"
    return Row(setting, published, measured)


EXPERIMENT = Experiment(
    "reber_1997",
    run,
    row,
    variants=[
        variant(4, 1, 0.1),
        variant(3, 2, 0.1),
        variant(3, 2, 0.2),
        variant(4, 1, 0.5),
        variant(3, 2, 0.5),
        *({**variant(*of, 0.1), "biased": True, "limit": 100_000} for of in ((4, 1), (3, 2))),
        {"cell": "today", "units": 6, "lr": 0.01, "limit": 50_000},
    ],
    seeds=10,
    quick=[{"cell": "today", "units": 8, "lr": 0.02, "limit": 6000, "training": 64}],
)

if __name__ == "__main__":
    main([EXPERIMENT.name])
