# SPDX-License-Identifier: MIT
"""Recurrent weights of an sLSTM with heads: blocks for users, one matrix for the core."""

from __future__ import annotations

import numpy as np

from .._cells import CELLS
from .._types import Array

GATES = len(CELLS["slstm"].gates)


def block_diagonal(caller: str, w: Array, heads: int) -> Array:
    """(4*H, H/heads) as (4*H, H), zero where a unit does not see another."""
    rows, size = w.shape if w.ndim == 2 else (0, 0)
    if rows != GATES * heads * size:
        raise ValueError(
            f"{caller}: w_hh has shape {w.shape}, expected (4*H, H/heads) with heads = {heads}"
        )
    dense = np.zeros_like(w, shape=(GATES, heads, size, heads, size))
    k = np.arange(heads)
    dense[:, k, :, k] = w.reshape(GATES, heads, size, size).swapaxes(0, 1)
    return dense.reshape(rows, heads * size)


def blocks_of(dense: Array, heads: int) -> Array:
    """The inverse of `block_diagonal`."""
    rows, H = dense.shape
    k = np.arange(heads)
    blocks = dense.reshape(GATES, heads, H // heads, heads, H // heads)[:, k, :, k]
    return np.ascontiguousarray(blocks.swapaxes(0, 1)).reshape(rows, H // heads)
