# SPDX-License-Identifier: MIT
"""The steps where a loss enters a model, and shares of the gradient by lag from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._types import Array
from ..jacobians.lags import by_lag
from ..trace.shares import parts_of
from ..trace.trace import Trace

__all__ = ["Entry", "share_by_lag"]

MOST_LAGS = 100  # each lag takes the time of a backward pass


class Entry:
    """The steps at which the gradient of a loss enters the top layer.

    Attributes
    ----------
    dys : sequence of ndarray, shape (T, B, width)
        Gradient of the output of each direction.
    lengths : ndarray, shape (B,)
        Length of each sequence.
    at_end : bool
        Does the gradient enter at the last processed step of each sequence only?
    """

    def __init__(self, dys: Sequence[Array], lengths: Array) -> None:
        self.dys, self.lengths = dys, lengths
        self.at_end = True
        for reverse, dy in enumerate(dys):
            t, b = np.nonzero((np.arange(len(dy))[:, None] < lengths) & dy.any(-1))
            self.at_end &= bool((t == (0 if reverse else lengths[b] - 1)).all())

    def far(self, tape: Any, share: Array, horizon: float, direction: int | None) -> float:
        """Share of dL/dW_hh from steps further before a loss than the horizon.

        `share` is given by lag from the end, and `direction` for the top layer only: it is not
        known at which steps gradients enter the layers below. NaN if the share cannot be computed.
        """
        if horizon == math.inf:
            return 0.0
        if self.at_end:
            return float(share[np.arange(len(share)) > horizon].sum())
        if direction is None or horizon > MOST_LAGS:
            return math.nan
        try:
            near = by_lag(tape, self.dys[direction], max_lag=math.floor(horizon)).w_hh.share
        except ValueError:  # a cell whose steps depend on more than the state before
            return math.nan
        return 1 - float(near.sum())


def share_by_lag(trace: Trace) -> Array:
    """Shares of dL/dW_hh by lag from the end of each sequence."""
    paths = trace.source.paths
    if not trace.source.plain_weights or trace.full is None or trace.weights is None:
        return np.full(int(paths.lengths.max()), np.nan)
    parts = parts_of(trace.full, trace.weights[1])
    # The scale keeps squares of small gradients from underflow.
    scale = max(float(np.abs(part.whole).max()) for part in parts) or 1.0
    wholes = [part.whole.astype(np.float64) / scale for part in parts]
    projections = [
        np.einsum("tbm,tbm->tb", part.G, part.V @ whole.T) for part, whole in zip(parts, wholes)
    ]
    square = sum(float((whole**2).sum()) for whole in wholes)
    by_sequence = paths.back(sum(projections) / (scale * square))
    return np.bincount(paths.lags[paths.inside], by_sequence[paths.inside])
