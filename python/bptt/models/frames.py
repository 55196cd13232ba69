# SPDX-License-Identifier: MIT
"""Frames of pandas with a row for each step, without importing pandas."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .._types import Array
from .._words import listed, shown

__all__ = ["groups_of", "is_frame", "of_each_sequence"]


def is_frame(X: Any) -> bool:
    """Is it a frame of pandas? Without that package imported, nothing is."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(X, pandas.DataFrame)


def groups_of(caller: str, label: str, X: Any, column: str) -> tuple[Array, int]:
    """The number of each row's sequence, by first appearance, and how many there are."""
    if column not in X.columns:
        names = listed(X.columns)
        raise ValueError(f"{caller}: {label} has columns {names}, expected also {column!r}")
    codes, known = sys.modules["pandas"].factorize(X[column])
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise ValueError(f"{caller}: {label}[{column!r}] is missing in row {row}, expected a group")
    return codes, len(known)


def of_each_sequence(caller: str, label: str, value: Any, X: Any, group_column: Any) -> Any:
    """One value for each sequence: by the name of a frame's column, or by the groups' labels."""
    if not is_frame(X) or group_column is None:
        if isinstance(value, str):
            raise TypeError(
                f"{caller}: {label} is {shown(value)}, expected an entry for each sequence, or, "
                "with group_column and a frame, the name of a column"
            )
        return value
    codes, count = groups_of(caller, "X", X, group_column)
    first = np.unique(codes, return_index=True)[1]
    if isinstance(value, str):
        if value not in X.columns:
            raise ValueError(f"{caller}: {label} is {shown(value)}, expected a column of X")
        values = X[value].to_numpy()
        if not (values == values[first][codes]).all():
            row = int(np.flatnonzero(values != values[first][codes])[0])
            raise ValueError(
                f"{caller}: X[{value!r}] has another value in row {row} than before, expected one "
                f"for each {group_column!r}"
            )
        return values[first]
    if isinstance(value, sys.modules["pandas"].Series):
        labels = X[group_column].iloc[first]
        if len(value) != count or not set(labels) == set(value.index):
            raise ValueError(
                f"{caller}: {label} has the index {listed(value.index)}, expected each "
                f"{group_column!r} once = {listed(labels)}"
            )
        return value.loc[labels].to_numpy()
    return value
