# SPDX-License-Identifier: MIT
"""Groups of parameters by patterns of their names, as ``*.bias*``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import Any

from ._words import listed, shown

__all__ = ["as_patterns", "grouped"]


def as_patterns(caller: str, label: str, value: Any) -> tuple[str, ...]:
    """One pattern or several."""
    patterns = (value,) if isinstance(value, str) else value
    if not isinstance(patterns, (tuple, list)) or not all(isinstance(p, str) for p in patterns):
        raise TypeError(f"{caller}: {label} is {shown(value)}, expected names, as '*.bias*'")
    return tuple(patterns)


def grouped(
    caller: str, names: Collection[str], groups: Iterable[tuple[str, ...]]
) -> dict[str, int]:
    """The number of the first group that has a pattern for a name; other names are left out.

    Raises ValueError for a pattern without a name: it would be a slip of the pen.
    """
    found: dict[str, int] = {}
    for number, patterns in enumerate(groups):
        for pattern in patterns:
            matching = [name for name in names if fnmatchcase(name, pattern)]
            if not matching:
                raise ValueError(
                    f"{caller}: groups has {shown(pattern)}, expected a pattern of some of "
                    f"{listed(names)}"
                )
            for name in matching:
                found.setdefault(name, number)
    return found
