# SPDX-License-Identifier: MIT
"""Names and texts that come from files, as messages show them: on one line, and short."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

__all__ = ["brief", "printable", "some"]


def printable(text: str) -> str:
    """The text with escapes for what a terminal would obey, or could not show."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def brief(text: str, most: int = 40) -> str:
    """The text, printable, and cut where it is longer than `most`."""
    text = printable(text[: most + 1])
    return text if len(text) <= most else text[: most - 3] + "..."


def some(names: Collection[str], none: str = "none", most: int = 4) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(brief(name) for name in islice(names, most)) or none
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
