# SPDX-License-Identifier: MIT
"""Converts the options of a call to the kinds that the core takes; the core checks their range."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .._cells import CELLS
from .._validate import as_bools, own, prepare


def is_default(value: Any, default: Any) -> bool:
    """Is `value` the default, or equal to it and of its kind?

    True equals 1, and a comparison of arrays has no truth: those are for the option's check.
    """
    plain = isinstance(value, (str, int, np.integer)) and isinstance(default, (str, int))
    flag = isinstance(value, bool) or isinstance(default, bool)
    return value is default or bool(plain and not flag and value == default)


def as_options(
    caller: str, cell: str, options: dict[str, Any] | None, dtype: DTypeLike, keep: bool = False
) -> dict[str, Any] | None:
    """Return the options as the core takes them, without defaults; None if none is left.

    With `keep`, a tape will refer to some arrays: it gets copies of those.
    """
    if options is None:
        return None

    def placed(value: Any, kind: DTypeLike, kept: bool) -> Any:
        if isinstance(value, tuple):
            return tuple(placed(part, kind, kept) for part in value)
        if not isinstance(value, np.ndarray):
            return value
        return own(value, kind) if kept else prepare(value, kind)

    core: dict[str, Any] = {}
    for name, value in options.items():
        option = CELLS[cell].options[name]
        if is_default(value, option.default):
            continue
        kind = np.bool_ if option.convert is as_bools else dtype
        converted = option.convert(caller, name, value)
        if not is_default(converted, option.default):  # a tuple may have a default's parameters
            core[name] = placed(converted, kind, keep and option.kept)
    return core or None
