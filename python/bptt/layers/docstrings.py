# SPDX-License-Identifier: MIT
"""Docstrings of classes that share arguments: described once in the base, shown in every class."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache
from types import CodeType
from typing import Any

TITLE = re.compile(r"^(\w+)\n-{3,}\n", re.MULTILINE)
ENTRY = re.compile(r"^(?=\S)", re.MULTILINE)


def arguments_of(init: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a constructor's arguments; faster than `inspect.signature`."""
    code: CodeType = inspect.unwrap(init).__code__
    return code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]


def composed(doc: str | None, base: str | None, init: Callable[..., Any]) -> str | None:
    """`doc` with the entries that it has not and `base` has; arguments in the order of `init`."""
    if doc is None or base is None:  # python -OO
        return None
    sections, (shared, kept) = _sections(doc), _shared(base)
    parameters = shared | _entries(sections.pop("Parameters", ""))
    attributes = kept | _entries(sections.pop("Attributes", ""))
    parts = {
        "Parameters": "".join(parameters[n] for n in arguments_of(init) if n in parameters),
        "Attributes": "".join(attributes.values()),
    }
    head, parts = sections.pop(""), parts | sections
    return head + "\n".join(f"{name}\n{'-' * len(name)}\n{text}" for name, text in parts.items())


def _sections(doc: str) -> dict[str, str]:
    """The text of each section by its title; the head has the title ""."""
    head, *rest = TITLE.split(inspect.cleandoc(doc) + "\n")
    return {"": head} | {name: f"{text.rstrip()}\n" for name, text in zip(rest[::2], rest[1::2])}


@cache
def _shared(base: str) -> tuple[dict[str, str], dict[str, str]]:
    """The parameters and attributes of the base."""
    sections = _sections(base)
    return _entries(sections["Parameters"]), _entries(sections["Attributes"])


def _entries(section: str) -> dict[str, str]:
    """The entries of a section by name, as "input_size : int" and the indented lines below it."""
    return {entry.split(" : ")[0]: entry for entry in ENTRY.split(section) if entry}
