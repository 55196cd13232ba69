# SPDX-License-Identifier: MIT
"""Time series for a model, from a file: a table with a row for each step, or arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._files.access import Path
from .._files.tables import Table, read_table
from .._types import Array
from .._words import brief, listed
from ..models.calendar import step_of
from .data import Columns, arrays_of, rows_by_group

__all__ = ["SeriesData", "as_day", "read_series"]


class One(NamedTuple):
    """One time series.

    Attributes
    ----------
    name : str
    values : ndarray, shape (T,)
    inputs : ndarray, shape (T + steps known ahead, K)
    dates : ndarray of datetime64, as long as inputs, or None
    filled : ndarray of bool, shape (T,)
        Values that the file does not have.
    """

    name: str
    values: Array
    inputs: Array
    dates: Array | None
    filled: Array

    @property
    def ahead(self) -> int:
        """The number of steps after the last value."""
        return len(self.inputs) - len(self.values)


class SeriesData(NamedTuple):
    """One time series or several; `note` says what may be wrong with them."""

    series: list[One]
    columns: Columns
    note: str | None = None

    @property
    def values(self) -> list[Array]:
        return [one.values for one in self.series]

    @property
    def inputs(self) -> list[Array] | None:
        return [one.inputs for one in self.series] if self.series[0].inputs.shape[1] else None

    @property
    def dates(self) -> list[Array] | None:
        """The dates of the values."""
        found = [one.dates[: len(one.values)] for one in self.series if one.dates is not None]
        return found or None

    def __str__(self) -> str:
        low, high = min(map(len, self.values)), max(map(len, self.values))
        steps = f"{low}" if low == high else f"{low} to {high}"
        dates, filled = self.dates, sum(int(one.filled.sum()) for one in self.series)
        return (
            f"{len(self.series)} series of {steps} steps"
            + (f", {filled} of them filled" if filled else "")
            + (f", {as_day(dates[0][0])} to {as_day(dates[0][-1])}" if dates else "")
        )


def as_day(moment: Any) -> str:
    """A date, with its time unless it is midnight."""
    return str(moment).removesuffix("T00:00:00")


def read_series(caller: str, path: Path, columns: Columns) -> SeriesData:
    """Read time series: a table with a row for each step, or an npz file with y.

    With `columns.inputs`, rows at the end of a series without a value are the steps to forecast.
    """
    stored = arrays_of(caller, path, ["y"])
    if stored is not None:
        return _of_arrays(*stored, columns)
    table = read_table(caller, path)
    target, inputs = columns.target or [*table.columns][-1], columns.inputs or []
    named = [target, columns.group_column, columns.date, *inputs]
    table.check_has([name for name in named if name is not None])
    if target in inputs:
        raise ValueError(f"{table.place} has the target {target!r}, expected it not in --inputs")
    date, unread = columns.date, None
    if date is None and (first := next(iter(table.columns))) not in named:
        date = first if _begins_with_a_date(table, first) else None
        if date is None and table.begins_with_text(first):
            unread = _what_it_may_be(table, first, columns.group_column)
    columns = columns._replace(target=target, date=date)
    rows_of = {target: np.arange(len(table))}
    if columns.group_column is not None:
        rows_of = rows_by_group(table, columns.group_column)
    known = np.zeros((len(table), 0))
    if inputs:
        known = np.stack([table.numbers(name) for name in inputs], 1)
    dates = None if date is None else table.dates(date)
    note = unread if dates is None else _check_steps(table, columns, dates, rows_of)
    values, series = table.numbers_and_gaps(target), list[One]()
    for name, rows in rows_of.items():
        past = _check_gaps(table, columns, values, rows)
        moments = None if dates is None else dates[rows]
        one = One(name, values[past], known[rows], moments, np.isnan(values[past]))
        series.append(_filled(one) if columns.fill_gaps else one)
    return SeriesData(series, columns, note)


def _of_arrays(arrays: dict[str, Array], place: str, columns: Columns) -> SeriesData:
    y, inputs = arrays["y"], arrays.get("inputs")
    if y.ndim not in (1, 2) or not y.size:
        raise ValueError(f"{place} has y of shape {y.shape}, expected (T,) or (n, T)")
    rows = np.atleast_2d(y)
    known = np.zeros((*rows.shape, 0))
    if inputs is not None:
        known = inputs if y.ndim == 2 else inputs[None]
        if known.ndim != 3 or len(known) != len(rows) or known.shape[1] < rows.shape[1]:
            axes = "(T or more, K)" if y.ndim == 1 else "(n, T or more, K)"
            raise ValueError(
                f"{place} has inputs of shape {inputs.shape}, expected {axes} for y of shape "
                f"{y.shape}"
            )
    names, none = [str(k + 1) for k in range(len(rows))], np.zeros(rows.shape[1], bool)
    return SeriesData([One(*of, None, none) for of in zip(names, rows, known)], columns)


def _begins_with_a_date(table: Table, name: str) -> bool:
    first = Table(table.place, {name: table.columns[name][:1]}, table.rows[:1])
    try:
        first.dates(name)
    except ValueError:
        return False
    return True


def _what_it_may_be(table: Table, name: str, group_column: str | None) -> str:
    """A note on a first column of text that is not read."""
    cells = table.columns[name]
    if group_column is None and len(set(cells)) < len(cells):
        return f"column {name!r} is not read: if it tells series apart, --group-column {name}"
    return f"column {name!r} is not read: {brief(cells[0])!r} is no date such as 2024-12-31"


# --- gaps -----------------------------------------------------------------------------------------


def _check_steps(
    table: Table, columns: Columns, dates: Array, rows_of: dict[str, Array]
) -> str | None:
    """Raise unless dates increase; tell of steps that are longer than the others."""
    name, after = str(columns.date), list[int]()
    for rows in rows_of.values():
        steps = np.diff(dates[rows])
        wrong = np.flatnonzero(steps <= np.timedelta64(0))
        if len(wrong):
            k, before = rows[wrong[0] + 1], rows[wrong[0]]
            raise table.error(name, k, f"a later date than in {table.rows[before]}")
        if len(steps) > 1:
            counts = _counts(dates[rows])
            after += rows[1:][counts > 1].tolist()
            if columns.fill_gaps and counts.sum() > 2 * len(rows):
                raise table.error(
                    name, rows[1 + counts.argmax()], "dates with fewer gaps than steps to be filled"
                )
    if not after:
        return None
    if columns.fill_gaps and columns.inputs:
        raise table.error(
            name, after[0], f"the next date: a missing row has no {listed(columns.inputs)}"
        )
    count = f"{len(after)} steps are" if len(after) > 1 else "a step is"
    return None if columns.fill_gaps else (
        f"{count} longer than usual, the first before {table.at(name, after[0])}; each counts as "
        "one; --fill-gaps fills them"
    )  # fmt: skip


def _counts(dates: Array) -> Array:
    """From each date to the next, how many usual steps?"""
    found: Array = np.maximum(np.rint(np.diff(dates) / step_of(dates)), 1).astype(np.int64)
    return found


def _check_gaps(table: Table, columns: Columns, values: Array, rows: Array) -> Array:
    """Return the rows of the past; raise if they have gaps that are not to be filled."""
    name, there = str(columns.target), np.flatnonzero(~np.isnan(values[rows]))
    if not len(there):
        raise table.error(name, rows[0], "a number: the series has none")
    end = there[-1] + 1
    if end < len(rows) and not columns.inputs:
        raise table.error(
            name, rows[end], "a number: no value follows; delete the row, or name what is known "
            "ahead by --inputs"
        )  # fmt: skip
    past = rows[:end]
    gaps = past[np.isnan(values[past])]
    if len(gaps) and there[0]:
        raise table.error(name, rows[0], "a number: a series begins with a value")
    if len(gaps) and not columns.fill_gaps:
        raise table.error(name, gaps[0], "a number: fill the gap, or let --fill-gaps do so")
    return past


def _filled(one: One) -> One:
    """Fill gaps by straight lines; without inputs also the dates that are missing."""
    at = np.arange(len(one.inputs))
    if one.dates is not None and one.inputs.shape[1] == 0 and len(at) > 2:
        at = np.concatenate([[0], np.cumsum(_counts(one.dates))])
    T = len(one.values)
    every, there = np.arange(at[T - 1] + 1), ~np.isnan(one.values)
    values = np.interp(every, at[:T][there], one.values[there])
    dates = one.dates
    if len(every) > T and dates is not None:
        dates = np.interp(every, at, dates.astype(np.int64)).astype(np.int64).astype(dates.dtype)
    inputs = np.zeros((len(every), 0)) if len(every) > T else one.inputs
    return One(one.name, values, inputs, dates, ~np.isin(every, at[:T][there]))
