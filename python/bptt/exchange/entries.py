# SPDX-License-Identifier: MIT
"""The layers in a source by name; a layer is made only when it is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from .._words import brief, listed, shown
from ..layers.base import Layer

__all__ = ["Entry", "Where", "chosen", "matching", "unsupported"]


class Where(NamedTuple):
    """The function and the argument that messages name."""

    caller: str
    label: str

    def __str__(self) -> str:
        return f"{self.caller}: {self.label}"


class Entry(NamedTuple):
    """One layer of a source.

    Attributes
    ----------
    title : str
        What the source calls it, as "Conv1D".
    make : callable
        Takes the options of the constructor; raises if bptt has no such layer.
    recurrent : bool
        Is it recurrent? Options for several layers apply to these only.
    """

    title: str
    make: Callable[[dict[str, Any]], Layer]
    recurrent: bool = True


def matching(names: Iterable[str], name: str) -> list[str]:
    """The name itself, or else all names that end with it, after a dot."""
    every = list(names)
    return [name] if name in every else [n for n in every if n.endswith(f".{name}")]


def chosen(
    caller: str, entries: Mapping[str, Entry], name: str | None, options: dict[str, Any]
) -> Any:
    """One layer, or a dict of all if there are several and `name` is None."""
    if name is not None:
        found = matching(entries, name)
        if len(found) != 1:
            raise ValueError(
                f"{caller}: name is {shown(name)}, expected one of {listed(found or entries)}"
            )
        return entries[found[0]].make(options)
    if len(entries) == 1:
        return next(iter(entries.values())).make(options)
    return {n: e.make(options if e.recurrent else {}) for n, e in entries.items()}


def unsupported(where: Where, name: str, title: str, others: Callable[[], Iterable[str]]) -> Entry:
    """An entry that cannot be made; `others` lists the names that can."""

    def make(_: dict[str, Any]) -> Layer:
        names = list(others())
        expected = f"name= with one of {listed(names)}" if names else "a layer that it has"
        raise ValueError(
            f"{where} has {shown(name)} of type {brief(title)}, which bptt lacks, "
            f"expected {expected}"
        )

    return Entry(title, make, False)
