# SPDX-License-Identifier: MIT
"""Time series in the forms that users have them: arrays, lists, frames of pandas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._types import Array
from .._validate import as_array
from .._words import listed, shown
from .files import record
from .frames import groups_of, is_frame
from .inputs import check_finite

__all__ = ["Series", "as_series", "check_series", "with_future"]


@record
@dataclass(frozen=True, eq=False)
class Series:
    """One series.

    Attributes
    ----------
    values : ndarray of float64, shape (T,)
    inputs : ndarray of float64, shape (T or more, K)
        The known inputs of each step, and of later steps as far as they were given.
    dates : ndarray of datetime64, shape (T,), or None
    """

    values: Array
    inputs: Array
    dates: Array | None = None

    def __post_init__(self) -> None:  # what a file may say
        T, dates = len(self.values), self.dates
        if self.values.shape != (T,) or self.inputs.ndim != 2 or len(self.inputs) < T:
            raise ValueError("Series: values and inputs do not fit each other")
        if dates is not None and (dates.shape != (T,) or dates.dtype.kind != "M"):
            raise ValueError("Series: dates do not fit the values")

    def __len__(self) -> int:
        return len(self.values)

    def upto(self, end: int) -> Series:
        """The first steps alone."""
        dates = None if self.dates is None else self.dates[:end]
        return Series(self.values[:end], self.inputs[:end], dates)

    def tail(self, steps: int) -> Series:
        """The last steps alone, as copies."""
        start = len(self) - steps
        dates = None if self.dates is None else self.dates[start:].copy()
        return Series(self.values[start:].copy(), self.inputs[start:].copy(), dates)


# --- more of fitted series ------------------------------------------------------------------------


def with_future(caller: str, series: Sequence[Series], inputs: Any, single: bool) -> list[Series]:
    """The series with known inputs of the steps after their ends."""
    rows = [inputs] if single else _each(caller, "inputs", inputs, len(series))
    found = list[Series]()
    for k, (one, given) in enumerate(zip(series, rows)):
        label = "inputs" if single else f"inputs[{k}]"
        after, K = _as_inputs(caller, label, given), one.inputs.shape[1]
        if after.shape[1] != K:
            raise ValueError(f"{caller}: {label} has shape {after.shape}, expected (steps, {K})")
        known = np.concatenate([one.inputs[: len(one)], after])
        found.append(Series(one.values, known, one.dates))
    return found


def check_series(
    caller: str, series: Sequence[Series], features: Any, least: int, future: bool = False
) -> None:
    """Raise unless a network that reads `features` can forecast the series."""
    K, steps = len(features.mean), features.steps
    for k, one in enumerate(series):
        if len(one) < least:
            raise ValueError(
                f"{caller}: series[{k}] has {len(one)} steps, expected {least} or more"
            )
        if one.inputs.shape[1] != K:
            raise ValueError(
                f"{caller}: inputs[{k}] has {one.inputs.shape[1]} columns, expected {K} as in fit"
            )
        if features.cycles and one.dates is None:
            raise ValueError(f"{caller}: dates[{k}] is missing, expected dates as in fit")
        after = len(one.inputs) - len(one)
        if future and K and after < steps:
            raise ValueError(
                f"{caller}: inputs[{k}] has {after} rows after the end of the series, expected "
                f"{steps}: the known inputs of the next steps"
            )


# --- reading --------------------------------------------------------------------------------------


def as_series(
    caller: str, series: Any, inputs: Any, dates: Any, target: Any, group_column: Any
) -> tuple[list[Series], bool]:
    """Read one series or several, and say whether it was one; see `Forecaster.fit`."""
    if is_frame(series):
        found = _of_frame(caller, series, inputs, dates, target, group_column)
        return found, group_column is None and target is not None
    for name, value in {"target": target, "group_column": group_column}.items():
        if value is not None:
            raise TypeError(
                f"{caller}: {name} is {shown(value)}, expected it with a frame of pandas only"
            )
    index = _index_of(series)
    series = series.to_numpy() if hasattr(series, "to_numpy") else series
    if not isinstance(series, (list, tuple)):
        series = as_array(caller, "series", series)
    one = _is_one(series)
    values = [series] if one else list(series)
    if dates is None:
        own = [_index_of(value) for value in values]
        dates = index if one else None if all(of is None for of in own) else own
    count = len(values)
    rows = [inputs] if one else _each(caller, "inputs", inputs, count)
    of_all = one or _is_dates(dates)
    moments = [dates] * count if of_all else _each(caller, "dates", dates, count)
    labels = [""] if one else [f"[{k}]" for k in range(count)]
    found = [_series(caller, *parts) for parts in zip(labels, values, rows, moments)]
    _check_alike(caller, found)
    return found, one


def _is_one(series: Any) -> bool:
    if isinstance(series, np.ndarray) and not series.ndim:
        return True  # to be refused
    return not len(series) or np.ndim(series[0]) == 0


def _index_of(series: Any) -> Array | None:
    """The dates that a Series of pandas has as its index."""
    index = getattr(series, "index", None)
    return index.to_numpy() if getattr(getattr(index, "dtype", None), "kind", "") == "M" else None  # type: ignore[union-attr]


def _of_frame(
    caller: str, frame: Any, inputs: Any, dates: Any, target: Any, group_column: Any
) -> list[Series]:
    names = [] if inputs is None else [inputs] if isinstance(inputs, str) else list(inputs)
    wanted = [*names, *(name for name in (dates, target, group_column) if name is not None)]
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise ValueError(
            f"{caller}: series has columns {listed(frame.columns)}, expected also {listed(missing)}"
        )
    if group_column is not None and target is None:
        raise ValueError(
            f"{caller}: group_column is {shown(group_column)}, expected target with it"
        )
    moments = None
    if dates is not None:
        moments = frame[dates].to_numpy()
    elif frame.index.dtype.kind == "M":
        moments = frame.index.to_numpy()
    codes, count = (np.zeros(len(frame), int), 1) if group_column is None else groups_of(
        caller, "series", frame, group_column
    )  # fmt: skip
    columns = [target] if target is not None else [c for c in frame.columns if c not in wanted]
    known, found = np.zeros((len(frame), 0)), list[Series]()
    if names:
        known = np.stack([frame[name].to_numpy() for name in names], 1)
    for k in range(count):
        rows = np.flatnonzero(codes == k)
        for column in columns:
            value = frame[column].iloc[rows]
            past = rows[: _end(value.notna().to_numpy())] if names else rows
            found.append(_series(
                caller, f"[{column!r}]", value.to_numpy()[: len(past)], known[rows],
                None if moments is None else moments[past],
            ))  # fmt: skip
    if not found:
        raise ValueError(f"{caller}: series has columns {listed(frame.columns)}, expected a series")
    return found


def _end(there: Array) -> int:
    """The number of steps up to the last value; those after it are the future."""
    return int(np.flatnonzero(there)[-1]) + 1 if there.any() else 0


def _is_dates(dates: Any) -> bool:
    """Is it one index for all series?"""
    return dates is None or getattr(getattr(dates, "dtype", None), "kind", "") == "M"


def _each(caller: str, label: str, value: Any, count: int) -> list[Any]:
    if value is None:
        return [None] * count
    if not hasattr(value, "__len__") or len(value) != count:
        raise ValueError(f"{caller}: {label} has another length, expected {count}, one per series")
    return list(value)


def _series(caller: str, label: str, values: Any, inputs: Any, dates: Any) -> Series:
    name = f"series{label}"
    values = _finite(caller, name, values)
    if values.ndim != 1:
        raise ValueError(f"{caller}: {name} has shape {values.shape}, expected (T,)")
    rows = _as_inputs(caller, f"inputs{label}", inputs)
    if inputs is None:
        rows = np.zeros((len(values), 0))
    if len(rows) < len(values):
        raise ValueError(
            f"{caller}: inputs{label} has {len(rows)} rows, expected {len(values)} or more, one "
            "for each step"
        )
    if dates is None:
        return Series(values, rows)
    moments = as_array(caller, f"dates{label}", dates.to_numpy() if hasattr(dates, "to_numpy")
                       else dates)  # fmt: skip
    if moments.dtype.kind != "M":
        raise TypeError(f"{caller}: dates{label} has dtype {moments.dtype}, expected datetime64")
    if moments.shape != values.shape:
        raise ValueError(
            f"{caller}: dates{label} has shape {moments.shape}, expected {values.shape}"
        )
    steps = np.diff(moments)
    if np.isnat(moments).any() or (steps <= np.timedelta64(0)).any():
        raise ValueError(f"{caller}: dates{label} does not increase, expected the order of time")
    return Series(values, rows, moments)


def _as_inputs(caller: str, label: str, inputs: Any) -> Array:
    """Known inputs, shape (T, K)."""
    rows = _finite(caller, label, np.zeros((0, 0)) if inputs is None else inputs)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2:
        raise ValueError(f"{caller}: {label} has shape {rows.shape}, expected (T, K)")
    return rows


def _finite(caller: str, label: str, values: Any) -> Array:
    array = as_array(caller, label, values.to_numpy() if hasattr(values, "to_numpy") else values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{caller}: {label} has dtype {array.dtype}, expected numbers")
    array = array.astype(np.float64)
    check_finite(caller, label, array, ": fill gaps first")
    return array


def _check_alike(caller: str, series: Sequence[Series]) -> None:
    for k, one in enumerate(series):
        if one.inputs.shape[1] != series[0].inputs.shape[1]:
            raise ValueError(
                f"{caller}: inputs[{k}] has {one.inputs.shape[1]} columns, expected "
                f"{series[0].inputs.shape[1]} as the first"
            )
        if (one.dates is None) != (series[0].dates is None):
            raise ValueError(f"{caller}: dates[{k}] is missing, expected all dates or none")
