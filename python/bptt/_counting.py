# SPDX-License-Identifier: MIT
"""Which elements of a loss count, and with which weight."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._types import Array, Maybe
from ._validate import as_bools, as_flag, as_lengths_within, as_own_float

__all__ = ["as_weights", "both", "chosen", "counting", "placed"]


def counting(
    caller: str,
    label: str,
    shape: tuple[int, ...],
    lengths: Maybe,
    mask: Maybe,
    batch_first: bool,
) -> Array | None:
    """True where elements of `shape` count, in its first axes; None if all do."""
    batch_first = as_flag(caller, "batch_first", batch_first)
    counts: Array | None = None
    if lengths is not None:
        if len(shape) < 2:
            axes = "(B, T, ...)" if batch_first else "(T, B, ...)"
            raise ValueError(f"{caller}: {label} has shape {shape}, expected {axes} with lengths")
        T, B = shape[1::-1] if batch_first else shape[:2]
        within = as_lengths_within(caller, lengths, T, B)
        assert within is not None
        steps = np.arange(T)[:, None] < within
        counts = steps.T if batch_first else steps
    if mask is not None:
        given = as_bools(caller, "mask", mask, 64)
        if given.shape != shape[: given.ndim]:
            raise ValueError(
                f"{caller}: mask has shape {given.shape}, expected the first axes of {label} = "
                f"{shape}"
            )
        counts = given if counts is None else both(counts, given)
    return counts


def both(first: Array, second: Array) -> Array:
    """Where two masks of the first axes are true, in the axes of the one that has more."""
    ndim = max(first.ndim, second.ndim)
    a, b = (m.reshape(m.shape + (1,) * (ndim - m.ndim)) for m in (first, second))
    return np.asarray(a & b)


def as_weights(
    caller: str,
    label: str,
    value: Maybe,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    exact: bool = False,
) -> Array | None:
    """Weights of `shape`; with `exact` they are not broadcast."""
    if value is None:
        return None
    given = as_own_float(caller, label, value).astype(dtype)
    try:
        weights = np.broadcast_to(given, shape)
    except ValueError:
        weights = None
    if weights is None or (exact and given.shape != shape):
        how = "" if exact else " or one that broadcasts to it"
        raise ValueError(f"{caller}: {label} has shape {given.shape}, expected {shape}{how}")
    if not np.all((given >= 0) & np.isfinite(given)):
        raise ValueError(
            f"{caller}: {label} has values {given.min()}..{given.max()}, expected 0 or more, and "
            "finite"
        )
    return weights


def chosen(array: Any, counts: Array | None) -> Any:
    """The elements that count; all, in their shape, if `counts` is None."""
    return array if array is None or counts is None else array[counts]


def placed(grad: Array, counts: Array | None, like: Array) -> Array:
    """The gradient of all elements from that of `chosen` ones."""
    if counts is None:
        return np.asarray(grad)
    every = np.zeros(like.shape, like.dtype)
    every[counts] = grad
    return every
