# SPDX-License-Identifier: MIT
"""DynamicQuantizeLSTM, whose weights are integers of 8 bits with scales and zero points."""

from __future__ import annotations

import numpy as np

from .._types import Array

__all__ = ["dequantized"]


def dequantized(caller: str, found: dict[str, Array]) -> dict[str, Array]:
    """The constants with W (D, 4*H, I) and R (D, 4*H, H) as real numbers.

    In the file they are (D, I, 4*H) and (D, H, 4*H), with a scale and a zero point for each
    direction, or for each of its rows.
    """
    rest = {role: array for role, array in found.items() if role not in ("W", "R")}
    for role in ("W", "R"):
        scale, zero = (rest.pop(f"{role}_{part}", None) for part in ("scale", "zero_point"))
        whole = found.get(role)
        if whole is None or scale is None:
            raise ValueError(
                f"{caller}: {role} and {role}_scale are not all constant, expected them to be"
            )
        if whole.ndim != 3 or whole.dtype not in (np.int8, np.uint8):
            raise ValueError(
                f"{caller}: {role} has shape {whole.shape} and dtype {whole.dtype}, expected "
                "3 axes of int8 or uint8"
            )
        zero = np.zeros_like(whole, shape=scale.shape) if zero is None else zero
        difference = whole.astype(np.float32) - _rows(caller, f"{role}_zero_point", zero, whole)
        rows = difference * _rows(caller, f"{role}_scale", scale, whole)
        rest[role] = np.ascontiguousarray(rows.swapaxes(1, 2))
    return rest


def _rows(caller: str, name: str, array: Array, whole: Array) -> Array:
    """A number for each direction, or for each of its rows, so that it multiplies the weights."""
    D, _, rows = whole.shape
    if array.shape not in ((D,), (D, rows)):
        raise ValueError(
            f"{caller}: {name} has shape {array.shape}, expected ({D},) or ({D}, {rows})"
        )
    return array.astype(np.float32).reshape(D, 1, -1)
