# SPDX-License-Identifier: MIT
"""ONNX's RNN, GRU and LSTM as its text has them, and random nodes to try it on.

The equations are written from ONNX's documentation, one sequence and step at a time, and take
complex numbers, whose imaginary parts are then exact derivatives.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, Any]
ORDER = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
NUMBERS = {"Affine": 2, "LeakyRelu": 1, "ThresholdedRelu": 1, "ScaledTanh": 2, "HardSigmoid": 2,
           "Elu": 1}  # fmt: skip


class Node(NamedTuple):
    op: str
    attributes: dict[str, Any]
    inputs: Arrays

    @property
    def directions(self) -> int:
        return 2 if self.attributes.get("direction") == "bidirectional" else 1

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("Y", "Y_h", "Y_c") if self.op == "LSTM" else ("Y", "Y_h")


def activate(name: str, alpha: float, beta: float, x: Any) -> Any:
    r = x.real
    return {
        "Relu": lambda: np.where(r > 0, x, 0),
        "Tanh": lambda: np.tanh(x),
        "Sigmoid": lambda: 1 / (1 + np.exp(-x)),
        "Affine": lambda: alpha * x + beta,
        "LeakyRelu": lambda: np.where(r >= 0, x, alpha * x),
        "ThresholdedRelu": lambda: np.where(r >= alpha, x, 0),
        "ScaledTanh": lambda: alpha * np.tanh(beta * x),
        "HardSigmoid": lambda: np.where(
            alpha * r + beta < 0, 0, np.where(alpha * r + beta > 1, 1, alpha * x + beta)
        ),
        "Elu": lambda: np.where(r >= 0, x, alpha * (np.exp(x) - 1)),
        "Softsign": lambda: x / (1 + np.where(r >= 0, x, -x)),
        "Softplus": lambda: np.log(1 + np.exp(x)),
    }[name]()


def shortest(number: float) -> float:
    """The number that ONNX's 32 bits stand for: one of few digits, or a sixth."""
    bits = np.float32(number)
    return 1 / 6 if bits == np.float32(1 / 6) else float(str(bits))


def activations_of(node: Node) -> list[list[Any]]:
    """For each direction, the functions f, g and h."""
    a = node.attributes
    names = a.get("activations", DEFAULTS[node.op] * node.directions)
    alpha, beta = (list(a.get(f"activation_{n}", [])) for n in ("alpha", "beta"))
    every = []
    for name in names:
        count = NUMBERS.get(name, 0)
        numbers = [alpha.pop(0) if count > 0 else 0.0, beta.pop(0) if count > 1 else 0.0]
        every.append((name, *map(shortest, numbers)))
    width = len(every) // node.directions
    return [
        [lambda x, how=how: activate(*how, x) for how in group]
        for group in (every[k : k + width] for k in range(0, len(every), width))
    ]


def textbook(node: Node) -> Arrays:
    """All outputs of a node."""
    v = dict(node.inputs)
    batch_first = node.attributes.get("layout", 0) == 1
    if batch_first:
        v |= {n: v[n].swapaxes(0, 1) for n in ("X", "initial_h", "initial_c") if n in v}
    (T, B, _), (D, _, H) = v["X"].shape, v["R"].shape
    kind = complex if any(np.iscomplexobj(a) for a in v.values()) else float
    Y, finals = np.zeros((T, D, B, H), kind), np.zeros((2, D, B, H), kind)
    for d, functions in enumerate(activations_of(node)):
        backwards = d == 1 or node.attributes.get("direction") == "reverse"
        for b in range(B):
            n = int(v["sequence_lens"][b]) if "sequence_lens" in v else T
            states = [v[s][d, b] if s in v else np.zeros(H) for s in ("initial_h", "initial_c")]
            for t in range(n)[:: -1 if backwards else 1]:
                states = step(node, functions, v, d, v["X"][t, b], *states)
                Y[t, d, b] = states[0]
            if n:  # else 0, as onnxruntime has it
                finals[:, d, b] = states
    if batch_first:
        Y, finals = Y.transpose(2, 0, 1, 3), finals.swapaxes(1, 2)
    return dict(zip(node.outputs, (Y, *finals)))


