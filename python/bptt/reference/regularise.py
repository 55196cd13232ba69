# SPDX-License-Identifier: MIT
"""Values of regularisers by their definitions: what `bptt.regularise` is tested against.

Complex where the tape is, so that their complex step is the derivative.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._types import Array, State
from .loop import Tape, filled, retreat

LEAST = 1e-20  # squared norms of dL/dh below it are no direction


def omega(tape: Tape, dy: Array | None = None, dstate: State = None) -> Any:
    """Mean of ``(|(dL/dh_t) (dh_t/dh_{t-1})|^2 / |dL/dh_t|^2 - 1)^2`` over steps and sequences."""
    final = tape.queues[-1][0]
    K, B, _ = final.shape
    dtype = np.result_type(final, *(a for a in (dy, dstate) if a is not None))
    dqueues = filled(tape.net, dstate, K, B, dtype)
    total, terms = 0 * final.sum(), 0
    for n in reversed(range(len(tape.times))):
        active = tape.active[tape.times[n]]
        d = dqueues[0][-1] if dy is None else dqueues[0][-1] + dy[tape.times[n]]
        older, _ = retreat(tape, n, dqueues, dy, None)
        norm, passed = (d * d).sum(axis=1), (older[0][-1] ** 2).sum(axis=1)
        counts = active & (norm.real >= LEAST)
        total += ((passed[counts] / norm[counts] - 1) ** 2).sum()
        terms += counts.sum()
        dqueues = [np.where(active[:, None], a, b) for a, b in zip(older, dqueues)]
    return total / max(terms, 1)


def flossing(tape: Tape, start: Array) -> Any:
    """Mean over sequences of the sum of squared Lyapunov exponents of the directions `start`."""
    sizes, final = tape.net.sizes, tape.queues[-1][0]
    S, B = sum(sizes), final.shape[1]
    units = [np.split(np.tile(e, (1, B, 1)), np.cumsum(sizes)[:-1], axis=2) for e in np.eye(S)]
    units = [[part.astype(final.dtype) for part in unit] for unit in units]
    total = 0 * final.sum()
    for b in np.flatnonzero(tape.active.any(axis=0)):
        directions, rates = list(start.T), np.zeros(start.shape[1])
        for n, t in enumerate(tape.times):
            if tape.active[t, b]:
                rows = [retreat(tape, n, unit, None, None)[0] for unit in units]
                J = np.stack([np.concatenate([q[-1][b] for q in queues]) for queues in rows])
                directions, lengths = orthonormal([J @ q for q in directions])
                rates = rates + np.log(lengths)
        total += ((rates / tape.active[:, b].sum()) ** 2).sum()
    return total / max(tape.active.any(axis=0).sum(), 1)


def orthonormal(vectors: list[Array]) -> tuple[list[Array], Array]:
    """By Gram and Schmidt: the directions, and what length each vector adds to those before."""
    directions: list[Array] = []
    lengths = []
    for v in vectors:
        for q in directions:
            v = v - (q * v).sum() * q
        lengths.append(np.sqrt((v * v).sum()))
        directions.append(v / lengths[-1])
    return directions, np.array(lengths)
