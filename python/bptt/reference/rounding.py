# SPDX-License-Identifier: MIT
"""Weights of 8 bits, as `layer.prepare("int8")` packs them."""

from __future__ import annotations

import numpy as np

from .._types import Array

LEVELS = 127
NEGLIGIBLE = 1e-30  # a row of smaller numbers counts as zeros


def quantise(w: Array, levels: int = LEVELS) -> tuple[Array, Array]:
    """Round the rows of a float32 matrix to whole numbers.

    Returns
    -------
    q : ndarray, shape of w
        Whole numbers in -levels..levels: to nearest, halves to even.
    scale : ndarray, shape (..., 1)
        max |w| / levels of each row, so that w is about scale * q.
    """
    w = np.asarray(w, np.float32)
    largest = np.abs(w).max(-1, keepdims=True, initial=0)
    largest = np.where(largest < NEGLIGIBLE, 0, largest)
    inverse = np.divide(np.float32(levels), largest, out=np.zeros_like(largest), where=largest > 0)
    return np.rint(w * inverse).astype(np.int32), largest / np.float32(levels)


def dequantise(q: Array, scale: Array) -> Array:
    """The weights that an inference with `quantise(w)` computes with, in float64."""
    return np.float64(scale) * q
