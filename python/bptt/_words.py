# SPDX-License-Identifier: MIT
"""Formats names and values for messages: on one line, and short."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

__all__ = ["MOST_SHOWN", "brief", "listed", "printable", "shown", "some"]


def printable(text: str) -> str:
    """The text, with escapes for characters that are not printable."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def brief(text: str, most: int = 40) -> str:
    """The text, printable, and cut to `most` characters."""
    text = printable(text[: most + 1])
    return text if len(text) <= most else text[: most - 3] + "..."


def some(names: Collection[str], none: str = "none", most: int = 4) -> str:
    """The first names, and the number of the others."""
    shown = ", ".join(brief(name) for name in islice(names, most)) or none
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


MOST_SHOWN = 80  # characters of a value in a message


def shown(value: object) -> str:
    """The repr of a value, on one line and cut to `MOST_SHOWN` characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an int with too many digits for Python, or a faulty __repr__
        text = f"of type {type(value).__name__}"
    if len(text) <= MOST_SHOWN:
        return text
    return f"{text[:MOST_SHOWN]}... ({len(text)} characters)"


def listed(names: Iterable[Any], most: int = 8) -> str:
    """A list of the first names, and the number of the others."""
    every = list(names)
    more = f", ... {len(every) - most} more" if len(every) > most else ""
    return "[" + ", ".join(map(shown, every[:most])) + more + "]"
