# SPDX-License-Identifier: MIT
"""The other nodes of a graph, run by ONNX's own reference implementation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._words import brief
from .attributes import label
from .library import library

__all__ = ["ARRANGING", "OPERATORS", "SURROUNDING", "OtherNode"]

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

# The first versions that the reference has, of operators whose older ones are cases of them.
FIRST = {"DequantizeLinear": 19, "QuantizeLinear": 19}


class OtherNode:
    """A node that is not recurrent: called with the values of a graph, by name."""

    def __init__(self, caller: str, node: Any, opset: int) -> None:
        self._made_of = (caller, node, opset)
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
            domain = f" of {brief(node.domain)}" if node.domain else ""
            raise ValueError(
                f"{caller}: the graph has {label(node)}{domain}, which bptt does not run; "
                "bptt.onnx.load_layers loads the recurrent layers alone"
            )
        helper = library(caller, "onnx.helper")
        reference = library(caller, "onnx.reference")
        opset = max(opset, FIRST.get(node.op_type, 1))
        self.op = str(node.op_type)
        self.inputs = list(dict.fromkeys(name for name in node.input if name))
        self.outputs = [name for name in node.output if name]
        opsets = [helper.make_opsetid(node.domain, opset)]
        try:
            function = helper.make_function(
                "bptt", "node", self.inputs, self.outputs, [node], opset_imports=opsets
            )
            self._evaluator = reference.ReferenceEvaluator(function)
        except Exception as error:  # attributes that the operator lacks, versions nobody knows
            raise ValueError(
                f"{caller}: {label(node)} cannot be run: {brief(str(error), 120)}"
            ) from error

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The node's outputs by name."""
        feeds = {name: values[name] for name in self.inputs}
        try:
            with np.errstate(all="ignore"):
                results = self._evaluator.run(self.outputs, feeds, {})
        except MemoryError:
            raise
        except Exception as error:  # wrong shapes and types
            caller, node, _ = self._made_of
            raise ValueError(f"{caller}: {label(node)} failed: {brief(str(error), 120)}") from error
        return dict(zip(self.outputs, results))

    def __reduce__(self) -> tuple[Any, ...]:
        return OtherNode, self._made_of
