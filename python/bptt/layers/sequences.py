# SPDX-License-Identifier: MIT
"""Arguments of a recurrent layer's calls: sequences, lengths, resets and states."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._cells import CELLS
from .._types import Array, State
from .._validate import as_bools, as_float, check_shape
from .structure import Structure


def contiguous(array: Array) -> Array:
    """The array itself if it is C-contiguous, else a copy of the same class, such as `Dual`."""
    return array if array.flags.c_contiguous else array.copy()


def time_major(
    structure: Structure,
    name: str,
    value: ArrayLike,
    size: int,
    symbol: str,
    TB: tuple[int, int] | None = None,
) -> Array:
    """Check a sequence argument and return it as (T, B, size)."""
    swap = structure.batch_first
    array = as_float(structure.caller, name, value, structure.dtype)
    shape = array.shape
    if len(shape) != 3 or shape[2] != size or (TB and shape[:2] != (TB[::-1] if swap else TB)):
        axes = ("B", "T") if swap else ("T", "B")
        sizes = TB[::-1] if TB and swap else TB or axes
        expected = ", ".join(map(str, (*sizes, size)))
        symbols = ", ".join((*axes, symbol))
        raise ValueError(
            f"{structure.caller}: {name} has shape {shape}, expected ({symbols}) = ({expected})"
            + hint_on_ids(name, np.asarray(value))
        )
    return contiguous(array.swapaxes(0, 1)) if swap else array


def hint_on_ids(name: str, array: Array) -> str:
    """What to do with whole numbers in a shape that holds no features."""
    if name != "x" or array.dtype.kind not in "iu":
        return ""
    return "; ids become features by bptt.Embedding or one-hot rows"


def as_resets(structure: Structure, value: ArrayLike, T: int, B: int) -> Array:
    """Check resets and return them as (T, B)."""
    caller, swap = structure.caller, structure.batch_first
    resets = as_bools(caller, "resets", value, 64)
    axes, shape = ("(B, T)", (B, T)) if swap else ("(T, B)", (T, B))
    check_shape(caller, "resets", resets, axes, shape)
    if max(structure.dilations) > 1:
        raise ValueError(f"{caller}: resets are given, expected none with a dilation")
    return resets.swapaxes(0, 1) if swap else resets


def resets_of_reverse(resets: Array, lengths: Array | None) -> Array:
    """The same borders between sequences, met from the other side."""
    mirrored = np.zeros_like(resets)
    mirrored[:-1] = resets[1:]
    if lengths is not None:  # there is no border at or after the end
        mirrored &= np.arange(1, len(resets) + 1)[:, None] < lengths
    return mirrored


def without_padding(array: Array, lengths: Array | None) -> Array:
    if lengths is None:
        return array
    inside = np.arange(len(array))[:, None] < lengths
    return np.where(inside[..., None], array, array.dtype.type(0))


# --- states: a layer has one array for all its cells, a function has one for each -----------------


def state_shape(structure: Structure, B: int, q: int) -> tuple[str, tuple[int, ...]]:
    """The shape of state number q, in symbols and numbers."""
    D, dilations = structure.directions, structure.dilations
    H = structure.hidden_size if q else structure.width
    if max(dilations) == 1:
        return "(num_layers * directions, B, H)", (structure.cells, B, H)
    if len(set(dilations)) == 1:
        symbols = "(num_layers * directions, dilation, B, H)"
        return symbols, (structure.cells, dilations[0], B, H)
    return "(sum of dilations * directions, B, H)", (sum(dilations) * D, B, H)


def split_state(structure: Structure, name: str, state: State, B: int) -> list[State]:
    """Check a state and return it as one functional state for each cell."""
    if state is None:
        return [None] * structure.cells
    caller, states, dilations = structure.caller, structure.states, structure.dilations
    if states > 1 and (not isinstance(state, (tuple, list)) or len(state) != states):
        names = ", ".join(CELLS[structure.kind].states)
        raise TypeError(f"{caller}: {name} is {type(state).__name__}, expected a tuple ({names})")
    labels = [name] if states == 1 else [f"{name}[{q}]" for q in range(states)]
    parts: list[Any] = []
    for q, (label, part) in enumerate(zip(labels, state if states > 1 else [state])):
        symbols, shape = state_shape(structure, B, q)
        part = as_float(caller, label, np.zeros(shape) if part is None else part, structure.dtype)
        check_shape(caller, label, part, symbols, shape)
        if max(dilations) > 1:
            ends = np.cumsum(np.repeat(dilations, structure.directions))
            pieces = np.split(part.reshape(ends[-1], *shape[-2:]), ends[:-1])
            part = [p if len(p) > 1 else p[0] for p in pieces]
        parts.append(part)
    return list(zip(*parts)) if states > 1 else list(parts[0])


def join_state(structure: Structure, states: list[State], B: int) -> State:
    """The inverse of `split_state`."""
    by_state = zip(*states) if isinstance(states[0], tuple) else [states]
    if len(states) == 1:
        joined = [part[None] for (part,) in by_state]
    elif max(structure.dilations) == 1:
        joined = [np.array(parts) for parts in by_state]
    else:
        joined = [_rows(structure, q, parts, B) for q, parts in enumerate(by_state)]
    return tuple(joined) if len(joined) > 1 else joined[0]


def _rows(structure: Structure, q: int, parts: Any, B: int) -> Array:
    """State number q of all cells, with as many rows for each cell as its dilation."""
    shape = state_shape(structure, B, q)[1]
    steps = np.repeat(structure.dilations, structure.directions)
    rows = [p.reshape(n, *shape[-2:]) for n, p in zip(steps, parts)]
    return np.concatenate(rows).reshape(shape)
