# SPDX-License-Identifier: MIT
"""The classes of a classifier: numbered, and weighted."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._types import Array
from .._validate import as_between
from .._words import listed, shown
from .base import of_sklearn

__all__ = ["as_classes", "weights_of"]


def as_classes(caller: str, y: Array) -> tuple[Array, Array]:
    """Return the classes, sorted, and the number of each target's class."""
    if y.ndim == 2 and y.shape[1] == 1:
        text = (
            "A column-vector y was passed when a 1d array was expected: "
            f"{caller}: y has shape {y.shape}, expected (n,)"
        )
        warnings.warn(of_sklearn("DataConversionWarning", UserWarning)(text), stacklevel=5)
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(f"{caller}: y has shape {y.shape}, expected (n,)")
    if y.dtype.kind == "c":
        raise ValueError(f"{caller}: y has complex numbers. Complex data not supported")
    if y.dtype.kind == "f" and not (whole := np.isfinite(y) & (y == np.floor(y))).all():
        bad = y[~whole][0]
        what = "Unknown label type: continuous" if np.isfinite(bad) else "y contains NaN or inf"
        raise ValueError(f"{caller}: y has {bad:g}, expected classes. {what}")
    try:
        return np.unique(y, return_inverse=True)
    except TypeError:
        raise TypeError(f"{caller}: y has values of several types, expected one") from None


def weights_of(caller: str, class_weight: Any, classes: Array, numbers: Array) -> Array:
    """Return the weight of each target's class."""
    if class_weight is None:
        return np.ones(len(numbers))
    if isinstance(class_weight, Mapping):
        names = classes.tolist()
        unknown = [key for key in class_weight if key not in names]
        if unknown:
            raise ValueError(
                f"{caller}: class_weight has {listed(unknown)}, expected some of {listed(names)}"
            )
        each = [as_between(caller, f"class_weight[{key!r}]", class_weight.get(key, 1.0), 0)
                for key in names]  # fmt: skip
        return np.array(each)[numbers]
    if not isinstance(class_weight, str) or class_weight != "balanced":
        raise ValueError(
            f"{caller}: class_weight is {shown(class_weight)}, expected a dict or 'balanced'"
        )
    return (len(numbers) / len(classes) / np.bincount(numbers))[numbers]
