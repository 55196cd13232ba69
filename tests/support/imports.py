# SPDX-License-Identifier: MIT
"""The imports of the package's modules, read from their source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support.paths import ROOT

PACKAGE = ROOT / "python" / "bptt"


class Import(NamedTuple):
    source: str
    target: str
    kind: str  # "top", "call" (inside a function), "types" (under TYPE_CHECKING)


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.glob("*.pyi")])  # the core has a .pyi alone
FILES = {name_of(path): path for path in PATHS}
PACKAGES = {name for name, path in FILES.items() if path.stem == "__init__"}


def imports_of(name: str, source: str | None = None) -> list[Import]:
    """Imports of other modules of the package; `source` replaces the text of the file."""
    tree = ast.parse(FILES[name].read_text() if source is None else source)
    return [
        Import(name, target, kind)
        for node, kind in _statements(tree, "top")
        for target in _targets(name, node)
        if target != name
    ]


def _statements(node: ast.AST, kind: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, kind
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.body:
                yield from _statements(ast.Module([part], []), "types")
            for part in child.orelse:
                yield from _statements(ast.Module([part], []), kind)
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _statements(child, "call")
        else:
            yield from _statements(child, kind)


def _targets(name: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The module that each name comes from: a submodule, or the module that defines it."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in FILES)
        return
    base = name.split(".") if name in PACKAGES else name.split(".")[:-1]
    start = base[: len(base) - node.level + 1] if node.level else []
    module = ".".join([*start, *([node.module] if node.module else [])])
    for alias in node.names:
        full = f"{module}.{alias.name}"
        if full in FILES:
            yield full
        elif module in FILES:
            yield module


def circles(imports: list[Import]) -> list[list[str]]:
    """Groups of modules that reach each other (Tarjan, 1972)."""
    after: dict[str, set[str]] = {}
    for source, target, _ in imports:
        after.setdefault(source, set()).add(target)
        after.setdefault(target, set())
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for other in sorted(after[name]):
            if other not in number:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == number[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(after):
        if name not in number:
            visit(name)
    return found
