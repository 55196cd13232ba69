# SPDX-License-Identifier: MIT
"""docs/api.md: every public name with the first line of its documentation.

The groups stand in the docstring of `bptt`. ``python tests/api_page.py`` writes the page.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import api
import bptt

FILE = Path(__file__).parents[1] / "docs" / "api.md"
# Of modules that are not in `bptt.__all__`: `bptt.flow` has more than the names above it.
MORE = ("flow", "onnx", "torch", "jax", "training")
# Of modules, for the command line and for other modules of the package.
INTERNAL = {"flow": ("add_arguments", "run")}
HEAD = """# Public names

One line for each name, by group. `help(bptt)` shows the groups, `help(bptt.LSTM)` all about a name:
shapes, errors and an example. Written by `python tests/api_page.py` from the docstrings.

`bptt.onnx`, `bptt.torch` and `bptt.jax`, at the end, need the package of their name and are
imported by name: `pip install "bptt[torch]"`, `import bptt.torch`.
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


def recorded(module: str) -> str:
    """The table of a module, as the page has it."""
    rest = FILE.read_text("utf-8").partition(f"### `{module}`\n\n")[2]
    return rest.partition("\n\n")[0].rstrip("\n")


def public(module: str) -> list[str]:
    """`__all__` of a module, which need not be importable."""
    source = Path(bptt.__file__).parent.joinpath(module.removeprefix("bptt."), "__init__.py")
    for node in ast.parse(source.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise ValueError(f"{module} has no __all__")


def lines() -> Iterator[str]:
    yield HEAD
    for title, names in groups().items():
        yield f"## {title}\n"
        yield from table({f"bptt.{name}": getattr(bptt, name) for name in names})
        yield ""
    for name in (f"bptt.{short}" for short in (*groups()["Modules"], *MORE)):
        if name in api.missing():  # its docstrings cannot be read
            yield f"### `{name}`\n\n{recorded(name)}\n"
        elif members := names_of(importlib.import_module(name)):
            yield f"### `{name}`\n"
            yield from table(members)
            yield ""


def page() -> str:
    return "\n".join(lines())


if __name__ == "__main__":
    FILE.write_text(page(), "utf-8")
