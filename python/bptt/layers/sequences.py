# SPDX-License-Identifier: MIT
"""Arguments of a recurrent layer's calls: sequences, lengths, resets and states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from .._cells import CELLS
from .._types import Array, State
from .._validate import as_array, as_float, as_indices, check_shape

if TYPE_CHECKING:
    from .recurrent import Recurrent


def time_major(
    layer: Recurrent,
    name: str,
    value: ArrayLike,
    size: int,
    symbol: str,
    TB: tuple[int, int] | None = None,
) -> Array:
    """Check a sequence argument and return it as (T, B, size)."""
    caller, swap = type(layer).__name__, layer.batch_first
    array = as_float(caller, name, value, layer.dtype)
    axes = ("B", "T") if swap else ("T", "B")
    sizes = array.shape[:2] if TB is None else TB[::-1] if swap else TB
    if array.shape != (*sizes, size) or array.ndim != 3:
        expected = ", ".join(map(str, (*(sizes if TB else axes), size)))
        symbols = ", ".join((*axes, symbol))
        raise ValueError(
            f"{caller}: {name} has shape {array.shape}, expected ({symbols}) = ({expected})"
            + hint_on_ids(name, np.asarray(value))
        )
    return array.swapaxes(0, 1) if swap else array


def hint_on_ids(name: str, array: Array) -> str:
    """What to do with whole numbers in a shape that holds no features."""
    if name != "x" or array.dtype.kind not in "iu":
        return ""
    return "; ids become features by bptt.Embedding or one-hot rows"


def as_lengths(caller: str, value: ArrayLike | None, T: int, B: int) -> Array | None:
    if value is None:
        return None
    lengths = as_indices(caller, "lengths", value, "0..T", T)
    check_shape(caller, "lengths", lengths, "(B,)", (B,))
    return lengths.copy()  # the tape's own


def as_resets(layer: Recurrent, value: ArrayLike | None, T: int, B: int) -> Array | None:
    """Check resets and return them as (T, B)."""
    if value is None:
        return None
    caller = type(layer).__name__
    resets = as_array(caller, "resets", value)
    if resets.dtype != np.bool_:
        raise TypeError(f"{caller}: resets has dtype {resets.dtype}, expected bool")
    axes, shape = ("(B, T)", (B, T)) if layer.batch_first else ("(T, B)", (T, B))
    check_shape(caller, "resets", resets, axes, shape)
    if max(layer.dilations) > 1:
        raise ValueError(f"{caller}: resets are given, expected none with a dilation")
    return resets.swapaxes(0, 1) if layer.batch_first else resets


def resets_of_reverse(resets: Array | None, lengths: Array | None) -> Array | None:
    """The same borders between sequences, met from the other side."""
    if resets is None:
        return None
    mirrored = np.zeros_like(resets)
    mirrored[:-1] = resets[1:]
    if lengths is not None:  # a border at or after the end is none
        mirrored &= np.arange(1, len(resets) + 1)[:, None] < lengths
    return mirrored


def without_padding(array: Array, lengths: Array | None) -> Array:
    if lengths is None:
        return array
    inside = np.arange(len(array))[:, None] < lengths
    return np.where(inside[..., None], array, array.dtype.type(0))


# --- states: of the layer one array, of the functions one for each layer and direction


def state_shape(layer: Recurrent, B: int, q: int) -> tuple[str, tuple[int, ...]]:
    """Of state number q, in symbols and numbers."""
    D, dilations = 1 + layer.bidirectional, layer.dilations
    H = layer.hidden_size if q else layer._width
    if max(dilations) == 1:
        return "(num_layers * directions, B, H)", (layer.num_layers * D, B, H)
    if len(set(dilations)) == 1:
        symbols = "(num_layers * directions, dilation, B, H)"
        return symbols, (layer.num_layers * D, dilations[0], B, H)
    return "(sum of dilations * directions, B, H)", (sum(dilations) * D, B, H)


def split_state(layer: Recurrent, name: str, state: State, B: int) -> list[State]:
    """Check a state and return it as one functional state per layer and direction."""
    caller, states = type(layer).__name__, layer._cell.states
    D, dilations = 1 + layer.bidirectional, layer.dilations
    if state is None:
        return [None] * (layer.num_layers * D)
    if states > 1 and (not isinstance(state, (tuple, list)) or len(state) != states):
        names = ", ".join(CELLS[layer._cell.name].states)
        raise TypeError(f"{caller}: {name} is {type(state).__name__}, expected a tuple ({names})")
    labels = [name] if states == 1 else [f"{name}[{q}]" for q in range(states)]
    parts = []
    for q, (label, part) in enumerate(zip(labels, state if states > 1 else [state])):
        symbols, shape = state_shape(layer, B, q)
        part = as_float(caller, label, np.zeros(shape) if part is None else part, layer.dtype)
        check_shape(caller, label, part, symbols, shape)
        if max(dilations) > 1:
            ends = np.cumsum(np.repeat(dilations, D))
            pieces = np.split(part.reshape(ends[-1], *shape[-2:]), ends[:-1])
            part = [p if len(p) > 1 else p[0] for p in pieces]
        parts.append(part)
    return list(zip(*parts)) if states > 1 else list(parts[0])


def join_state(layer: Recurrent, states: list[State], B: int) -> State:
    """The inverse of `split_state`."""

    def join(q: int, parts: Sequence[Array]) -> Array:
        if max(layer.dilations) == 1:
            return np.array(parts)
        shape = state_shape(layer, B, q)[1]
        steps = np.repeat(layer.dilations, 1 + layer.bidirectional)
        rows = [p.reshape(n, *shape[-2:]) for n, p in zip(steps, parts)]
        return np.concatenate(rows).reshape(shape)

    if layer._cell.states == 1:
        return join(0, states)
    return tuple(join(q, parts) for q, parts in enumerate(zip(*states)))
