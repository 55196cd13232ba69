# SPDX-License-Identifier: MIT
"""The workloads of `bptt bench`: sizes, inputs, and numbers of floating-point operations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import _cells
from .._types import Array

# The cells that other libraries have too.
CELLS = {kind: _cells.CELLS[kind] for kind in ("rnn", "lstm", "gru")}
PASSES = ("inference", "training")


class Point(NamedTuple):
    """T time steps, B sequences, I features, H hidden units; one layer, one direction, float32."""

    T: int
    B: int
    I: int
    H: int

    @property
    def stream(self) -> bool:
        """Is it one step per call, with the state carried on, and without a training pass?"""
        return self.T == 1

    @property
    def passes(self) -> tuple[str, ...]:
        return PASSES[:1] if self.stream else PASSES


POINTS = {
    "tiny": Point(100, 1, 1, 32),
    "small": Point(100, 16, 32, 64),
    "medium": Point(100, 32, 128, 128),
    "medium2": Point(100, 32, 256, 256),
    "large": Point(50, 64, 512, 512),
    "xl": Point(35, 64, 1024, 1024),
    "long": Point(1000, 8, 64, 128),
    "online": Point(200, 1, 128, 256),
    "wide": Point(28, 256, 28, 128),
    "stream32": Point(1, 1, 32, 32),
    "stream128": Point(1, 1, 128, 128),
    "stream512": Point(1, 1, 512, 512),
}


class Problem(NamedTuple):
    """The arguments of one forward and one backward call."""

    x: Array
    weights: tuple[Array, Array, Array, Array]  # w_ih, w_hh, b_ih, b_hh
    state: tuple[Array, ...]  # h, and c for LSTM
    dy: Array


def problem(cell: str, point: Point) -> Problem:
    """The same numbers in every process: x, state and dy normal, weights uniform as in PyTorch."""
    gates = len(CELLS[cell].gates)
    T, B, I, H = point
    rng = np.random.default_rng([gates, *point])

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape, np.float32)

    def uniform(*shape: int) -> Array:
        return (2 * rng.random(shape, np.float32) - 1) / np.float32(H**0.5)

    G = gates * H
    weights = uniform(G, I), uniform(G, H), uniform(G), uniform(G)
    state = tuple(normal(B, H) for _ in CELLS[cell].states)
    return Problem(normal(T, B, I), weights, state, normal(T, B, H))


def flops(cell: str, point: Point, mode: str) -> int:
    """Operations of the matrix products: 2 T B G H (I + H) forward, three times that to train."""
    T, B, I, H = point
    forward = 2 * T * B * len(CELLS[cell].gates) * H * (I + H)
    return forward if mode == "inference" else 3 * forward


def disagreement(result: dict[str, Array], expected: dict[str, Array]) -> tuple[float, str]:
    """The largest error of an array relative to its maximum, and the name of the array."""
    if result.keys() != expected.keys():
        return float("inf"), f"{sorted(result)} instead of {sorted(expected)}"

    def error(name: str) -> float:
        a, b = result[name], expected[name]
        if a.shape != b.shape or not np.isfinite(a).all():
            return float("inf")
        return float(np.abs(a - b).max() / max(np.abs(b).max(), np.finfo(b.dtype).tiny))

    return max((error(name), name) for name in expected)
