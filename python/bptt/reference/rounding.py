# SPDX-License-Identifier: MIT
"""Weights of 8 bits and operands of 16, as `layer.prepare("int8")` computes with them."""

from __future__ import annotations

import numpy as np

from .._types import Array

LEVELS = 127
OPERAND_LEVELS = 2**15 - 1  # fewer where a sum of products could leave 32 bits
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
    """The numbers that `quantise` rounded to, in float64."""
    return np.float64(scale) * q


def rounded_weights(w: Array) -> Array:
    return dequantise(*quantise(w))


def rounded_operand(v: Array) -> Array:
    """Rows of x or h with as many levels as 16 bits, and sums in 32 bits, allow."""
    levels = min(OPERAND_LEVELS, (2**31 - 1) // LEVELS // v.shape[-1])
    return dequantise(*quantise(v, levels))
