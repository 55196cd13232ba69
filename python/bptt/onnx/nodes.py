# SPDX-License-Identifier: MIT
"""The other nodes of a graph, run by ONNX's own reference implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .._words import brief
from .attributes import label
from .library import library

__all__ = ["ARRANGING", "OPERATORS", "SURROUNDING", "node_function"]

# Operators that only move or select numbers, and so may prepare constant weights.
ARRANGING = {
    "Cast", "Concat", "Constant", "DequantizeLinear", "Flatten", "Gather", "Identity", "Reshape",
    "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
# Operators that programs put around the nodes of one layer: to move axes, and to make states.
SURROUNDING = ARRANGING | {
    "Add", "And", "ConstantOfShape", "Div", "Dropout", "Equal", "Expand", "Greater", "Less", "Mul",
    "Not", "Range", "ReduceMax", "ReverseSequence", "Shape", "Sub", "Where",
}  # fmt: skip
OPERATORS = SURROUNDING | {
    "Abs", "ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "Ceil", "Clip", "Conv",
    "CumSum", "DynamicQuantizeLinear", "Elu", "Erf", "Exp", "Floor", "GatherElements", "GatherND",
    "Gemm", "GlobalAveragePool", "GlobalMaxPool", "GreaterOrEqual", "HardSigmoid",
    "HardSwish", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "LessOrEqual", "Log",
    "LogSoftmax", "MatMul", "MatMulInteger", "Max", "MaxPool", "Mean", "Min", "Neg", "Or", "PRelu",
    "Pad", "Pow", "QuantizeLinear", "Reciprocal", "ReduceL2", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Size", "Softmax",
    "Softplus", "Softsign", "Sqrt", "Sum", "Tanh", "ThresholdedRelu", "Tile", "TopK",
}  # fmt: skip

Function = Callable[[Mapping[str, Any]], list[Any]]


def node_function(caller: str, node: Any, opset: int) -> Function:
    """A function from the values of a graph, by name, to the node's outputs."""
    known = node.op_type in OPERATORS and node.domain in ("", "ai.onnx")
    if not known:
        domain = f" of {brief(node.domain)}" if node.domain else ""
        raise ValueError(
            f"{caller}: the graph has {label(node)}{domain}, which bptt does not run; "
            "bptt.onnx.load_layers loads the recurrent layers alone"
        )
    helper = library(caller, "onnx.helper")
    reference = library(caller, "onnx.reference")
    names = list(dict.fromkeys(name for name in node.input if name))
    outputs = [name for name in node.output if name]
    opsets = [helper.make_opsetid(node.domain, opset)]
    try:
        function = helper.make_function(
            "bptt", "node", names, outputs, [node], opset_imports=opsets
        )
        evaluator = reference.ReferenceEvaluator(function)
    except Exception as error:  # attributes that the operator lacks, versions that nobody knows
        raise ValueError(
            f"{caller}: {label(node)} cannot be run: {brief(str(error), 200)}"
        ) from error

    def run(values: Mapping[str, Any]) -> list[Any]:
        feeds = {name: values[name] for name in names}
        try:
            with np.errstate(all="ignore"):
                return list(evaluator.run(outputs, feeds, {}))
        except MemoryError:
            raise
        except Exception as error:  # wrong shapes and types
            raise ValueError(f"{caller}: {label(node)} failed: {brief(str(error), 200)}") from error

    return run
