# SPDX-License-Identifier: MIT
"""Converts arguments for the core, or raises an error: "function: argument has X, expected Y"."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ._dual import Dual
from ._types import Array, State, StepClip
from ._words import MOST_SHOWN, listed, shown

MOST_CHARACTERS = 4096  # of a path: the most that Linux takes


# --- arrays ---------------------------------------------------------------------------------------


def as_array(caller: str, name: str, value: Any, most: int = 64) -> Array:
    """Return `value` as an array of at most `most` dimensions.

    Besides what NumPy reads by itself, these are objects that have DLPack alone, and numbers of
    fewer bits than NumPy has, such as bfloat16, which become float32 exactly.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{caller}: {name} is a masked array, expected one without a mask")
    try:
        array: Array = _small_to_float32(_asarray(value))
    except MemoryError:
        raise
    except Exception as error:  # ragged lists, tensors that need .detach(), and others
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{caller}: {name} is not an array: {str(error)[:200]}") from None
    if array.ndim > most:
        raise ValueError(f"{caller}: {name} has {array.ndim} dimensions, expected at most {most}")
    return array


def _asarray(value: Any) -> Array:
    if type(value) is np.ndarray:
        return value
    if _is_small(value) and hasattr(value, "detach"):  # a tensor, which NumPy cannot view
        value = value.float()
    alone = hasattr(value, "__dlpack__") and not hasattr(value, "__array__")
    return np.from_dlpack(value) if alone else np.asarray(value)


def _is_small(value: Any) -> bool:
    """Is it of a dtype with fewer bits than NumPy has?"""
    return any(kind in str(getattr(value, "dtype", "")) for kind in ("bfloat16", "float8"))


