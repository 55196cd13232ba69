# SPDX-License-Identifier: MIT
"""Docstrings of classes that share arguments: each argument is described once, and shown in all."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable

Entries = dict[str, str]  # "input_size : int", and the indented lines below it
RULE = re.compile(r"^(\w+)\n-{3,}\n", re.MULTILINE)


def composed(doc: str | None, base: str | None, init: Callable[..., None]) -> str | None:
    """`doc` with the arguments of `init` that only `base` describes, in the order of `init`."""
    if doc is None or base is None:  # python -OO
        return None
    sections, common = _sections(doc), _sections(base)
    known = _entries(sections.get("Parameters", "")) | _entries(common["Parameters"])
    known |= _entries(sections.get("Parameters", ""))
    own = _ordered(known, list(inspect.signature(init).parameters)[1:])
    attributes = _entries(common["Attributes"]) | _entries(sections.pop("Attributes", ""))
    head = sections.pop("")
    sections.pop("Parameters", None)
    parts = {"Parameters": own, "Attributes": "".join(attributes.values())} | sections
    return head + "\n".join(f"{n}\n{'-' * len(n)}\n{text}" for n, text in parts.items())


def _sections(doc: str) -> dict[str, str]:
    """The text of each section by its title; of the head by ""."""
    head, *rest = RULE.split(inspect.cleandoc(doc) + "\n")
    return {"": head} | {name: f"{text.rstrip()}\n" for name, text in zip(rest[::2], rest[1::2])}


def _entries(section: str) -> Entries:
    """The entries of a section by their names; "a, b" where an entry describes two."""
    return {e.split(" : ")[0]: e for e in re.split(r"^(?=\S)", section, flags=re.MULTILINE) if e}


def _ordered(entries: Entries, names: Iterable[str]) -> str:
    place = {name: number for number, name in enumerate(names)}
    found = {key: place[key.split(", ")[0]] for key in entries if key.split(", ")[0] in place}
    return "".join(entries[key] for key in sorted(found, key=found.__getitem__))