def step(node: Node, functions: list[Any], v: Arrays, d: int, x: Any, h: Any, c: Any) -> list[Any]:
    """h and c after one step of one sequence."""
    G, H, a = GATES[node.op], v["R"].shape[2], node.attributes
    W, R = v["W"][d].reshape(G, H, -1), v["R"][d].reshape(G, H, H)
    Wb, Rb = v["B"][d].reshape(2, G, H) if "B" in v else np.zeros((2, G, H))
    P = v["P"][d].reshape(3, H) if "P" in v else np.zeros((3, H))
    bound = shortest(a.get("clip", np.inf))

    def clip(s: Any) -> Any:
        return np.where(s.real > bound, bound, np.where(s.real < -bound, -bound, s))

    def gate(k: int) -> Any:
        return W[k] @ x + R[k] @ h + Wb[k] + Rb[k]

    f, g, *rest = (*functions, None)
    if node.op == "RNN":
        return [f(clip(gate(0))), c]
    if node.op == "GRU":  # z r h
        z, r = f(clip(gate(0))), f(clip(gate(1)))
        if a.get("linear_before_reset"):
            inner = W[2] @ x + r * (R[2] @ h + Rb[2]) + Wb[2]
        else:
            inner = W[2] @ x + R[2] @ (r * h) + Rb[2] + Wb[2]
        return [(1 - z) * g(clip(inner)) + z * h, c]
    i = f(clip(gate(0) + P[0] * c))  # i o f c
    forget = 1 - i if a.get("input_forget") else f(clip(gate(2) + P[2] * c))
    c = forget * c + i * g(clip(gate(3)))
    return [f(clip(gate(1) + P[1] * c)) * rest[0](c), c]


# --- random nodes ---------------------------------------------------------------------------------

FUNCTIONS = [*NUMBERS, "Relu", "Tanh", "Sigmoid", "Softsign", "Softplus"]
WIDTH = {"RNN": 1, "GRU": 2, "LSTM": 3}  # f, g and h


def random_node(rng: np.random.Generator, dtype: Any = np.float32, layout: int = 0) -> Node:
    """A node with any attributes and optional inputs, whose values stay within bounds."""
    while True:
        node = _random_node(rng, dtype, layout)
        with np.errstate(all="ignore"):
            if all(np.abs(array).max() < 100 for array in textbook(node).values()):
                return node


def _random_node(rng: np.random.Generator, dtype: Any, layout: int) -> Node:

    def perhaps(probability: float = 0.5) -> bool:
        return bool(rng.random() < probability)

    op = str(rng.choice(list(GATES)))
    T, B, I, H = (int(rng.integers(1, n)) for n in (8, 6, 7, 20))
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    D = 2 if direction == "bidirectional" else 1
    a: dict[str, Any] = {"hidden_size": H, "direction": direction}
    if perhaps():
        chosen = [str(rng.choice(FUNCTIONS)) for _ in range(WIDTH[op] * D)]
        a["activations"] = chosen
        for k, name in enumerate(("activation_alpha", "activation_beta")):
            some = [n for n in chosen if NUMBERS.get(n, 0) > k]
            a[name] = [float(np.float32(rng.uniform(0.1, 1))) for _ in some]
        a = {n: value for n, value in a.items() if value != []}
    if perhaps(0.3):
        a["clip"] = float(np.float32(rng.uniform(0.3, 2)))
    if op == "GRU":
        a["linear_before_reset"] = int(perhaps())
    if op == "LSTM" and perhaps(0.3):
        a["input_forget"] = 1
    if layout:
        a["layout"] = 1
    G = GATES[op]
    state = (B, D, H) if layout else (D, B, H)
    shapes = {
        "X": (B, T, I) if layout else (T, B, I), "W": (D, G * H, I), "R": (D, G * H, H),
        "B": (D, 2 * G * H), "initial_h": state, "initial_c": state, "P": (D, 3 * H),
    }  # fmt: skip
    optional = ["B", "initial_h"] + ["initial_c", "P"] * (op == "LSTM")
    names = ["X", "W", "R", *(n for n in optional if perhaps(0.6))]
    inputs = {n: rng.normal(size=shapes[n]).astype(dtype) for n in names}
    for name in ("W", "R", "P"):
        if name in inputs:
            inputs[name] *= np.asarray(0.7 / np.sqrt(H), dtype)
    if perhaps():
        inputs["sequence_lens"] = rng.integers(0, T + 1, B).astype(np.int32)
    return Node(op, a, {n: inputs[n] for n in ORDER if n in inputs})


def proto(node: Node) -> Any:
    """The node as ONNX has it; the names of its inputs and outputs are ONNX's."""
    from onnx import helper

    names = [n for n in ORDER if n not in ("initial_c", "P") or node.op == "LSTM"]
    places = [n if n in node.inputs else "" for n in names]
    while not places[-1]:
        del places[-1]
    return helper.make_node(node.op, places, node.outputs, name="node", **node.attributes)


def one_node_model(node: Node, constant: tuple[str, ...] = ()) -> Any:
    """A model of one node; the inputs in `constant` are initializers."""
    from onnx import TensorProto, helper, numpy_helper

    given = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in node.inputs.items()
        if n not in constant
    ]
    kind = TensorProto.DOUBLE if node.inputs["X"].dtype == np.float64 else TensorProto.FLOAT
    results = [helper.make_tensor_value_info(n, kind, None) for n in node.outputs]
    weights = [numpy_helper.from_array(node.inputs[n], n) for n in constant if n in node.inputs]
    graph = helper.make_graph([proto(node)], "one", given, results, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def run_onnxruntime(model: Any, inputs: Arrays) -> list[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, inputs))
