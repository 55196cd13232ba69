# SPDX-License-Identifier: MIT
"""Sequences in the forms that users have them: arrays, lists, tables, frames, texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._types import Array
from .._validate import as_array
from .._words import listed, shown
from .frames import groups_of, is_frame
from .vocabulary import tokens_of

__all__ = ["Read", "of_sequences", "read"]


@dataclass(frozen=True, eq=False)
class Read:
    """Sequences of one kind: numbers in `values`, or tokens.

    Attributes
    ----------
    values : ndarray (n, T, F), or list of ndarray (T_i, F), or None for tokens
        In float64.
    tokens : list of sequences of str, or None for numbers
    columns : int or None
        T, if they were a table with a row for each sequence.
    names : list of str or None
        Of the features of a frame, or of the columns of such a table.
    """

    values: Array | list[Array] | None
    tokens: list[Sequence[str]] | None = None
    columns: int | None = None
    names: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.tokens if self.values is None else self.values)  # type: ignore[arg-type]


def read(
    caller: str, X: Any, unit: str, group_column: Any, names: Sequence[Any] | None, beside: Any = ()
) -> Read:
    """Read sequences.

    Parameters
    ----------
    caller : str
        For messages.
    X : array_like, list or frame
        As `SequenceClassifier.fit` takes it.
    unit : {"words", "characters"}
        What a string is split into.
    group_column : str or None
        The column of a frame that says to which sequence a row belongs.
    names : sequence of str, or None
        The columns of a frame to use; all but the group column and those in `beside` if omitted.
    beside : collection of str
        Columns of a frame that are not inputs.
    """
    if is_frame(X):
        return _of_frame(caller, X, group_column, names, beside)
    if group_column is not None:
        raise TypeError(
            f"{caller}: X is of type {type(X).__name__}, expected a frame of pandas with the "
            f"column {group_column!r}"
        )
    if isinstance(X, (str, bytes)):
        raise TypeError(f"{caller}: X is {shown(X)}, expected a list of texts")
    if hasattr(X, "to_list") and isinstance(X, tuple):
        raise TypeError(
            f"{caller}: X is {type(X).__name__}, expected a list of sequences: X.to_list()"
        )
    if hasattr(X, "tocsr"):
        raise TypeError(f"{caller}: X is sparse, expected a dense array")
    if not isinstance(X, (list, tuple)):
        X = as_array(caller, "X", X.to_numpy() if hasattr(X, "to_numpy") else X)
        if X.ndim == 0:
            raise ValueError(f"{caller}: X is {shown(X)}, expected an entry for each sequence")
    if not len(X):
        raise ValueError(f"{caller}: X has no sequences, expected one or more")
    may_be_text = not isinstance(X, np.ndarray) or X.dtype.kind in "UO"
    if may_be_text and any(map(_is_text, X)):
        return Read(None, [_tokens(caller, k, one, unit) for k, one in enumerate(X)])
    if isinstance(X, np.ndarray) and (X.dtype != object or X.ndim > 1):
        return _of_array(caller, X)
    values = _of_list(caller, X)
    nested = all(isinstance(one, (list, tuple)) and not np.ndim(one[:1] and one[0]) for one in X)
    columns = values.shape[1] if nested and isinstance(values, np.ndarray) else None
    return Read(values, columns=columns)  # lists of numbers of one length are a table


# --- tokens ---------------------------------------------------------------------------------------


def _is_text(one: Any) -> bool:
    return isinstance(one, str) or (
        isinstance(one, (list, tuple, np.ndarray)) and len(one) > 0 and isinstance(one[0], str)
    )


def _tokens(caller: str, k: int, one: Any, unit: str) -> Sequence[str]:
    if isinstance(one, str):
        return tokens_of(caller, one.lower() if unit == "words" else one, unit)
    if not isinstance(one, (list, tuple, np.ndarray)) or not all(isinstance(t, str) for t in one):
        raise TypeError(f"{caller}: X[{k}] is {shown(one)}, expected text, as in other sequences")
    return list(one)


# --- numbers --------------------------------------------------------------------------------------


def _of_array(caller: str, X: Array) -> Read:
    if X.ndim not in (2, 3):
        hint = ". Reshape your data: X[None] has one sequence" if X.ndim == 1 else ""
        raise ValueError(
            f"{caller}: X has shape {X.shape}, expected (n, T) or (n, T, F), or a list of n arrays"
            + hint
        )
    if not X.shape[-1]:
        raise ValueError(
            f"{caller}: X has 0 feature(s) (shape={X.shape}) while a minimum of 1 is required."
        )
    values = _floats(caller, "X", X)
    return Read(values[:, :, None], columns=X.shape[1]) if X.ndim == 2 else Read(values)


def _of_list(caller: str, X: Any) -> Array | list[Array]:
    arrays = [_floats(caller, f"X[{k}]", as_array(caller, f"X[{k}]", one))
              for k, one in enumerate(X)]  # fmt: skip
    arrays = [one[:, None] if one.ndim == 1 else one for one in arrays]
    like = next((one for one in arrays if one.size), None)
    for k, one in enumerate(arrays):
        if one.ndim != 2 or (one.size and like is not None and one.shape[1] != like.shape[1]):
            features = "F" if like is None else like.shape[1]
            raise ValueError(
                f"{caller}: X[{k}] has shape {one.shape}, expected (T, {features}) as the others"
            )
    return of_sequences([one if one.size or like is None else np.empty((0, like.shape[1]))
                         for one in arrays])  # fmt: skip


def of_sequences(arrays: list[Array]) -> Array | list[Array]:
    """One array if all have one shape."""
    return np.stack(arrays) if len({one.shape for one in arrays}) == 1 else arrays


def _floats(caller: str, label: str, array: Array) -> Array:
    if array.dtype.kind == "c":
        raise ValueError(f"{caller}: {label} has complex numbers. Complex data not supported")
    if array.dtype.kind not in "fiubO":
        raise TypeError(f"{caller}: {label} has dtype {array.dtype}, expected numbers")
    try:
        values = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{caller}: {label} has no numbers: {error}") from None
    check_finite(caller, label, values)
    return values


def check_finite(caller: str, label: str, values: Array, hint: str = "") -> None:
    if not np.isfinite(values).all():
        at = ", ".join(map(str, np.argwhere(~np.isfinite(values))[0]))
        place = f" at [{at}]" if at else ""
        raise ValueError(f"{caller}: {label} has NaN or inf{place}, expected finite numbers{hint}")


def _of_frame(
    caller: str, X: Any, group_column: Any, names: Sequence[Any] | None, beside: Any
) -> Read:
    if group_column is None:
        given = list(X.columns)
        if names is not None and given != list(names):
            raise ValueError(
                f"{caller}: X has columns {listed(given)}, expected those of fit = {listed(names)}"
            )
        return replace(_of_array(caller, X.to_numpy()), names=given)
    codes, count = groups_of(caller, "X", X, group_column)
    if names is None:
        names = [name for name in X.columns if name != group_column and name not in beside]
    missing = [name for name in (*names, *beside) if name not in X.columns]
    if missing or not len(names):
        raise ValueError(
            f"{caller}: X has columns {listed(X.columns)}, expected also {listed(missing)}"
            if missing else f"{caller}: X has no column besides {group_column!r}, expected features"
        )  # fmt: skip
    columns = [_floats(caller, f"X[{name!r}]", X[name].to_numpy()) for name in names]
    rows = np.stack(columns, 1)[np.argsort(codes, kind="stable")]
    ends = np.cumsum(np.bincount(codes, minlength=count))[:-1]
    return Read(of_sequences(np.split(rows, ends)), names=list(names))
