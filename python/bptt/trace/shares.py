# SPDX-License-Identifier: MIT
"""How much each step contributes to a weight's gradient.

dL/dw = sum_t G_t^T V_t, where G_t (B, m) are the gradients of the gates' arguments at step t and
V_t (B, n) is the operand of w. The norm of a step's term, and its projection on the whole gradient,
are computed without the term itself:

||G^T V||^2 = sum_bb' (G G^T * V V^T)_bb',    <G^T V, W> = sum_b (G * V W^T)_b.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._types import Array
from .full import FullTrace


class Share(NamedTuple):
    """The contribution of each step to one gradient.

    Attributes
    ----------
    norm : ndarray, shape (T,)
        ||dL/dw at t||, the Frobenius norm of the step's term.
    share : ndarray, shape (T,)
        <dL/dw at t, dL/dw> / ||dL/dw||^2, the projection of the step's term on the whole gradient.
        The shares sum to 1; a negative one pulls the other way. All are 0 if the gradient is 0.
    """

    norm: Array
    share: Array


class Shares(NamedTuple):
    """The contribution of each step to the gradients of the weights.

    Attributes
    ----------
    w_ih, w_hh : Share
        For the two weights.
    b : Share
        For a bias of all gates.
    """

    w_ih: Share
    w_hh: Share
    b: Share


class Part(NamedTuple):
    """Some rows of a gradient: whole = sum_t G_t^T V_t."""

    G: Array  # (T, B, m)
    V: Array  # (T, B, n)
    whole: Array  # (m, n)


def _norm(G: Array, V: Array) -> float:
    """||G^T V||, by the cheaper of two products."""
    B, m, n = *G.shape, V.shape[1]
    if B * (m + n) < m * n:
        return float(np.sqrt(max(((G @ G.T) * (V @ V.T)).sum(), 0.0)))
    return float(np.linalg.norm(G.T @ V))


def _squares(part: Part, scale: float) -> Array:
    G = part.G.astype(np.float64) / scale
    V = part.V.astype(np.float64)
    return np.array([_norm(g, v) ** 2 for g, v in zip(G, V)])


def _projections(part: Part, whole_scale: float) -> Array:
    along = part.V.astype(np.float64) @ (part.whole.astype(np.float64) / whole_scale).T
    return np.asarray(np.einsum("tbm,tbm->t", part.G.astype(np.float64) / whole_scale, along))


def _largest(*arrays: Array) -> float:
    """The largest magnitude. Divided by it, small gradients have squares that do not underflow."""
    return max((float(np.abs(a).max(initial=0)) for a in arrays), default=0.0) or 1.0


def _share(parts: list[Part]) -> Share:
    T = len(parts[0].G)
    norms = np.zeros(T)
    for t in range(T):  # each step has its own scale: magnitudes may differ by far
        scale = _largest(*(p.G[t] for p in parts))
        step = (Part(p.G[t : t + 1], p.V[t : t + 1], p.whole) for p in parts)
        norms[t] = scale * np.sqrt(sum(_squares(p, scale)[0] for p in step))
    scale = _largest(*(p.whole for p in parts))
    square = sum(float(((p.whole.astype(np.float64) / scale) ** 2).sum()) for p in parts)
    shares = sum((_projections(p, scale) for p in parts), np.zeros(T))
    return Share(norms, shares / square if square else shares)


def gates_of_h(full: FullTrace) -> Array:
    """(T, B, G*H): gradients of w_hh h + b_hh."""
    gates = list(full.gates.values())
    if full.split_gate is not None:
        gates[-1] = full.split_gate
    return np.concatenate(gates, -1)


def parts_of(full: FullTrace, w_hh: Array) -> list[Part]:
    """The gradient of w_hh, in two parts if the rows of n have an operand of their own."""
    G = gates_of_h(full)
    if full.second_operand is None:
        return [Part(G, full.operand, w_hh)]
    n = full.second_operand.shape[2]
    first, last = G[:, :, :-n], G[:, :, -n:]
    return [Part(first, full.operand, w_hh[:-n]), Part(last, full.second_operand, w_hh[-n:])]


def shares_of(full: FullTrace, weights: tuple[Array, Array]) -> Shares:
    """The shares, from a full trace and the gradients of w_ih and w_hh."""
    w_ih, w_hh = weights
    G = np.concatenate(list(full.gates.values()), -1)
    ones = np.ones((*G.shape[:2], 1))
    b = np.asarray(G.sum((0, 1), dtype=np.float64))[:, None]
    return Shares(
        _share([Part(G, full.x, w_ih)]), _share(parts_of(full, w_hh)), _share([Part(G, ones, b)])
    )
