# SPDX-License-Identifier: MIT
"""`Claim`, which every claim returns, and norms of gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import bptt


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


def state_norms(layer, x):
    """|dL/d(state)| by lag from the last step, where L is the sum of the last h."""
    _, state, tape = layer.forward(x)
    several = isinstance(state, tuple)
    dh = np.ones_like(state[0] if several else state)
    trace = layer.backward(tape, dstate=(dh, None) if several else dh, trace=True).trace
    return (np.hypot(trace.dh, trace.dc) if several else trace.dh)[0, ::-1]


def horizon(norms) -> float:
    """`bptt.memory_horizon` of norms by lag."""
    return float(bptt.memory_horizon(norms[::-1]))


def norm(arrays) -> float:
    parts = arrays if isinstance(arrays, (tuple, list)) else [arrays]
    return float(np.sqrt(sum(np.sum(np.square(p, dtype=np.float64)) for p in parts)))
