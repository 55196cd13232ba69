# SPDX-License-Identifier: MIT
"""Arguments to what the core takes, or a clear error."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ._dual import Dual
from .grads import Array


def as_array(caller: str, name: str, value: Any, most: int = 64) -> Array:
    """Of at most so many dimensions."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{caller}: {name} is a masked array, expected one without a mask")
    try:
        array: Array = np.asarray(value)
    except ValueError as error:  # nested lists of unequal lengths
        raise ValueError(f"{caller}: {name} is no array: {error}") from None
    if array.ndim > most:
        raise ValueError(f"{caller}: {name} has {array.ndim} dimensions, expected at most {most}")
    return array


def as_integers(caller: str, name: str, value: Any, most: int = 64) -> Array:
    """Of at most so many dimensions."""
    array = as_array(caller, name, value, most)
    if not array.size:  # an empty list has no integer type
        return np.zeros(array.shape, np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{caller}: {name} has dtype {array.dtype}, expected integers")
    return array


def as_real(caller: str, name: str, value: Any, most: int = 3) -> Array:
    """Of at most so many dimensions."""
    array: Array = value if isinstance(value, Dual) else as_array(caller, name, value, most)
    if array.dtype.kind not in "fiub" and not isinstance(array, Dual):
        raise TypeError(
            f"{caller}: {name} has dtype {array.dtype}, expected real numbers "
            "(float32 or float64; other float and integer kinds are converted)"
        )
    return array


def prepare(array: Array, dtype: DTypeLike) -> Array:
    """The array itself where the core can use it as it lies, else a copy."""
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return np.asarray(array)
    return np.array(array, dtype, order="C")


def own(array: Array, dtype: DTypeLike) -> Array:
    """As `prepare`, but never an array that somebody may write into."""
    if array.flags.owndata and not array.flags.writeable:
        return prepare(array, dtype)
    return np.array(array, dtype, order="C")


def as_count(caller: str, name: str, value: Any, least: int, most: int = sys.maxsize) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{caller}: {name} is {value!r}, expected a whole number")
    if not least <= value <= most:
        limits = f"{least} or more" if most == sys.maxsize else f"{least}..{most}"
        raise ValueError(f"{caller}: {name} is {value}, expected {limits}")
    return int(value)


def as_float(where: str, name: str, value: ArrayLike, dtype: np.dtype[Any]) -> Array:
    """Return `value` as an array of `dtype`; real numbers of any kind convert."""
    if isinstance(value, Dual):
        return value
    array = as_array(where, name, value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{where}: {name} has dtype {array.dtype}, expected real numbers")
    return np.asarray(array, dtype)


def check_shape(where: str, name: str, array: Array, symbols: str, expected: Any) -> None:
    if array.shape != expected:
        raise ValueError(
            f"{where}: {name} has shape {array.shape}, expected {symbols} = {expected}"
        )
