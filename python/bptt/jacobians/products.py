# SPDX-License-Identifier: MIT
"""Singular values, as logarithms, of long products of matrices that would under- or overflow."""

from __future__ import annotations

import numpy as np

from .._types import Array

MOST_SWEEPS = 60


def logs(a: Array) -> Array:
    """Natural logarithms; -inf of zero."""
    with np.errstate(divide="ignore"):
        return np.log(a)


class Graded:
    """A stack of square matrices diag(exp(size)) @ rows, with rows of norm 1."""

    def __init__(self, n: int, count: int) -> None:
        self.rows = np.broadcast_to(np.eye(n), (count, n, n)).copy()
        self.size = np.zeros((count, n))

    def multiply(self, a: Array, at: Array) -> None:
        """Multiply the matrices number ``at`` by the matrices ``a`` from the left."""
        terms = logs(np.abs(a)) + self.size[at][:, None, :]
        most = terms.max(axis=2)
        scale = np.where(np.isfinite(most), most, 0)
        self.rows[at] = (np.sign(a) * np.exp(terms - scale[:, :, None])) @ self.rows[at]
        self.size[at] = scale
        self.normalise(at)

    def normalise(self, at: Array) -> None:
        norms = np.linalg.norm(self.rows[at], axis=2)
        self.rows[at] /= np.where(norms == 0, 1, norms)[:, :, None]
        self.size[at] += logs(norms)

    def log_singular_values(self) -> Array:
        """Logarithms of the singular values, largest first; NaN if the matrix is not finite.

        One-sided Jacobi rotations between rows have an error relative to each row, however much the
        sizes of rows differ (Demmel & Veselic, 1992); here the sizes are logarithms.
        """
        good = np.isfinite(self.rows).all(axis=(1, 2)) & ~np.isnan(self.size).any(axis=1)
        result = np.full(self.size.shape, np.nan)
        rows, size = self.rows[good], self.size[good]
        n = size.shape[1]
        for _ in range(MOST_SWEEPS):
            cosines = [_rotate(rows, size, i, j) for i, j in _rounds(n)]
            if max(cosines, default=0.0) <= n * np.finfo(float).eps:
                break
        result[good] = -np.sort(-size, axis=1)
        return result


def _rounds(n: int) -> list[tuple[Array, Array]]:
    """All pairs of n rows, in rounds in which each row appears at most once."""
    players = np.arange(n + n % 2)
    rounds = []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        i, j = players[:half], players[: half - 1 : -1]
        real = (i < n) & (j < n)
        rounds.append((i[real], j[real]))
        players = np.concatenate([players[:1], players[-1:], players[1:-1]])
    return rounds


def _rotate(rows: Array, size: Array, i: Array, j: Array) -> float:
    """Make rows i and j orthogonal, and return the largest cosine before."""
    if not size.size or not i.size:
        return 0.0
    k = np.arange(len(size))[:, None]
    swap = size[:, i] < size[:, j]
    i, j = np.where(swap, j, i), np.where(swap, i, j)
    u, v = rows[k, i], rows[k, j]
    cosine = (u * v).sum(axis=2)
    smaller = size[k, j] - np.where(np.isfinite(size[k, i]), size[k, i], 0)
    ratio = np.exp(smaller)  # size of v relative to u, at most 1
    # Rotates (u, ratio v) by the angle atan(tangent), with the second row divided by the ratio. If
    # the ratio is 0, u stays the same and v becomes orthogonal to it.
    gap = 1 - ratio * ratio
    below = gap + np.sqrt(gap * gap + (2 * cosine * ratio) ** 2)
    tangent = -2 * cosine / np.where(below == 0, 1, below)
    cos = 1 / np.sqrt(1 + (tangent * ratio) ** 2)
    turned = u - (tangent * ratio * ratio)[..., None] * v, v + tangent[..., None] * u
    for index, new in zip((i, j), turned):
        new *= cos[..., None]
        norms = np.linalg.norm(new, axis=2)
        rows[k, index] = new / np.where(norms == 0, 1, norms)[..., None]
        size[k, index] += logs(norms)
    return float(np.abs(cosine).max())
