# SPDX-License-Identifier: MIT
"""The one place that turns arguments into what the core takes; shapes are checked by the core."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .grads import Array, State

StepClip = tuple[str, float]


def as_real(caller: str, name: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{caller}: {name} has dtype {array.dtype}, expected real numbers "
            "(float32 or float64; other float and integer kinds are converted)"
        )
    return array


def prepare(array: Array, dtype: DTypeLike) -> Array:
    """The array itself where the core can use it as it lies, else a copy."""
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.array(array, dtype, order="C")


def as_arrays(
    caller: str, required: dict[str, Any], optional: dict[str, Any]
) -> list[Any]:
    """All as float64 if one of them is, else all as float32; what is omitted stays None."""
    for name, value in required.items():
        if value is None:
            raise TypeError(f"{caller}: {name} is None, expected an array")
    given = {**required, **optional}
    arrays = {k: v if v is None else as_real(caller, k, v) for k, v in given.items()}
    dtypes = [a.dtype for a in arrays.values() if a is not None]
    wide = any(d.kind == "f" and d.itemsize >= 8 for d in dtypes)
    dtype = np.dtype(np.float64 if wide else np.float32)
    return [None if a is None else prepare(a, dtype) for a in arrays.values()]


def as_states(caller: str, name: str, value: State, states: int, dtype: DTypeLike) -> tuple[Any, ...]:
    if value is None:
        return ()
    if states == 1:
        return (prepare(as_real(caller, name, value), dtype),)
    if not isinstance(value, (tuple, list)) or len(value) != states:
        has = f"{len(value)} items" if isinstance(value, (tuple, list)) else type(value).__name__
        raise TypeError(f"{caller}: {name} is {has}, expected a tuple (h, c)")
    return tuple(
        None if v is None else prepare(as_real(caller, f"{name}[{i}]", v), dtype)
        for i, v in enumerate(value)
    )


def as_lengths(caller: str, value: Any) -> Array | None:
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{caller}: lengths has dtype {array.dtype}, expected integers")
    return prepare(array, np.int64)


def as_step_clip(caller: str, value: StepClip | None) -> StepClip:
    if value is None:
        return ("none", 0.0)
    if not isinstance(value, (tuple, list)) or len(value) != 2 or value[0] not in ("value", "norm"):
        raise ValueError(
            f"{caller}: step_clip is {value!r}, expected ('value', bound) or ('norm', bound)"
        )
    kind, bound = value
    if isinstance(bound, bool) or not isinstance(bound, (int, float, np.integer, np.floating)):
        raise TypeError(f"{caller}: step_clip has bound {bound!r}, expected a number")
    if not bound > 0:
        raise ValueError(f"{caller}: step_clip has bound {bound}, expected more than 0")
    return (kind, float(bound))
