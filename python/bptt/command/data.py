# SPDX-License-Identifier: MIT
"""Data for a model, from a file: sequences or a text; `series.py` reads time series."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._files.access import Path, open_file
from .._files.contents import read
from .._files.formats import OTHERS, kind_of
from .._files.parse import parse_npz
from .._files.tables import Table, parse_text, read_table
from .._types import Array
from .._validate import as_path
from .._words import listed, printable
from ..sequential.rebuild import fields_of

__all__ = [
    "Columns",
    "Sequences",
    "arrays_of",
    "check_has_columns",
    "read_sequences",
    "read_text",
    "rows_by_group",
]


class Columns(NamedTuple):
    """How a table is read; a model's file keeps it.

    Attributes
    ----------
    target, group_column, date : str or None
        The column to predict; of the name of the sequence or series of a row; of the dates.
    inputs : list of str or None
        What a sequence is read from, all other columns if None; what is known ahead of a series,
        nothing if None.
    fill_gaps : bool
        Are gaps of a series filled?
    """

    target: str | None = None
    group_column: str | None = None
    date: str | None = None
    inputs: list[str] | None = None
    fill_gaps: bool = False

    def to_json(self) -> str:
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> Columns:
        """Read what `to_json` wrote; ValueError for anything else."""
        try:
            columns = cls(**fields_of("its columns", json.loads(text), cls._fields))
        except RecursionError:
            raise ValueError("its columns are nested too deeply") from None
        if not isinstance(columns.inputs, (list, type(None))):
            raise ValueError("its inputs are not a list")
        names = [columns.target, columns.group_column, columns.date, *(columns.inputs or [])]
        if not all(isinstance(name, (str, type(None))) for name in names):
            raise ValueError("its columns have names that are not text")
        if not isinstance(columns.fill_gaps, bool):
            raise ValueError("its fill_gaps is not true or false")
        return columns


class Sequences(NamedTuple):
    """Sequences with a target each; `names` are of groups, or numbers of rows."""

    X: Any  # as `SequenceClassifier.fit` takes it
    y: Array | None
    names: list[str]
    columns: Columns

    def __len__(self) -> int:
        return len(self.names)

    def taken(self, rows: Array) -> Sequences:
        """Some of the sequences."""
        if isinstance(self.X, np.ndarray):
            X: Any = self.X[rows]
        else:
            X = [self.X[k] for k in rows]
        y = None if self.y is None else self.y[rows]
        return Sequences(X, y, [self.names[k] for k in rows], self.columns)

    def __str__(self) -> str:
        count = f"{len(self)} sequence{'s' * (len(self) != 1)}"
        if isinstance(self.X[0], str):
            return f"{len(self)} text{'s' * (len(self) != 1)}"
        lengths = [len(one) for one in self.X]
        low, high = min(lengths), max(lengths)
        steps = f"{low}" if low == high else f"{low} to {high}"
        features = np.shape(self.X[0])[1] if np.ndim(self.X[0]) > 1 else 1
        return f"{count} of {steps} steps, {features} feature{'s' * (features != 1)}"


# --- sequences ------------------------------------------------------------------------------------


def read_sequences(
    caller: str, path: Path, columns: Columns, numbers: bool, needs_target: bool = True
) -> Sequences:
    """Read sequences from a table or an npz file.

    In a table with a group column, the rows of a group are the steps of its sequence; without one,
    a row is a sequence, and its columns are the steps; a single column is text.

    Parameters
    ----------
    numbers : bool
        Are the targets numbers, not classes?
    needs_target : bool, optional
        False: the target may be missing.
    """
    stored = arrays_of(caller, path, ["x", "y"] if needs_target else ["x"])
    if stored is not None:
        return _of_arrays(*stored)
    table = read_table(caller, path)
    group = columns.group_column
    table.check_has([group] if group is not None else [])
    others = [name for name in table.columns if name != group]
    target = columns.target or (others[-1] if needs_target and others else None)
    if target is not None and target == group:
        raise ValueError(f"{caller}: --target is {target!r}, expected another than --group-column")
    if needs_target and target is not None:
        table.check_has([target])
    inputs = columns.inputs or [name for name in others if name != target]
    table.check_has(inputs)
    for name in (target, group):
        if name in inputs:
            raise ValueError(f"{caller}: --inputs has {name!r}, expected no target and no group")
    if not inputs:
        raise ValueError(f"{table.place} has no column besides {target!r}, expected inputs")
    found = Columns(target, group, None, inputs)
    y = None
    if target in table.columns:
        y = table.numbers(target) if numbers else table.classes(target)
    if group is not None:
        return _of_groups(table, found, y)
    names = [str(k + 1) for k in range(len(table))]
    if len(inputs) == 1:
        return Sequences(table.texts(inputs[0]), y, names, found)
    text = next((name for name in inputs if table.begins_with_text(name)), None)
    if text is not None and needs_target:
        expected = f"a number: without --group-column, a row is a sequence of {len(inputs)} steps"
        raise table.error(text, 0, expected)
    return Sequences(np.stack([table.numbers(name) for name in inputs], 1), y, names, found)


def _of_groups(table: Table, columns: Columns, y: Array | None) -> Sequences:
    assert columns.group_column is not None
    assert columns.inputs is not None
    steps = np.stack([table.numbers(name) for name in columns.inputs], 1)
    rows = rows_by_group(table, columns.group_column)
    if y is not None:
        for of in rows.values():
            other = of[y[of] != y[of[0]]]
            if len(other):
                has, expected = str(y[other[0]]), str(y[of[0]])
                raise ValueError(
                    f"{table.place} has {has!r} in {table.at(str(columns.target), other[0])}, "
                    f"expected {expected!r} as in {table.rows[of[0]]}: one target for each "
                    f"{columns.group_column!r}"
                )
        y = y[[of[0] for of in rows.values()]]
    return Sequences([steps[of] for of in rows.values()], y, [*rows], columns)


def rows_by_group(table: Table, column: str) -> dict[str, Array]:
    """The numbers of the rows of each group, in the order of the file."""
    rows: dict[str, list[int]] = {}
    for k, name in enumerate(table.texts(column)):
        rows.setdefault(name, []).append(k)
    return {name: np.array(of) for name, of in rows.items()}


def _of_arrays(arrays: dict[str, Array], place: str) -> Sequences:
    X, y, lengths = arrays["x"], arrays.get("y"), arrays.get("lengths")
    if X.ndim not in (2, 3) or not len(X):
        raise ValueError(f"{place} has x of shape {X.shape}, expected (n, T) or (n, T, F)")
    for name, array in (("y", y), ("lengths", lengths)):
        if array is not None and array.shape != (len(X),):
            raise ValueError(
                f"{place} has {name} of shape {array.shape}, expected ({len(X)},), one for each "
                "sequence"
            )
    sequences: Any = X
    if lengths is not None:
        if lengths.dtype.kind not in "iu" or lengths.min() < 1 or lengths.max() > X.shape[1]:
            raise ValueError(
                f"{place} has lengths that are not whole numbers from 1 to T = {X.shape[1]}"
            )
        sequences = [one[:n] for one, n in zip(X, lengths)]
    return Sequences(sequences, y, [str(k + 1) for k in range(len(X))], Columns())


# --- text and arrays ------------------------------------------------------------------------------


def read_text(caller: str, path: Path) -> str:
    """Read a text in UTF-8."""
    name = as_path(caller, path)
    place = f"{caller}: {printable(name)}"
    with open_file(caller, name) as file:
        kind = kind_of(file, name)
        if kind in OTHERS and kind not in ("table", "json"):
            raise ValueError(f"{place} {OTHERS[kind].split(', ')[0]}, expected a text in UTF-8")
        content = file.read()
    return parse_text(place, content).replace("\r\n", "\n")


def check_has_columns(caller: str, path: Path, given: Columns) -> None:
    """Raise if columns are named of a file of arrays."""
    names = [name for name, value in given._asdict().items() if value]
    if names and _has_arrays(caller, path):
        raise ValueError(
            f"{caller}: {printable(as_path(caller, path))} has arrays, expected a table with "
            f"--{names[0].replace('_', '-')}"
        )


def _has_arrays(caller: str, path: Path) -> bool:
    name = as_path(caller, path)
    with open_file(caller, name) as file:
        return kind_of(file, name) == "npz"


def arrays_of(caller: str, path: Path, names: Sequence[str]) -> tuple[dict[str, Array], str] | None:
    """The arrays of an npz file and the place for messages, or None for a file of another kind."""
    if not _has_arrays(caller, path):
        return None
    arrays = read(caller, path, {"npz": parse_npz}, "an npz file")[0]
    place = f"{caller}: {printable(as_path(caller, path))}"
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(
            f"{place} has the arrays {listed(arrays)}, expected also {listed(missing)}"
        )
    return arrays, place
