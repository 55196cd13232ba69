# SPDX-License-Identifier: MIT
"""Omega of Pascanu, Mikolov and Bengio (2013), by its definition: what `bptt.regularise` is tested
against."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..grads import Array, State
from .loop import Tape, filled, retreat

LEAST = 1e-20  # squared norms of dL/dh below it are no direction


def omega(tape: Tape, dy: Array | None = None, dstate: State = None) -> Any:
    """Mean of (|(dL/dh_t) (dh_t/dh_{t-1})|^2 / |dL/dh_t|^2 - 1)^2 over steps and sequences.

    Complex where the tape is, so that its complex step is the derivative.
    """
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