def _small_to_float32(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype.kind == "V" and _is_small(array) else array


def to_numpy(value: Any) -> Any:
    """Return a tensor as an array, without its graph; other values unchanged."""
    return _asarray(value.detach().cpu()) if hasattr(value, "detach") else value


def as_integers(caller: str, name: str, value: Any, most: int = 64) -> Array:
    """Return `value` as an array of integers, of at most `most` dimensions."""
    array = as_array(caller, name, value, most)
    if not array.size:  # an empty list has no integer type
        return np.zeros(array.shape, np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{caller}: {name} has dtype {array.dtype}, expected integers")
    return array


def as_indices(caller: str, name: str, value: ArrayLike, symbols: str, last: int) -> Array:
    """Return `value` as an array of integers, all in 0..last."""
    array = as_integers(caller, name, value)
    if array.size and (array.min() < 0 or array.max() > last):
        values = f"{array.min()}..{array.max()}"
        raise ValueError(f"{caller}: {name} has values {values}, expected {symbols} = 0..{last}")
    return array.astype(np.int64, copy=False)


def as_real(caller: str, name: str, value: Any, most: int = 3) -> Array:
    """Return `value` as an array of real numbers, of at most `most` dimensions."""
    array: Array = value if isinstance(value, Dual) else as_array(caller, name, value, most)
    if array.dtype.kind not in "fiub" and not isinstance(array, Dual):
        raise TypeError(
            f"{caller}: {name} has dtype {array.dtype}, expected real numbers "
            "(float32 or float64; other float and integer kinds are converted)"
        )
    return array


def as_bools(caller: str, name: str, value: Any, most: int = 3) -> Array:
    """Return `value` as an array of bool, of at most `most` dimensions."""
    array = as_array(caller, name, value, most)
    if array.dtype != np.bool_:
        raise TypeError(f"{caller}: {name} has dtype {array.dtype}, expected bool")
    return array


def prepare(array: Array, dtype: DTypeLike) -> Array:
    """Return the array itself if the core can use its memory, else a copy."""
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return np.asarray(array)
    return np.array(array, dtype, order="C")


def own(array: Array, dtype: DTypeLike) -> Array:
    """Return what `prepare` returns, but never an array that a caller may write to."""
    if array.flags.owndata and not array.flags.writeable:
        return prepare(array, dtype)
    return np.array(array, dtype, order="C")


def as_float(caller: str, name: str, value: ArrayLike, dtype: np.dtype[Any]) -> Array:
    """Return `value` as an array of `dtype`; real numbers of any kind convert."""
    if (type(value) is np.ndarray and value.dtype == dtype) or isinstance(value, Dual):
        return value
    array = as_array(caller, name, value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{caller}: {name} has dtype {array.dtype}, expected real numbers")
    return np.asarray(array, dtype)


def as_own_float(caller: str, name: str, value: ArrayLike) -> Array:
    """Return `value` as an array of float32 if it is one, else of float64."""
    if type(value) is np.ndarray and value.dtype in (np.float32, np.float64):
        return value
    array = as_array(caller, name, value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{caller}: {name} has dtype {array.dtype}, expected real numbers")
    return np.asarray(array, np.float32 if array.dtype == np.float32 else np.float64)


def check_shape(caller: str, name: str, array: Array, symbols: str, expected: Any) -> None:
    if array.shape != expected:
        raise ValueError(
            f"{caller}: {name} has shape {array.shape}, expected {symbols} = {expected}"
        )


def as_arrays(caller: str, required: dict[str, Any], optional: dict[str, Any]) -> list[Any]:
    """Return arrays of one dtype; omitted ones stay None.

    The dtype is float64 if one of them is float64, else float32; or dual numbers if one is dual.
    """
    for name, value in required.items():
        if value is None:
            raise TypeError(f"{caller}: {name} is None, expected an array")
    given = {**required, **optional}
    arrays = {k: v if v is None else as_real(caller, k, v) for k, v in given.items()}
    dtypes = [a.dtype for a in arrays.values() if a is not None]
    wide = any(d.kind == "f" and d.itemsize >= 8 for d in dtypes)
    dtype = np.dtype(np.float64 if wide else np.float32)
    if any(isinstance(a, Dual) for a in arrays.values()):
        dtype = np.dtype(np.complex128)
    return [None if a is None else prepare(a, dtype) for a in arrays.values()]


# --- numbers --------------------------------------------------------------------------------------


def as_count(caller: str, name: str, value: Any, least: int, most: int = sys.maxsize) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{caller}: {name} is {shown(value)}, expected a whole number")
    if not least <= value <= most:
        limits = f"{least} or more" if most == sys.maxsize > value else f"{least}..{most}"
        raise ValueError(f"{caller}: {name} is {shown(value)}, expected {limits}")
    return int(value)


def as_number(caller: str, name: str, value: Any) -> float:
    """Return any number, also infinity and NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{caller}: {name} is {shown(value)}, expected a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{caller}: {name} is {shown(value)}, expected at most 1.8e308") from None


def as_scalar(caller: str, name: str, value: Any) -> float:
    """Return any number, also from an array or tensor without dimensions."""
    array = as_array(caller, name, to_numpy(value))
    if array.ndim or array.dtype.kind not in "fiu":
        raise TypeError(f"{caller}: {name} is {shown(value)}, expected a number")
    return float(array)


def as_finite(caller: str, name: str, value: Any) -> float:
    number = as_number(caller, name, value)
    if not math.isfinite(number):
        raise ValueError(f"{caller}: {name} is {number}, expected a finite number")
    return number


def as_between(caller: str, name: str, value: Any, least: float, most: float = math.inf) -> float:
    """Return a finite number in least..most, ends included."""
    number = as_number(caller, name, value)
    if not (least <= number <= most and math.isfinite(number)):
        limits = f"{least:g} or more, and finite" if most == math.inf else f"{least:g}..{most:g}"
        raise ValueError(f"{caller}: {name} is {shown(value)}, expected {limits}")
    return number


def as_positive(caller: str, name: str, value: Any) -> float:
    """Return a finite number above 0."""
    number = as_number(caller, name, value)
    if not 0 < number < math.inf:
        raise ValueError(f"{caller}: {name} is {shown(value)}, expected more than 0, and finite")
    return number


def as_probability(caller: str, name: str, value: Any) -> float:
    number = as_number(caller, name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{caller}: {name} is {shown(value)}, expected a probability 0..1")
    return number


def as_bound(caller: str, name: str, value: Any, most: float = math.inf) -> float | None:
    """Return a number above 0 and at most `most`, or None."""
    if value is None:
        return None
    number = as_number(caller, name, value)
    if not 0 < number <= most:
        limits = "more than 0" if most == math.inf else f"more than 0 and at most {most:g}"
        raise ValueError(f"{caller}: {name} is {shown(value)}, expected {limits}")
    return number


def as_leak(caller: str, name: str, value: Any) -> float | Array | None:
    """Return a number, or an array of one above 0 and at most 1 for each unit."""
    if value is None:
        return None
    if isinstance(value, (str, int, float, np.generic)):
        return as_number(caller, name, value)
    leaks = as_real(caller, name, value, 1)
    if not leaks.ndim:
        return as_number(caller, name, leaks[()])
    wrong = ~((np.asarray(leaks, float) > 0) & (np.asarray(leaks, float) <= 1))
    if wrong.any():
        raise ValueError(
            f"{caller}: {name} has {leaks[wrong][0]}, expected more than 0 and at most 1"
        )
    return leaks


def as_leaks(caller: str, name: str, value: Any) -> float | tuple[float, ...] | None:
    """Return the leak of a layer: a number, or one for each unit."""
    leak = as_leak(caller, name, value)
    return tuple(leak.tolist()) if isinstance(leak, np.ndarray) else as_bound(caller, name, leak, 1)


def as_flag(caller: str, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{caller}: {name} is {shown(value)}, expected True or False")
    return bool(value)


# --- calls of recurrences -----------------------------------------------------------------------


def as_states(
    caller: str, name: str, value: State, names: tuple[str, ...], dtype: DTypeLike, most: int = 3
) -> tuple[Array | None, ...]:
    """Return the states `names` in a tuple, each of at most `most` dimensions."""
    if value is None:
        return (None,) * len(names)
    if len(names) == 1:
        return (prepare(as_real(caller, name, value, most), dtype),)
    if not isinstance(value, (tuple, list)) or len(value) != len(names):
        has = f"{len(value)} items" if isinstance(value, (tuple, list)) else type(value).__name__
        raise TypeError(f"{caller}: {name} is {has}, expected a tuple ({', '.join(names)})")
    return tuple(
        None if v is None else prepare(as_real(caller, f"{name}[{i}]", v, most), dtype)
        for i, v in enumerate(value)
    )


def as_lengths(caller: str, value: Any) -> Array | None:
    """Return lengths in the type of the core, which checks their range."""
    if value is None:
        return None
    array = as_integers(caller, "lengths", value, 3)
    if array.dtype == np.uint64:  # values beyond int64 are too long in any case
        array = np.minimum(array, np.uint64(np.iinfo(np.int64).max))
    return prepare(array, np.int64)


def as_lengths_within(caller: str, value: Any, T: int, B: int) -> Array | None:
    """Return a copy of B lengths, all in 0..T; None stays None."""
    if value is None:
        return None
    lengths = as_indices(caller, "lengths", value, "0..T", T)
    check_shape(caller, "lengths", lengths, "(B,)", (B,))
    return lengths.copy()


def as_checkpoint(caller: str, value: Any) -> str | int | None:
    if value is None or (isinstance(value, str) and value == "sqrt"):
        return value
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < 0:
        raise ValueError(
            f"{caller}: checkpoint is {shown(value)}, expected None, 'sqrt' or a number of bytes"
        )
    return min(int(value), sys.maxsize)


def as_step_clip(caller: str, value: StepClip | None) -> tuple[str, float, str]:
    if value is None:
        return ("none", 0.0, "h")
    parts = value if isinstance(value, (tuple, list)) and len(value) in (2, 3) else (None, None)
    kind, bound, *rest = parts
    target = rest[0] if rest else "h"
    known = isinstance(kind, str) and isinstance(target, str)
    if not known or kind not in ("value", "norm") or target not in ("h", "c", "gates"):
        raise ValueError(
            f"{caller}: step_clip is {shown(value)}, expected ('value', bound) or ('norm', bound), "
            "and 'h', 'c' or 'gates' as a third item or none"
        )
    if isinstance(bound, bool) or not isinstance(bound, (int, float, np.integer, np.floating)):
        raise TypeError(f"{caller}: step_clip has bound {shown(bound)}, expected a number")
    if not 0 < bound <= np.inf:
        raise ValueError(f"{caller}: step_clip has bound {shown(bound)}, expected more than 0")
    return (str(kind), float(min(bound, sys.float_info.max)), str(target))


def as_trace(caller: str, value: bool | str | None) -> int:
    """Return 0 for no trace, 1 for norms, 2 for the gradients as well."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return int(bool(value))
    if isinstance(value, str) and value == "full":
        return 2
    raise ValueError(f"{caller}: trace is {shown(value)}, expected True, False or 'full'")


def as_zoneout_of_h(caller: str, name: str, value: Any) -> tuple[Any, None]:
    """Return the amount for h of a cell without other states, and None."""
    if isinstance(value, (tuple, list)) and len(value) == 2:
        raise ValueError(
            f"{caller}: {name} is a pair, expected one for h: the cell has no other state"
        )
    return _as_amounts(caller, name, value), None


def as_zoneout(caller: str, name: str, value: Any) -> tuple[Any, Any]:
    """Return the amounts for h and for the other states: None, a number or an array each."""
    pair = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, None)
    h, others = (_as_amounts(caller, name, part) for part in pair)
    return h, others


def _as_amounts(caller: str, name: str, value: Any) -> float | Array | None:
    if value is None:
        return None
    if isinstance(value, (int, float, np.generic)):
        return as_number(caller, name, value)
    array = as_real(caller, name, value)
    return array if array.ndim else float(array)


def as_zoneout_rate(caller: str, name: str, value: Any) -> float:
    """Return the rate of a layer whose cell has no state but h."""
    if isinstance(value, (tuple, list)):
        raise ValueError(
            f"{caller}: {name} has {len(value)} items, expected one probability: the cell has no "
            "state but h"
        )
    return as_probability(caller, name, value)


def as_zoneout_rates(caller: str, name: str, value: Any) -> float | tuple[float, float]:
    """Return one rate, or a pair for h and for the other states."""
    if not isinstance(value, (tuple, list)):
        return as_probability(caller, name, value)
    if len(value) != 2:
        raise ValueError(f"{caller}: {name} has {len(value)} items, expected one or two")
    h, others = (as_probability(caller, f"{name}[{i}]", v) for i, v in enumerate(value))
    return h, others


def as_layer_norm(caller: str, name: str, value: Any) -> tuple[Array, ...]:
    """Return the gains of both products; for an LSTM also the gain and offset of c."""
    names = "(g_ih, g_hh), and for lstm g_c and b_c after them"
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{caller}: {name} is {type(value).__name__}, expected a tuple {names}")
    if len(value) not in (2, 4):
        raise ValueError(f"{caller}: {name} has {len(value)} items, expected {names}")
    return tuple(as_real(caller, f"{name}[{i}]", v) for i, v in enumerate(value))


# --- names, kinds and others ----------------------------------------------------------------------


def as_name(caller: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{caller}: {name} is {shown(value)}, expected its name")
    if len(value) > MOST_SHOWN or not value.isprintable():  # the core repeats it in its messages
        raise ValueError(f"{caller}: {name} is {shown(value)}, expected a name")
    return value


def as_choice(caller: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{caller}: {name} is {shown(value)}, expected one of {choices}")
    return str(value)


def as_names(caller: str, name: str, value: Any, known: Collection[str]) -> frozenset[str]:
    """Names out of `known`."""
    number = isinstance(value, np.ndarray) and value.ndim == 0
    if isinstance(value, (str, bytes)) or number or not isinstance(value, Iterable):
        raise TypeError(f"{caller}: {name} is {shown(value)}, expected some of {listed(known, 16)}")
    names = list(value)
    unknown = [n for n in names if not isinstance(n, str) or n not in known]
    if unknown:
        raise ValueError(
            f"{caller}: {name} has {listed(unknown)}, expected some of {listed(known, 16)}"
        )
    return frozenset(names)


def as_dtype(caller: str, value: Any) -> np.dtype[Any]:
    """float32 or float64."""
    has = shown(value)
    if value is not None:  # NumPy would read None as float64
        try:
            dtype: np.dtype[Any] = np.dtype(value).newbyteorder("=")
        except Exception:  # NumPy raises various errors for other values
            pass
        else:
            if dtype in (np.float32, np.float64):
                return dtype
            has = str(dtype)
    raise TypeError(f"{caller}: dtype is {has}, expected float32 or float64")


def as_generator(caller: str, name: str, value: Any) -> np.random.Generator:
    """Return the generator itself, or a new one from a seed; None draws a seed."""
    if value is None or isinstance(value, np.random.Generator):
        return np.random.default_rng(value)
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole:
        raise TypeError(
            f"{caller}: {name} is {shown(value)}, expected a whole number, a numpy.random.Generator"
            " or None"
        )
    if value < 0:
        raise ValueError(f"{caller}: {name} is {shown(value)}, expected 0 or more")
    return np.random.default_rng(int(value))


def as_path(caller: str, value: Any, name: str = "path") -> str:
    """Return the path of a file; `open` would take an int for a descriptor."""
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str):
        raise TypeError(f"{caller}: {name} is {shown(value)}, expected a path")
    if not 0 < len(path) <= MOST_CHARACTERS or "\0" in path:
        raise ValueError(
            f"{caller}: {name} is {shown(path)}, expected 1..{MOST_CHARACTERS} characters, none "
            "of them NUL"
        )
    return path


def as_callable(caller: str, name: str, value: Any) -> Callable[..., Any]:
    if not callable(value):
        raise TypeError(f"{caller}: {name} is {shown(value)}, expected a function")
    return value  # type: ignore[no-any-return]


def check_mapping(caller: str, label: str, value: object, tensors: bool = False) -> None:
    """Raise unless `value` is a dict whose names are text.

    The message for an object that holds such a dict, such as a layer, names the attribute; with
    `tensors` it says how to pass a module of PyTorch.
    """
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"{caller}: {label} has the name {shown(name)}, expected text")
        return
    if hasattr(value, "named_parameters"):  # a module of PyTorch
        hint = ": pass .state_dict()" if tensors else ""
    else:
        hint = next((f": pass .{f}" for f in ("params", "parameters") if hasattr(value, f)), "")
    raise TypeError(
        f"{caller}: {label} is of type {type(value).__name__}, expected a dict of arrays{hint}"
    )
