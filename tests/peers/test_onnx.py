# SPDX-License-Identifier: MIT
"""The forward functions equal ONNX's operators, as onnxruntime computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference
from support.compare import error
from support.problems import Case, flat, forward, problem

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

# Each with parameters other than its defaults, if it has any.
EVERY: list[tuple[Any, ...]] = [
    ("affine", 0.4, -0.2), ("leaky_relu", 0.3), ("leaky_relu", -0.3), ("thresholded_relu", 0.2),
    ("thresholded_relu", -0.2), ("scaled_tanh", 1.3, 0.6), ("scaled_tanh", -0.7, 0.6),
    ("hard_sigmoid", 0.2, 0.5), ("hard_sigmoid", -0.3, 0.4), ("elu", 0.7), ("elu", -0.4),
    ("softsign",), ("softplus",), ("tanh",), ("relu",), ("sigmoid",),
]  # fmt: skip
KERAS_2 = {"gate_activation": ("hard_sigmoid", 0.2, 0.5)}
HARD = {"gate_activation": "hard_sigmoid"}
CASES = [
    Case("rnn", "rnn", {}),
    Case("rnn-clip", "rnn", {"preact_clip": 0.5}),
    Case("rnn-relu", "rnn", {"activation": "relu"}),
    Case("gru", "gru", {}),
    Case("gru-before", "gru", {"reset_after": False}),
    Case("gru-clip", "gru", {"preact_clip": 0.5}),
    Case("gru-before-clip", "gru", {"reset_after": False, "preact_clip": 0.5}),
    Case("gru-hard-relu", "gru", {**HARD, "activation": "relu"}),
    Case("gru-before-hard-relu", "gru", {**HARD, "activation": "relu", "reset_after": False}),
    Case("lstm", "lstm", {}),
    Case("lstm-peepholes", "lstm", {"peepholes": True}),
    Case("lstm-coupled", "lstm", {"forget_gate": "coupled"}),
    Case("lstm-coupled-peepholes", "lstm", {"forget_gate": "coupled", "peepholes": True}),
    Case("lstm-clip", "lstm", {"preact_clip": 0.5}),
    *(Case(f"rnn-{a[0]}", "rnn", {"activation": a}) for a in EVERY),
    *(Case(f"gru-{a[0]}", "gru", {"activation": a, **KERAS_2}) for a in EVERY),
    *(
        Case(f"lstm-{a[0]}-{b[0]}", "lstm", {"gate_activation": a, "output_activation": b})
        for a, b in zip(EVERY, EVERY[7:] + EVERY[:7])
    ),
    Case("lstm-hard-relu", "lstm", {**HARD, "activation": "relu", "output_activation": "relu"}),
]
# Gates in ONNX's order, as indices of ours; c stands for the LSTM's g, h for the GRU's n.
ORDER = {"rnn": [0], "gru": [1, 0, 2], "lstm": [0, 3, 1, 2]}
NAMES = {
    "tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid", "hard_sigmoid": "HardSigmoid",
    "leaky_relu": "LeakyRelu", "thresholded_relu": "ThresholdedRelu", "elu": "Elu",
    "scaled_tanh": "ScaledTanh", "affine": "Affine", "softsign": "Softsign",
    "softplus": "Softplus",
}  # fmt: skip


def reorder(a: Any, order: list[int]) -> Any:
    """Blocks of rows in another order, with an axis for ONNX's directions."""
    blocks = np.split(a, len(order))
    return np.concatenate([blocks[k] for k in order])[None]


def with_four_gates(a: Any) -> Any:
    """ONNX keeps rows for the forget gate that `input_forget` does without."""
    i, g, o = np.split(a, 3)
    return np.concatenate([i, np.zeros_like(i), g, o])


def inputs_of(c: Any) -> dict[str, Any]:
    a, order = c.arrays, ORDER[c.cell]
    full = with_four_gates if "forget_gate" in c.options else np.asarray
    W, R, *biases = (reorder(full(a[k]), order) for k in ("w_ih", "w_hh", "b_ih", "b_hh"))
    T, B, _ = a["x"].shape
    named = {"X": a["x"], "W": W, "R": R, "B": np.concatenate(biases, 1)}
    named["sequence_lens"] = np.full(B, T)
    h, *rest = flat(a["state"])
    named |= {"initial_h": h[None], **({"initial_c": rest[0][None]} if rest else {})}
    if "peepholes" in a:  # rows i o f
        i, *f, o = a["peepholes"]
        named["P"] = np.concatenate([i, o, f[0] if f else np.zeros_like(i)])[None]
    dtypes = {"sequence_lens": np.int32}
    return {k: v.astype(dtypes.get(k, np.float32)) for k, v in named.items()}


def attributes_of(c: Any) -> dict[str, Any]:
    o, H = c.options, c.dy.shape[-1]
    gate, act = o.get("gate_activation", "sigmoid"), o.get("activation", "tanh")
    out = o.get("output_activation", "tanh")
    chosen = {"rnn": [act], "gru": [gate, act], "lstm": [gate, act, out]}[c.cell]
    chosen = [a if isinstance(a, tuple) else (a,) for a in chosen]
    chosen = [(a[0], 1 / 6, 0.5) if a == ("hard_sigmoid",) else a for a in chosen]
    found: dict[str, Any] = {"hidden_size": H, "activations": [NAMES[a[0]] for a in chosen]}
    # Only activations that have a parameter take one from these lists.
    alphas = [a[1] for a in chosen if len(a) > 1]
    betas = [a[2] for a in chosen if len(a) > 2]
    found |= {"activation_alpha": alphas} if alphas else {}
    found |= {"activation_beta": betas} if betas else {}
    if "preact_clip" in o:
        found["clip"] = o["preact_clip"]
    if "forget_gate" in o:
        found["input_forget"] = 1
    if c.cell == "gru":
        found["linear_before_reset"] = int(o.get("reset_after", True))
    return found


def onnx_results(c: Any) -> list[Any]:
    """y and the final states of the operator."""
    inputs = inputs_of(c)
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    place = order[: max(order.index(k) for k in inputs) + 1]
    outputs = ["Y", "Y_h", "Y_c"][: len(flat(c.arrays["state"])) + 1]
    make, kinds = onnx.helper, onnx.TensorProto
    node = make.make_node(
        c.cell.upper(), [k if k in inputs else "" for k in place], outputs, **attributes_of(c)
    )
    given = [
        make.make_tensor_value_info(
            k, kinds.INT32 if k == "sequence_lens" else kinds.FLOAT, inputs[k].shape
        )
        for k in inputs
    ]
    found = [make.make_tensor_value_info(k, kinds.FLOAT, None) for k in outputs]
    graph = make.make_graph([node], "one", given, found)
    opset = [make.make_opsetid("", 17)]
    model = make.make_model(graph, opset_imports=opset, ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    y, *final = session.run(None, inputs)
    return [y[:, 0], *(f[0] for f in final)]


@pytest.mark.parametrize("module", [reference, bptt], ids=lambda m: m.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_forward_equals_onnx(case: Case, module: Any) -> None:
    for seed in range(3):
        c = problem(case, (6, 3, 4, 8), seed=seed)
        y, state, _ = forward(module, c)
        for got, want in zip(onnx_results(c), [y, *flat(state)]):
            assert error(got, want) < 1e-5
