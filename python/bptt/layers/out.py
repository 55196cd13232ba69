# SPDX-License-Identifier: MIT
"""Arrays that a caller gives for a result."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._types import Array
from .._validate import check_shape

__all__ = ["check_out", "finished", "for_core"]


def check_out(
    caller: str, out: Any, symbols: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    """Raise unless `out` can take numbers of `dtype`, by the rules of NumPy's functions."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{caller}: out is {type(out).__name__}, expected a NumPy array")
    check_shape(caller, "out", out, symbols, shape)
    if not np.can_cast(dtype, out.dtype, "same_kind"):
        raise TypeError(f"{caller}: out has dtype {out.dtype}, expected {dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{caller}: out is read-only, expected an array that can be written to")


def for_core(out: Array | None, dtype: np.dtype[Any], *read: Array | None) -> Array | None:
    """Return `out` if the core can write to it while it reads the other arrays, else None."""
    if out is None or type(out) is not np.ndarray or out.dtype != dtype:
        return None
    if not (out.flags.c_contiguous and out.flags.aligned):
        return None
    apart = not any(a is not None and np.may_share_memory(out, a) for a in read)
    return out if apart else None


def finished(out: Array | None, target: Array | None, result: Array) -> Array:
    """Return `out` with the result, which the core has written there if `target` is an array."""
    if out is None:
        return result
    if target is None:
        np.copyto(out, result, casting="same_kind")
    return out
