# SPDX-License-Identifier: MIT
"""Options of a recurrence that most calls leave out: converted here, checked in the core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .._types import Array
from .._validate import as_array, as_count, as_flag, as_name, as_number, as_real, own, prepare

Convert = Callable[[Array, DTypeLike], Array]

# Of every cell, with what they are where left out.
COMMON: dict[str, Any] = {
    "resets": None,
    "dilation": 1,
    "skip": 0,
    "zoneout": None,
    "h_mask": None,
    "layer_norm": None,
}


# Defaults as objects: arguments are compared by identity first, as an argument of a wrong kind may
# be equal to its default, as True is, or have no truth, as an array of comparisons.
ONE, ZERO, OWN, SIGMOID, TANH = 1, 0, "own", "sigmoid", "tanh"
NEVER_NONE = {"dilation", "skip", "heads", "reset_after"}
NEVER_NONE |= {"forget_gate", "gate_activation", "output_activation"}


def given(defaults: dict[str, Any], values: tuple[Any, ...]) -> dict[str, Any] | None:
    """Those of the values, in the order of the defaults, that are others."""

    def same(value: Any, default: Any) -> bool:
        plain = isinstance(value, (str, int, np.integer)) and isinstance(default, (str, int))
        flag = isinstance(value, bool) or isinstance(default, bool)
        return value is default or bool(plain and not flag and value == default)

    return {n: v for (n, d), v in zip(defaults.items(), values) if not same(v, d)} or None


def as_resets(caller: str, value: Any, convert: Convert) -> Any:
    array = as_array(caller, "resets", value, 3)
    if array.dtype != np.bool_:
        raise TypeError(f"{caller}: resets has dtype {array.dtype}, expected bool")
    return convert(array, np.bool_)


def as_zoneout(
    caller: str, value: Any, states: int, dtype: DTypeLike, convert: Convert
) -> dict[str, Any]:
    """One number or array for h, or a pair for h and the other states."""
    pair = isinstance(value, (tuple, list)) and len(value) == 2
    if pair and states == 1:
        raise ValueError(
            f"{caller}: zoneout is a pair, expected one for h: the cell has no other state"
        )
    parts = value if pair else (value,)
    core: dict[str, Any] = {}
    for state, part in zip("hc", parts):
        if part is None:
            continue
        if isinstance(part, (int, float, np.generic)):
            core[f"zoneout_{state}"] = as_number(caller, "zoneout", part)
            continue
        array = as_real(caller, "zoneout", part)
        if array.ndim:
            core[f"zoneout_of_{state}"] = convert(array, dtype)
        else:
            core[f"zoneout_{state}"] = float(array)
    return core


def as_layer_norm(caller: str, value: Any, dtype: DTypeLike) -> tuple[Any, ...]:
    """Gains of both products; and, of LSTM, gain and offset of c."""
    names = "(g_ih, g_hh), and for lstm g_c and b_c after them"
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{caller}: layer_norm is {type(value).__name__}, expected a tuple {names}")
    if len(value) not in (2, 4):
        raise ValueError(f"{caller}: layer_norm has {len(value)} items, expected {names}")
    return tuple(
        prepare(as_real(caller, f"layer_norm[{i}]", v), dtype) for i, v in enumerate(value)
    )


CONVERT: dict[str, Callable[[str, str, Any], Any]] = {
    **dict.fromkeys(("gate_activation", "output_activation", "forget_gate"), as_name),
    **dict.fromkeys(("leak", "cell_clip", "preact_clip"), as_number),
    "dilation": lambda caller, name, value: as_count(caller, name, value, 1),
    "skip": lambda caller, name, value: as_count(caller, name, value, 0),
    "reset_after": as_flag,
    "heads": lambda caller, name, value: as_count(caller, name, value, 1),
}


def as_options(
    caller: str,
    options: dict[str, Any] | None,
    states: int,
    dtype: DTypeLike,
    keep: bool = False,
) -> dict[str, Any] | None:
    """As the core takes them; those that a tape refers to are its own if it is to `keep` them."""
    if options is None:
        return None
    convert = own if keep else prepare
    core: dict[str, Any] = {}
    for name, value in options.items():
        if value is None and name not in NEVER_NONE:
            continue
        if name == "zoneout":
            core |= as_zoneout(caller, value, states, dtype, convert)
        elif name == "layer_norm":
            core[name] = as_layer_norm(caller, value, dtype)
        elif name == "resets":
            core[name] = as_resets(caller, value, convert)
        elif name == "h_mask":
            core[name] = convert(as_real(caller, name, value), dtype)
        elif name in ("peepholes", "w_hr"):
            core[name] = prepare(as_real(caller, name, value), dtype)
        else:
            core[name] = CONVERT[name](caller, name, value)
    return core
