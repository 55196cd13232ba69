# SPDX-License-Identifier: MIT
"""Sequences and their targets, sample first: checks, split, and the batches a model takes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .._types import Array
from .._validate import as_array
from .._words import shown
from ..batches import as_sequences, batch_order, pad_sequences

__all__ = ["Batch", "Layout", "Samples", "as_samples", "split"]

Values = Array | list[Array]  # one array, or one of its own length for each sequence


class Batch(NamedTuple):
    """The arguments of a model for one batch; `steps` is the weight of its mean loss."""

    x: Array
    target: Array
    lengths: Array | None
    steps: int


class Layout(NamedTuple):
    """What a model takes and returns."""

    batch_first: bool
    per_step: bool  # does the output have a row for each step?
    dtype: np.dtype[Any]


@dataclass(frozen=True, eq=False)
class Samples:
    """Sequences of equal length as one array, others as a list; `lengths` is None for the first."""

    x: Values
    target: Values
    lengths: Array | None

    def __len__(self) -> int:
        return len(self.x)

    def some(self, chosen: Array) -> Samples:
        lengths = None if self.lengths is None else self.lengths[chosen]
        return Samples(_some(self.x, chosen), _some(self.target, chosen), lengths)

    def batch(self, chosen: Array, layout: Layout) -> Batch:
        lengths = None if self.lengths is None else self.lengths[chosen]
        x = _padded(self.x, chosen, layout)
        if not layout.per_step:
            assert isinstance(self.target, np.ndarray)
            return Batch(x, self.target[chosen], lengths, len(chosen))
        steps = x.shape[0] * x.shape[1] if lengths is None else int(lengths.sum())
        return Batch(x, _padded(self.target, chosen, layout), lengths, steps)

    def order(self, batch_size: int, rng: np.random.Generator | None) -> list[Array]:
        """Indices of each batch of an epoch: shuffled if there is a generator."""
        lengths = np.zeros(len(self), np.int64) if self.lengths is None else self.lengths
        return batch_order(lengths, batch_size, rng)

    def checksum(self, start: int = 0) -> int:
        """CRC-32 of all numbers, shapes and types."""
        for values in (self.x, self.target):
            for a in [values] if isinstance(values, np.ndarray) else values:
                start = zlib.crc32(f"{a.dtype.str}{a.shape}".encode(), start)
                start = zlib.crc32(np.ascontiguousarray(a).reshape(-1).view(np.uint8).data, start)
        return start


def _some(values: Values, chosen: Array) -> Values:
    return values[chosen] if isinstance(values, np.ndarray) else [values[k] for k in chosen]


def _padded(values: Values, chosen: Array, layout: Layout) -> Array:
    """A batch in the model's order of axes and, for floats, its type; zeros after each sequence."""
    if not isinstance(values, np.ndarray):
        picked = [values[k] for k in chosen]
        rows, _ = pad_sequences(picked, batch_first=layout.batch_first)
        return np.ascontiguousarray(rows, layout.dtype if rows.dtype.kind == "f" else None)
    dtype = layout.dtype if values.dtype.kind == "f" else values.dtype
    if layout.batch_first:
        return np.ascontiguousarray(values[chosen], dtype)
    out = np.empty((values.shape[1], len(chosen), *values.shape[2:]), dtype)
    for b, k in enumerate(chosen):  # one copy, where indexing and then turning would make two
        out[:, b] = values[k]
    return out


# --- checks ---------------------------------------------------------------------------------------


def as_samples(label: str, data: Any) -> Samples:
    """Return the pair (x, target) with an entry in each for every sequence."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise TypeError(f"fit: {label} is {shown(data)}, expected a pair (x, target)")
    x = _as_values(f"{label}[0]", data[0])
    if not len(x):
        raise ValueError(f"fit: {label}[0] has no sequences, expected one or more")
    if isinstance(x, np.ndarray) and x.ndim < 2:
        raise ValueError(
            f"fit: {label}[0] has shape {x.shape}, expected (n, T, features), (n, T) for indices, "
            "or a list of n arrays"
        )
    target = _as_values(f"{label}[1]", data[1])
    if len(target) != len(x):
        raise ValueError(
            f"fit: {label}[1] has {len(target)} targets, expected one for each of the {len(x)} "
            "sequences"
        )
    lengths = None if isinstance(x, np.ndarray) else np.array([len(one) for one in x])
    return Samples(x, target, lengths)


def _as_values(place: str, values: Any) -> Values:
    """One array if all entries have one shape, else a list of arrays that differ in length."""
    objects = isinstance(values, np.ndarray) and values.dtype.kind == "O" and values.ndim > 0
    ragged = isinstance(values, (tuple, list)) or objects
    if not ragged:
        array = as_array("fit", place, values)
        _check_numbers(place, array)
        if not array.ndim:
            raise ValueError(f"fit: {place} is {shown(values)}, expected an entry per sequence")
        return array
    arrays = [as_array("fit", f"{place}[{k}]", one) for k, one in enumerate(values)]
    if len({a.shape for a in arrays}) <= 1:
        for k, array in enumerate(arrays):
            _check_numbers(f"{place}[{k}]", array)
        return np.array(arrays)
    arrays = as_sequences("fit", place, arrays)
    for k, array in enumerate(arrays):
        if array.dtype.kind != arrays[0].dtype.kind:
            raise TypeError(
                f"fit: {place}[{k}] has dtype {array.dtype}, expected that of the others = "
                f"{arrays[0].dtype}"
            )
    return arrays


def _check_numbers(place: str, array: Array) -> None:
    if array.dtype.kind not in "fiub":
        raise TypeError(f"fit: {place} has dtype {array.dtype}, expected real numbers")


def check_targets(label: str, samples: Samples, per_step: bool) -> None:
    """Raise unless there is a target for each row that the model returns."""
    target = samples.target
    if not per_step:
        if not isinstance(target, np.ndarray):
            raise ValueError(
                f"fit: {label}[1] has arrays of several lengths, expected one target for each "
                "sequence: the model's output has no steps"
            )
        return
    steps = _steps(samples.x)
    for k, one in enumerate(target):
        if not np.ndim(one) or len(one) != steps[k]:
            raise ValueError(
                f"fit: {label}[1][{k}] has shape {np.shape(one)}, expected a target for each of "
                f"the {steps[k]} steps: the model's output has steps; bptt.Last() keeps the last"
            )


def _steps(x: Values) -> Sequence[int]:
    return [x.shape[1]] * len(x) if isinstance(x, np.ndarray) else [len(one) for one in x]


# --- split ----------------------------------------------------------------------------------------


def split(
    n: int, fraction: float, groups: Iterable[Any] | None, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Indices to train on, and the others; of whole groups, if any, and at least one of each."""
    if groups is None:
        names, of = np.arange(n), np.arange(n)
    else:
        array = as_array("fit", "groups", groups)
        try:
            names, of = np.unique(array, return_inverse=True)
        except TypeError:  # of values that have no order
            raise TypeError("fit: groups has values of several kinds, expected one kind") from None
    if of.shape != (n,):
        raise ValueError(f"fit: groups has shape {of.shape}, expected (n,) = ({n},)")
    if len(names) < 2:
        what = "sequence" if groups is None else "group"
        raise ValueError(f"fit: validation is {fraction:g} of one {what}, expected two or more")
    held = min(max(round(fraction * len(names)), 1), len(names) - 1)
    out = np.isin(of, rng.permutation(len(names))[:held])
    return np.flatnonzero(~out), np.flatnonzero(out)
