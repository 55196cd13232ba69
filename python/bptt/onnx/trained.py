# SPDX-License-Identifier: MIT
"""The graph of a loaded model, with the weights that its layers have now."""

from __future__ import annotations

from typing import Any

from .attributes import INPUTS, QUANTIZED, is_recurrent
from .library import library
from .model import Model
from .operator import Operator

__all__ = ["trained"]


def trained(caller: str, model: Model) -> Any:
    """A copy of the graph that a model was made of. A DynamicQuantizeLSTM becomes an LSTM."""
    proto = library(caller).ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {tensor.name for tensor in graph.initializer}
    nodes = [node for node in graph.node if is_recurrent(node)]
    for node, (name, operator) in zip(nodes, model.operators.items()):
        if operator.layer is not None:
            _replace(caller, graph, node, name, operator, taken)
    _drop_unused(graph)
    return proto


def _replace(
    caller: str, graph: Any, node: Any, name: str, operator: Operator, taken: set[str]
) -> None:
    """Give a node new initializers."""
    of_array = library(caller, "onnx.numpy_helper").from_array
    roles = INPUTS[node.op_type]
    inputs = dict(zip(roles, node.input))
    for role, array in operator.weights.items():
        fresh = f"{name}_{role}"
        while fresh in taken:
            fresh += "_"
        taken.add(fresh)
        graph.initializer.append(of_array(array, fresh))
        inputs[role] = fresh
    if node.op_type == QUANTIZED:
        node.op_type, node.domain = "LSTM", ""
    places = [inputs.get(role, "") for role in INPUTS[node.op_type]]
    while not places[-1]:
        del places[-1]
    del node.input[:]
    node.input.extend(places)


def _drop_unused(graph: Any) -> None:
    """Remove initializers that nothing reads; in old models they are inputs as well."""
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    unused = {tensor.name for tensor in graph.initializer if tensor.name not in used}
    for part in (graph.initializer, graph.input):
        kept = [item for item in part if item.name not in unused]
        del part[:]
        part.extend(kept)
