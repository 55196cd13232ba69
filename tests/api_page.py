# SPDX-License-Identifier: MIT
"""docs/api.md: every public name with the first line of its documentation.

The groups stand in the docstring of `bptt`. ``python tests/api_page.py`` writes the page.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import bptt

FILE = Path(__file__).parents[1] / "docs" / "api.md"
# Of modules that are not in `bptt.__all__`: `bptt.flow` has more than the names above it.
MORE = ("flow", "onnx", "training")
# Of modules, for the command line and for other modules of the package.
INTERNAL = {"flow": ("add_arguments", "run")}
HEAD = """# Public names

One line for each name, by group. `help(bptt)` shows the groups, `help(bptt.LSTM)` all about a name:
shapes, errors and an example. Written by `python tests/api_page.py` from the docstrings.
"""


def groups() -> dict[str, list[str]]:
    """The names of each group in the docstring of `bptt`."""
    found = re.findall(r"^(\S.*)\n((?:    .*(?:\n|$))+)", inspect.getdoc(bptt) or "", re.MULTILINE)
    return {title: names.split() for title, names in found}


def first_line(value: Any) -> str:
    """The first paragraph of a docstring, safe in a table."""
    paragraph = (inspect.getdoc(value) or "").split("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|").replace("*", "\\*").removesuffix("::")


def table(names: dict[str, Any]) -> Iterator[str]:
    yield "| name | |"
    yield "|---|---|"
    for name, value in names.items():
        yield f"| `{name}` | {first_line(value)} |"


def names_of(module: ModuleType) -> dict[str, Any]:
    """Of a module, the public names that `bptt` itself does not have."""
    short = module.__name__.removeprefix("bptt.")
    return {
        f"{module.__name__}.{name}": getattr(module, name)
        for name in module.__all__
        if getattr(bptt, name, None) is not getattr(module, name)
        and name not in INTERNAL.get(short, ())
    }


def lines() -> Iterator[str]:
    yield HEAD
    for title, names in groups().items():
        yield f"## {title}\n"
        yield from table({f"bptt.{name}": getattr(bptt, name) for name in names})
        yield ""
    for name in (*groups()["Modules"], *MORE):
        module = importlib.import_module(f"bptt.{name}")
        if members := names_of(module):
            yield f"### `bptt.{name}`\n"
            yield from table(members)
            yield ""


def page() -> str:
    return "\n".join(lines())


if __name__ == "__main__":
    FILE.write_text(page(), "utf-8")
