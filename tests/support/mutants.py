# SPDX-License-Identifier: MIT
"""Small wrong versions of Python functions: what a test suite must notice.

Each mutant changes one place: an operator (+ to -, - to +, * to +, += to -=), a constant (1 to 0
and 0 to 1), or a name in an arithmetic expression, scaled by 0.9 (a subtle error of a tenth).
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

SWAPS: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.Add(),
}


def _operands(tree: ast.AST) -> set[int]:
    """Names that stand directly in arithmetic; X | None is an annotation."""
    sums = [n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and type(n.op) is not ast.BitOr]
    return {id(side) for node in sums for side in (node.left, node.right)}


def _alternative(node: ast.AST, operand: bool) -> ast.AST | None:
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
        return ast.BinOp(node.left, SWAPS[type(node.op)], node.right)
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
        return ast.AugAssign(node.target, ast.Sub(), node.value)
    if isinstance(node, ast.Constant) and type(node.value) is int and node.value in (0, 1):
        return ast.Constant(1 - node.value)
    if operand and isinstance(node, ast.Name):
        return ast.BinOp(ast.Constant(0.9), ast.Mult(), node)
    return None


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return ast.copy_location(self.new, node) if node is self.old else self.generic_visit(node)


def mutants(function: Callable[..., Any]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(what was changed, the wrong function), one after the other."""
    source = textwrap.dedent(inspect.getsource(function))
    for number in range(sum(1 for _ in ast.walk(ast.parse(source)))):
        tree = ast.parse(source)
        old = list(ast.walk(tree))[number]
        new = _alternative(old, id(old) in _operands(tree))
        if new is None:
            continue
        line = source.splitlines()[getattr(old, "lineno", 1) - 1].strip()
        label = f"{function.__name__}: {ast.unparse(old)} -> {ast.unparse(new)} in `{line}`"
        tree = ast.fix_missing_locations(_Replace(old, new).visit(tree))
        namespace = dict(function.__globals__)
        exec(compile(tree, "<mutant>", "exec"), namespace)
        yield label, namespace[function.__name__]
