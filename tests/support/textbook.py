# SPDX-License-Identifier: MIT
"""The forward equations once more, number by number, as a textbook writes them.

Core and reference are held against each other, and the reference's gradients against its own
forward; this ties all of them to the formulas: gate order, which bias stands where, what a length
and `reverse` mean. Plain Python floats, no arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from support.problems import Problem, flat


def sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a))


ACTIVATIONS = {
    "tanh": math.tanh,
    "relu": lambda a: max(a, 0.0),
    "leaky_relu": lambda a: a if a > 0 else 0.01 * a,
    "sigmoid": sigmoid,
    "identity": lambda a: a,
}


# One unit, one step: x and h are its sums from the input and from the previous state, by gate;
# `state` is its own part of the previous state, and what comes back of the next.


def rnn(x: list[float], h: list[float], state: list[float], activation: str) -> list[float]:
    return [ACTIVATIONS[activation](x[0] + h[0])]


def lstm(x: list[float], h: list[float], state: list[float]) -> list[float]:
    i, f, o = (sigmoid(x[k] + h[k]) for k in (0, 1, 3))
    c = f * state[1] + i * math.tanh(x[2] + h[2])
    return [o * math.tanh(c), c]


def gru(x: list[float], h: list[float], state: list[float]) -> list[float]:
    r, z = sigmoid(x[0] + h[0]), sigmoid(x[1] + h[1])
    n = math.tanh(x[2] + r * h[2])
    return [(1 - z) * n + z * state[0]]


UNITS = {"rnn": rnn, "lstm": lstm, "gru": gru}


def sums(w: Any, b: Any, v: Sequence[float], unit: int, H: int) -> list[float]:
    """w v + b of one unit, gate by gate."""
    rows = range(unit, len(w), H)
    return [
        sum(float(w[r, k]) * v[k] for k in range(len(v))) + (0.0 if b is None else float(b[r]))
        for r in rows
    ]


def outputs(p: Problem) -> dict[str, Any]:
    """y and the final state, named as in `problems.results`."""
    x, w_ih, w_hh, b_ih, b_hh, state = p.arrays.values()
    y = np.zeros_like(p.dy)
    T, B, H = y.shape
    cell_options = {k: v for k, v in p.options.items() if k not in ("lengths", "reverse")}
    last = [np.zeros((B, H)) for _ in flat(p.dstate)]
    first = last if state is None else flat(state)
    for b in range(B):
        now = [[float(s[b, u]) for s in first] for u in range(H)]
        steps = range(T if p.lengths is None else int(p.lengths[b]))
        for t in reversed(steps) if p.reverse else steps:
            h = [unit[0] for unit in now]
            now = [
                UNITS[p.cell](
                    sums(w_ih, b_ih, x[t, b].tolist(), u, H),
                    sums(w_hh, b_hh, h, u, H),
                    now[u],
                    **cell_options,
                )
                for u in range(H)
            ]
            y[t, b] = [unit[0] for unit in now]
        for q, array in enumerate(last):  # b's own row of `first` has been read
            array[b] = [unit[q] for unit in now]
    return {"y": y} | {f"state[{q}]": array for q, array in enumerate(last)}
