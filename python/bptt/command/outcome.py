# SPDX-License-Identifier: MIT
"""How the commands end: with lines or JSON, and with errors in one line."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .. import io
from ..sequential.description import ESTIMATOR_KEY, KEY

__all__ = ["check_replaces", "in_one_line", "print_json", "print_lines", "quoted"]


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Let the command line report errors of files and options, which are not errors of code."""
    try:
        yield
    except (TypeError, ImportError, ArithmeticError) as error:
        raise ValueError(str(error)) from error


def check_replaces(caller: str, path: str, label: str, like: Collection[str] = ()) -> None:
    """Raise unless a file of arrays is new, empty, a model's, or has the names `like`."""
    if not os.path.exists(path) or not os.path.getsize(path):
        return
    if {KEY, ESTIMATOR_KEY}.isdisjoint(io.load_metadata(path)) and set(io.load(path)) != set(like):
        raise ValueError(
            f"{caller}: {label} is {path!r}, a file of arrays without a model's description, "
            "expected a model to replace, or a new name"
        )


def print_json(content: Mapping[str, Any]) -> None:
    """Print one object in one line."""
    print(json.dumps(content, ensure_ascii=False), flush=True)


def print_lines(content: Mapping[str, str | None]) -> None:
    """Print a line for each name; without those that have no text."""
    width = max(map(len, content))
    for name, text in content.items():
        if text is not None:
            print(f"{name:<{width}}  {text}")


def quoted(text: str) -> str:
    """A word of a command, for the shell of this system."""
    if all(c.isalnum() or c in "-_./\\:" for c in text) and text:
        return text
    if sys.platform == "win32":
        return '"' + text.replace('"', "'") + '"'
    return "'" + text.replace("'", "'\\''") + "'"
