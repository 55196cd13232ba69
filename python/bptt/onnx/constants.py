# SPDX-License-Identifier: MIT
"""The constant values of a graph that its recurrent nodes need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .._types import Array
from .._words import brief
from .attributes import INPUTS, is_recurrent, label
from .library import library
from .nodes import ARRANGING, OtherNode
from .read import tensor_of

__all__ = ["NOTHING", "Scope", "opset_of", "repeated_states", "scope_of"]

MOST_BYTES = 1 << 31  # of a value that a node computes: as much as a file of ONNX can hold
RUN_TIME = ("X", "sequence_lens")  # inputs that are of no use as constants


class Scope(NamedTuple):
    """The values that a graph can read: constants, and the node that makes each of the others."""

    constants: dict[str, Array]
    makers: dict[str, Any]


NOTHING = Scope({}, {})


def scope_of(caller: str, graph: Any, opset: int, outer: Scope = NOTHING) -> Scope:
    """The initializers, and what nodes make of them alone for recurrent nodes.

    `outer` is the scope of the graph around this one, whose names are other ones.
    """
    if graph.sparse_initializer:
        raise ValueError(f"{caller}: the graph has sparse initializers, expected dense ones")
    constants = {t.name: tensor_of(caller, brief(t.name), t) for t in graph.initializer}
    constants = {**outer.constants, **constants}
    made = {name: node for node in graph.node for name in node.output if name}
    makers = {**outer.makers, **made}
    for node in graph.node:
        if is_recurrent(node):
            for role, name in zip(INPUTS[node.op_type], node.input):
                if name and role not in RUN_TIME:
                    _fold(caller, name, makers, constants, opset)
    return Scope(constants, makers)


def repeated_states(node: Any, scope: Scope) -> list[str]:
    """The initial states of a recurrent node that are constants, repeated for each sequence."""
    found = []
    for role, name in zip(INPUTS[node.op_type], node.input):
        maker = scope.makers.get(name)
        if role.startswith("initial") and maker is not None and maker.op_type == "Expand":
            source = scope.constants.get(maker.input[0])
            if source is not None and source.any():
                found.append(role)
    return found


def _fold(
    caller: str, name: str, makers: Mapping[str, Any], constants: dict[str, Array], opset: int
) -> None:
    """Compute a value and all that it depends on, if no input of the graph is among them."""
    for node in _makers_of(name, makers, constants):
        results = OtherNode(caller, node, opset)(constants)
        if sum(result.nbytes for result in results.values()) > MOST_BYTES:
            raise ValueError(
                f"{caller}: {label(node)} makes a constant of more than {MOST_BYTES:,} bytes"
            )
        constants.update(results)


def _makers_of(name: str, makers: Mapping[str, Any], constants: Mapping[str, Array]) -> list[Any]:
    """The nodes that make a value of constants, in their order; none if it is not constant."""
    order: dict[int, Any] = {}
    waiting = [(name, False)]
    begun: set[int] = set()
    while waiting:
        current, ready = waiting.pop()
        node = makers.get(current)
        if current in constants or id(node) in order:
            continue
        if node is None or node.op_type not in ARRANGING or node.domain not in ("", "ai.onnx"):
            return []
        if ready:
            order[id(node)] = node
        elif id(node) in begun:  # a circle
            return []
        else:
            begun.add(id(node))
            waiting += [(current, True), *((n, False) for n in node.input if n)]
    return list(order.values())


def opset_of(caller: str, model: Any) -> int:
    """The version of ONNX's own operators."""
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    newest = library(caller, "onnx.defs").onnx_opset_version()
    version = int(versions[0]) if versions else 1
    if not 1 <= version <= newest:
        raise ValueError(
            f"{caller}: the model is of opset {version}, expected 1..{newest}, which the installed "
            "package onnx knows"
        )
    return version
