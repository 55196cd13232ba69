# SPDX-License-Identifier: MIT
"""OpenVINO: one node of its own recurrent operators, which are batch first."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..._types import Array
from ..workloads import Problem
from .job import Job, named, threads

# Positions of PyTorch's gates in OpenVINO's order, f i c o and z r h.
_GATES = {"rnn": (0,), "lstm": (1, 0, 2, 3), "gru": (1, 0, 2)}
# float32 as in all others, instead of bfloat16 on CPUs that have it, and one call at a time. The
# process is pinned already.
_OPTIONS = {
    "INFERENCE_PRECISION_HINT": "f32",
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    "ENABLE_CPU_PINNING": False,
}


def _constants(cell: str, p: Problem) -> list[Array]:
    """W, R and B: one bias for both products, except for the last gate of a GRU."""

    def reorder(a: Array) -> list[Array]:
        gates = np.split(a, len(_GATES[cell]))
        return [gates[k] for k in _GATES[cell]]

    w_ih, w_hh, b_ih, b_hh = map(reorder, p.weights)
    bias = [a + b for a, b in zip(b_ih, b_hh)]
    if cell == "gru":
        bias[2:] = [b_ih[2], b_hh[2]]
    return [np.concatenate(a)[None] for a in (w_ih, w_hh, bias)]


def _model(cell: str, p: Problem) -> Any:
    openvino = importlib.import_module("openvino")
    op = importlib.import_module("openvino.opset8")
    T, B, I = p.x.shape
    H = p.dy.shape[2]
    x = op.parameter([B, T, I], np.float32)
    states = [op.parameter([B, 1, H], np.float32) for _ in p.state]
    node = getattr(op, f"{cell}_sequence")(
        x,
        *states,
        op.constant(np.full(B, T)),
        *map(op.constant, _constants(cell, p)),
        hidden_size=H,
        direction="forward",
        **({"linear_before_reset": True} if cell == "gru" else {}),
    )
    return openvino.Model(node.outputs(), [x, *states], cell)


def prepare(cell: str, train: bool, p: Problem) -> Job:
    openvino = importlib.import_module("openvino")
    options = _OPTIONS | {"INFERENCE_NUM_THREADS": threads()}
    request = openvino.compile_model(_model(cell, p), "CPU", options).create_infer_request()
    x = openvino.Tensor(np.ascontiguousarray(p.x.swapaxes(0, 1)))
    request.set_input_tensor(0, x)
    # Two sets of states, since the final state is written while the initial state is still read.
    first, *finals = ([openvino.Tensor(s[:, None].copy()) for s in p.state] for _ in range(3))
    bound: Any = None

    def run(state: Any) -> tuple[Any, ...]:
        nonlocal bound
        final = finals[state is finals[0]]
        if state is not bound:
            for k, (value, place) in enumerate(zip(state, final), 1):
                request.set_input_tensor(k, value)
                request.set_output_tensor(k, place)
            bound = state
        request.infer()
        return request.get_output_tensor(0), final

    def arrays(result: tuple[Any, ...]) -> dict[str, Array]:
        y, final = result
        return named(y.data[:, 0].swapaxes(0, 1), [s.data[:, 0] for s in final])

    return Job(run, first, arrays)
