# SPDX-License-Identifier: MIT
"""ONNX Runtime: one node of ONNX's own recurrent operators."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..._types import Array
from ..workloads import Problem
from .job import Job, named, threads

# Positions of PyTorch's gates in ONNX's order, i o f c and z r h.
_GATES = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}


def _model(cell: str, p: Problem) -> bytes:
    onnx = importlib.import_module("onnx")

    def reorder(a: Array) -> Array:
        gates = np.split(a, len(_GATES[cell]))
        return np.concatenate([gates[k] for k in _GATES[cell]])

    w_ih, w_hh, b_ih, b_hh = map(reorder, p.weights)
    constants = {"W": w_ih, "R": w_hh, "B": np.concatenate([b_ih, b_hh])}
    states = ["h", "c"][: len(p.state)]
    T, B, I = p.x.shape
    H = p.dy.shape[2]

    def value(name: str, *shape: int) -> Any:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    node = onnx.helper.make_node(
        cell.upper(),
        ["X", *constants, "", *(s + "0" for s in states)],
        ["Y", *states],
        hidden_size=H,
        **({"linear_before_reset": 1} if cell == "gru" else {}),
    )
    graph = onnx.helper.make_graph(
        [node],
        cell,
        [value("X", T, B, I), *(value(s + "0", 1, B, H) for s in states)],
        [value("Y", T, 1, B, H), *(value(s, 1, B, H) for s in states)],
        [onnx.numpy_helper.from_array(a[None], name) for name, a in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", 14)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return model.SerializeToString()  # type: ignore[no-any-return]


def prepare(cell: str, train: bool, p: Problem) -> Job:
    ort = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads(), 1
    session = ort.InferenceSession(_model(cell, p), options, ["CPUExecutionProvider"])
    names = ["h0", "c0"][: len(p.state)]
    binding = session.io_binding()
    binding.bind_ortvalue_input("X", ort.OrtValue.ortvalue_from_numpy(p.x))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")
    bound: Any = None

    def run(state: Any) -> tuple[Any, ...]:
        nonlocal bound
        if state is not bound:
            for name, value in zip(names, state):
                binding.bind_ortvalue_input(name, value)
            bound = state
        session.run_with_iobinding(binding)
        y, *final = binding.get_outputs()
        return y, final

    def arrays(result: tuple[Any, ...]) -> dict[str, Array]:
        y, final = result
        return named(y.numpy()[:, 0], [s.numpy()[0] for s in final])

    return Job(run, [ort.OrtValue.ortvalue_from_numpy(s[None]) for s in p.state], arrays)
