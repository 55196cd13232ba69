# SPDX-License-Identifier: MIT
"""Loads models and nodes of ONNX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .._words import brief, listed
from ..layers.recurrent import Recurrent
from .attributes import is_recurrent, label
from .constants import NOTHING, Scope, opset_of, repeated_states, scope_of
from .layer import obstacle
from .library import library
from .model import Model, unused
from .operator import Operator, operator_of
from .read import as_model, refusing
from .stack import stack_of

__all__ = ["load", "load_layers"]

NONE = "the graph has no recurrent node, expected RNN, GRU or LSTM"


def load(source: Any, initializers: Any = None) -> Recurrent | Operator | Model:
    """Load the recurrent layer of an ONNX model or node, or the whole model.

    Parameters
    ----------
    source : path, bytes, onnx.ModelProto or onnx.NodeProto
        A model with recurrent nodes: RNN, GRU, LSTM, or onnxruntime's DynamicQuantizeLSTM, whose
        weights become floating-point numbers; or one such node. Weights in other files are read if
        they lie in the folder of the path.
    initializers : dict of str to array_like, or list of onnx.TensorProto, optional
        For a node: its constant inputs, by the names that the node gives them.

    Returns
    -------
    Recurrent
        If a layer computes all outputs of the model or node, as a run with random weights and
        inputs shows. Recurrent nodes on top of each other become one layer with `num_layers`, also
        with nodes between them that move axes. The results have the layer's shapes and order.
    Operator
        For a node whose weights are not constant, or which no layer can express, such as a node
        with a constant initial state.
    Model
        For any other model: it runs, and its `layers` are layers of bptt.

    Raises
    ------
    ValueError
        If the file or object is no ONNX model, has no recurrent node, or has a node or activation
        that bptt does not know; the message names it.
    TypeError
        If `source` is something else.
    ImportError
        If the package onnx is not installed.
    OSError
        If the file cannot be read.

    Notes
    -----
    A layer and ONNX differ for a sequence of length 0: its final state is the initial state in a
    layer, and 0 in ONNX, in `Model` and in `Operator`.

    Examples
    --------
    >>> import bptt.onnx
    >>> lstm = bptt.LSTM(3, 4, num_layers=2, seed=0)
    >>> bptt.onnx.load(bptt.onnx.export(lstm))
    LSTM(3, 4, num_layers=2)
      weight_ih_l0  (16, 3)
      weight_hh_l0  (16, 4)
      bias_ih_l0    (16,)
      bias_hh_l0    (16,)
      weight_ih_l1  (16, 4)
      weight_hh_l1  (16, 4)
      bias_ih_l1    (16,)
      bias_hh_l1    (16,)
      304 parameters
    """
    caller = "load"
    if isinstance(source, library(caller).NodeProto):
        if not is_recurrent(source):
            raise ValueError(f"{caller}: source is {label(source)}, expected RNN, GRU or LSTM")
        operator = Operator(source, initializers)
        whole = operator.layer is not None and not operator.constants
        return operator.layer if whole and operator.layer is not None else operator
    if initializers is not None:
        raise TypeError(f"{caller}: initializers are given, expected none: the model has its own")
    caller, proto = as_model(caller, source)
    with refusing(caller):
        proto = _without_functions(caller, proto)
        if not any(map(is_recurrent, _nodes(proto.graph))):
            raise ValueError(f"{caller}: {NONE}")
        model = Model(proto, caller=caller)
        return stack_of(model) or model


def load_layers(source: Any) -> dict[str, Recurrent]:
    """Load the recurrent layers alone from an ONNX model, whatever else it computes.

    Parameters
    ----------
    source : path, bytes or onnx.ModelProto
        As for `load`. Other nodes may be of any kind, and recurrent nodes also in the branches of
        ``If`` and the bodies of loops.

    Returns
    -------
    dict of str to Recurrent
        One layer for each recurrent node, by the name of the node. Its results have the shapes of a
        layer: y (T, B, D*H) where ONNX has Y (T, D, B, H).

    Raises
    ------
    ValueError
        As `load`; and if a node's weights are not constant, or no layer can express it, such as a
        node with a constant initial state.
    TypeError, ImportError, OSError
        As `load`.

    Examples
    --------
    >>> import bptt.onnx
    >>> gru = bptt.GRU(3, 4, bidirectional=True, seed=0)
    >>> list(bptt.onnx.load_layers(bptt.onnx.export([gru, bptt.Linear(8, 2, seed=1)])))
    ['gru_l0']
    """
    caller, proto = as_model("load_layers", source)
    layers: dict[str, Recurrent] = {}
    with refusing(caller):
        proto = _without_functions(caller, proto)
        found = _operators(caller, proto.graph, opset_of(caller, proto))
        for k, (node, operator, repeated) in enumerate(found):
            constants = [*operator.constants, *repeated]
            if operator.layer is None or constants:
                reason = obstacle(operator.attributes) or (
                    f"{listed(constants)} are constant, and other than 0"
                    if operator.layer
                    else "its weights depend on inputs"
                )
                raise ValueError(f"{caller}: {label(node)} is not a layer: {reason}")
            layers[unused(node, k, layers)] = operator.layer
    if not layers:
        raise ValueError(f"{caller}: {NONE}")
    return layers


def _operators(
    caller: str, graph: Any, opset: int, outer: Scope = NOTHING
) -> Iterator[tuple[Any, Operator, list[str]]]:
    """Every recurrent node of a graph and of the graphs inside its nodes; `repeated_states`."""
    scope = scope_of(caller, graph, opset, outer)
    for node in graph.node:
        if is_recurrent(node):
            operator = operator_of(caller, node, scope.constants)
            yield node, operator, repeated_states(node, scope)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _operators(caller, inner, opset, scope)


def _nodes(graph: Any) -> Iterator[Any]:
    """Every node of a graph and of the graphs inside its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _without_functions(caller: str, model: Any) -> Any:
    """The model with the functions that it defines written out."""
    if not model.functions:
        return model
    try:
        return library(caller, "onnx.inliner").inline_local_functions(model)
    except Exception as error:  # functions that call themselves, or others that are missing
        raise ValueError(
            f"{caller}: the model has functions that cannot be written out: "
            f"{brief(str(error), 120)}"
        ) from error
