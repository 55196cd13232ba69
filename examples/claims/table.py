# SPDX-License-Identifier: MIT
"""What every claim returns, and how far a gradient reaches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Claim:
    """Numbers as a table, and as curves over steps or updates."""

    name: str
    head: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    curves: dict[str, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, at):
        """The number in a row and a column, both by name."""
        row = next(row for row in self.rows if row[0] == at[0])
        return row[self.head.index(at[1])]

    def markdown(self) -> str:
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join("| " + " | ".join(map(as_text, line)) + " |" for line in lines)


def as_text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e4 else f"{value:.1e}"


def state_norms(layer, x, steps=None):
    """|dL/d(state)| by lag: first that after the last step, then those 1, 2, ... steps before.

    L is the sum of h after the last step. One call of the layer per step: the gradient of the
    initial state of each is that of the state between two of them.
    """
    state, tapes = None, []
    for x_t in x:
        _, state, tape = layer.forward(x_t[None], state)
        tapes.append(tape)
    several = isinstance(state, tuple)
    dstate = np.ones_like(state[0] if several else state)
    dstate = (dstate, *map(np.zeros_like, state[1:])) if several else dstate
    norms = [norm(dstate)]
    for tape in reversed(tapes):
        dstate = layer.backward(tape, dstate=dstate).state
        norms.append(norm(dstate))
    return np.array(norms)


def norm(arrays) -> float:
    parts = arrays if isinstance(arrays, (tuple, list)) else [arrays]
    return float(np.sqrt(sum(np.sum(np.square(p, dtype=np.float64)) for p in parts)))


def horizon(norms) -> float:
    """The lag at which the gradient falls to 1 % of its value at lag 1, between two steps of it."""
    with np.errstate(divide="ignore"):
        logs = np.log(norms[1:] / norms[1]) - np.log(0.01)
    below = np.flatnonzero(logs < 0)
    if not below.size:
        return np.inf
    k = below[0]  # lag k + 1 is below, lag k is not
    part = 0.0 if np.isinf(logs[k]) else logs[k - 1] / (logs[k - 1] - logs[k])
    return float(k + part)
