# SPDX-License-Identifier: MIT
"""Arguments and their tangents, checked and joined to dual numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._cells import CELLS
from .._dual import dual, parts
from .._types import State
from .._validate import as_real, as_states
from .._words import shown


def checked(caller: str, label: str, arrays: Any, allowed: Sequence[str]) -> dict[str, Any]:
    """The arguments that are not None, all with allowed names."""
    if not isinstance(arrays, Mapping):
        raise TypeError(f"{caller}: {label} is {type(arrays).__name__}, expected a dict or tuple")
    for name in arrays:
        if name not in allowed:
            raise ValueError(
                f"{caller}: {label} has {shown(name)}, expected names among {', '.join(allowed)}"
            )
    return {name: value for name, value in arrays.items() if value is not None}


def joined(caller: str, name: str, value: Any, tangent: Any, most: int = 3) -> Any:
    """One array of dual numbers, with at most `most` dimensions.

    If the value or the tangent is None, it is zero; if both are, so is the result None.
    """
    v = None if value is None else as_real(caller, name, value, most)
    t = None if tangent is None else as_real(caller, f"the tangent of {name}", tangent, most)
    if v is None:
        return None if t is None else dual(np.zeros(t.shape), t)
    if t is not None and t.shape != v.shape:
        raise ValueError(
            f"{caller}: the tangent of {name} has shape {t.shape}, expected that of {name} = "
            f"{v.shape}"
        )
    return dual(v, t)


def joined_all(caller: str, name: str, value: Any, tangent: Any) -> Any:
    """`joined` for an array, or for each array of a tuple, as in `layer_norm`."""
    if not isinstance(value, (tuple, list)):
        return joined(caller, name, value, tangent)
    tangents = (None,) * len(value) if tangent is None else tangent
    if not isinstance(tangents, (tuple, list)) or len(tangents) != len(value):
        raise ValueError(
            f"{caller}: the tangent of {name} is {type(tangent).__name__}, expected a tuple of "
            f"{len(value)} arrays"
        )
    pairs = enumerate(zip(value, tangents))
    return tuple(joined(caller, f"{name}[{i}]", v, t) for i, (v, t) in pairs)


def joined_state(
    caller: str, name: str, value: State, tangent: State, cell: str, most: int = 3
) -> State:
    """`joined` for a state: one array, or a tuple of several."""
    names = CELLS[cell].states
    v = as_states(caller, name, value, names, np.float64, most)
    t = as_states(caller, f"the tangent of {name}", tangent, names, np.float64, most)
    labels = [name] if len(names) == 1 else [f"{name}[{q}]" for q in range(len(names))]
    state = tuple(joined(caller, *arrays, most) for arrays in zip(labels, v, t))
    if len(names) == 1:
        return state[0]
    return None if all(part is None for part in state) else state


def cotangent(
    caller: str, name: str, value: Any, tangent: Any, output: Any, cell: str | None, most: int = 3
) -> Any:
    """dL/d(output) as dual numbers. For a state, `cell` is its kind, else None."""
    if callable(value):
        if tangent is not None:
            raise ValueError(
                f"{caller}: {name} is a function and {name}_tangent is given, expected one"
            )
        pair = value(*parts(output))
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"{caller}: {name} returns {type(pair).__name__}, expected a pair")
        value, tangent = pair
    if cell is None:
        return joined(caller, name, value, tangent)
    return joined_state(caller, name, value, tangent, cell, most)
