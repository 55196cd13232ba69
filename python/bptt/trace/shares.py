# SPDX-License-Identifier: MIT
"""How much of a weight's gradient comes from which step.

dL/dw = sum_t G_t^T V_t, where G_t (B, m) are the gradients of the gates' arguments at step t and
V_t (B, n) what w multiplied. Neither the norm of a step's part nor its projection on the whole
needs that part itself:

||G^T V||^2 = sum_bb' (G G^T * V V^T)_bb',    <G^T V, W> = sum_b (G * V W^T)_b.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .._types import Array
from .._words import shown

if TYPE_CHECKING:
    from .full import FullTrace
    from .trace import Trace


class Share(NamedTuple):
    """What each step gave to one gradient.

    Attributes
    ----------
    norm : ndarray, shape (T,)
        ||dL/dw at t||, the Frobenius norm of the step's own part.
    share : ndarray, shape (T,)
        <dL/dw at t, dL/dw> / ||dL/dw||^2, its projection on the whole: sums to 1, and is negative
        where a step pulls the other way. 0 where the whole gradient is 0.
    """

    norm: Array
    share: Array


class Shares(NamedTuple):
    """What each step gave to the gradients of the weights, and of a bias of all gates."""

    w_ih: Share
    w_hh: Share
    b: Share


class Part(NamedTuple):
    """Some rows of a gradient: the whole is the sum of G_t^T V_t over the steps."""

    G: Array  # (T, B, m)
    V: Array  # (T, B, n)
    whole: Array  # (m, n)


def _norm(G: Array, V: Array) -> float:
    """||G^T V|| by whichever product is smaller."""
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
    """Of all magnitudes, to compute relative to it: squares of small gradients are there too."""
    return max((float(np.abs(a).max(initial=0)) for a in arrays), default=0.0) or 1.0


def _share(parts: list[Part]) -> Share:
    T = len(parts[0].G)
    norms = np.zeros(T)
    for t in range(T):  # each step relative to its own largest: they may lie far apart
        scale = _largest(*(p.G[t] for p in parts))
        step = (Part(p.G[t : t + 1], p.V[t : t + 1], p.whole) for p in parts)
        norms[t] = scale * np.sqrt(sum(_squares(p, scale)[0] for p in step))
    scale = _largest(*(p.whole for p in parts))
    square = sum(float(((p.whole.astype(np.float64) / scale) ** 2).sum()) for p in parts)
    shares = sum((_projections(p, scale) for p in parts), np.zeros(T))
    return Share(norms, shares / square if square else shares)


def gates_of_h(full: FullTrace) -> Array:
    """(T, B, G*H): gradients of what w_hh gives to the gates."""
    gates = list(full.gates.values())
    return np.concatenate(gates if full.apart is None else [*gates[:-1], full.apart], -1)


def parts_of(full: FullTrace, w_hh: Array) -> list[Part]:
    """Of w_hh: all rows, or those of n apart where its operand is another."""
    G = gates_of_h(full)
    if full.inner is None:
        return [Part(G, full.operand, w_hh)]
    n = full.inner.shape[2]
    first, last = G[:, :, :-n], G[:, :, -n:]
    return [Part(first, full.operand, w_hh[:-n]), Part(last, full.inner, w_hh[-n:])]


def needed(trace: Trace, where: str) -> FullTrace:
    if getattr(trace, "full", None) is None:
        raise ValueError(
            f'{where}: trace is {shown(trace)}, expected that of a call with trace="full"'
        )
    if trace.source.plain_weights:
        return trace.full  # type: ignore[return-value]
    raise ValueError(f"{where}: the cell has layer_norm or heads, expected neither")


def shares_of(full: FullTrace, weights: tuple[Array, Array]) -> Shares:
    """From the gradients of a full trace and the whole gradients of w_ih and w_hh."""
    w_ih, w_hh = weights
    G = np.concatenate(list(full.gates.values()), -1)
    ones = np.ones((*G.shape[:2], 1))
    b = np.asarray(G.sum((0, 1), dtype=np.float64))[:, None]
    return Shares(
        _share([Part(G, full.x, w_ih)]), _share(parts_of(full, w_hh)), _share([Part(G, ones, b)])
    )
