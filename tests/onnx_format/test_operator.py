# SPDX-License-Identifier: MIT
"""Nodes equal ONNX's own cases, onnxruntime, ONNX's reference and its equations, with gradients."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import bptt.onnx
from support.compare import TOLERANCE, assert_close, error
from support.complex_step import STEP
from support.onnx_nodes import Node, one_node_model, proto, random_node, run_onnxruntime, textbook

pytest.importorskip("onnx.helper")

FAST, SLOW = range(12), range(12, 312)
SEEDS = [*FAST, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SLOW)]
DIFFERENTIABLE = ("X", "W", "R", "B", "initial_h", "initial_c", "P")


def results(node: Node) -> dict[str, Any]:
    return dict(zip(node.outputs, bptt.onnx.Operator(proto(node))(**node.inputs)))


# --- ONNX's own -----------------------------------------------------------------------------------


def backend_cases() -> list[Any]:
    """ONNX's cases of the three operators, made when their modules are imported."""
    package = importlib.import_module("onnx.backend.test.case.node")
    for name in ("gru", "lstm", "rnn"):
        importlib.import_module(f"{package.__name__}.{name}")
    ops = ("GRU", "LSTM", "RNN")
    cases = [c for c in package._NodeTestCases if c.model.graph.node[0].op_type in ops]
    assert len(cases) >= 18
    return cases


@pytest.mark.parametrize("case", backend_cases(), ids=lambda c: c.name)
def test_cases_of_the_backend(case: Any) -> None:
    model = bptt.onnx.load(case.model)
    assert isinstance(model, bptt.onnx.Model)
    for inputs, outputs in case.data_sets:
        got = model(*inputs)
        assert list(got) == [o.name for o in case.model.graph.output]
        for array, want in zip(got.values(), outputs):
            assert array.dtype == want.dtype
            assert error(array, want) < TOLERANCE["float32"]


@pytest.mark.parametrize("seed", FAST)
@pytest.mark.parametrize("layout", [0, 1])
def test_onnx_reference(seed: int, layout: int) -> None:
    """It ignores lengths, clip, input_forget and activations, and so takes part without them."""
    evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator
    node = random_node(np.random.default_rng(seed), np.float64, layout)
    for name in ("clip", "input_forget", "activations", "activation_alpha", "activation_beta"):
        node.attributes.pop(name, None)
    node.inputs.pop("sequence_lens", None)
    want = dict(zip(node.outputs, evaluator(one_node_model(node)).run(None, node.inputs)))
    assert_close(results(node), want, TOLERANCE["float64"])


# --- random nodes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_random_nodes_equal_onnxruntime(seed: int) -> None:
    pytest.importorskip("onnxruntime")
    node = random_node(np.random.default_rng(seed))
    got = results(node)
    want = dict(zip(node.outputs, run_onnxruntime(one_node_model(node), node.inputs)))
    assert all(array.dtype == np.float32 for array in got.values())
    assert_close(got, want, TOLERANCE["float32"])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("layout", [0, 1])
def test_random_nodes_equal_the_equations(seed: int, layout: int) -> None:
    node = random_node(np.random.default_rng(seed), np.float64, layout)
    assert_close(results(node), textbook(node), TOLERANCE["float64"])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("layout", [0, 1])
def test_gradients_equal_complex_steps(seed: int, layout: int) -> None:
    """Along a random direction of each input, for random gradients of all outputs."""
    rng = np.random.default_rng(seed)
    node = random_node(rng, np.float64, layout)
    if node.op == "LSTM":  # without a c before it, a ReLU of c may be at its corner, 0
        D, B, H = node.directions, node.inputs["X"].shape[1 - layout], node.inputs["R"].shape[2]
        node.inputs["initial_c"] = rng.normal(size=(B, D, H) if layout else (D, B, H))
    operator = bptt.onnx.Operator(proto(node))
    outputs, tape = operator.forward(**node.inputs)
    given = [rng.normal(size=array.shape) for array in outputs]
    grads = operator.backward(tape, *given)
    shapes = {n: a.shape for n, a in node.inputs.items()}
    states = ("initial_h", "initial_c") if node.op == "LSTM" else ("initial_h",)
    assert set(grads) == {n for n in DIFFERENTIABLE if n in node.inputs or n in states}
    got, want = {}, {}
    for name, grad in grads.items():
        value = node.inputs.get(name, np.zeros(grad.shape))
        assert grad.shape == shapes.get(name, grad.shape)
        direction = rng.normal(size=grad.shape)
        moved = node._replace(inputs={**node.inputs, name: value + 1j * STEP * direction})
        book = textbook(moved).values()
        want[name] = sum((d * o.imag).sum() for d, o in zip(given, book)) / STEP
        got[name] = (grad * direction).sum()
    assert_close(got, want, 1e-9)  # sums of numbers of both signs


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_each_gradient_alone(op: str) -> None:
    """One output's gradient at a time sums to that of all."""
    rng = np.random.default_rng(0)
    while (node := random_node(rng, np.float64)).op != op or "sequence_lens" not in node.inputs:
        pass
    operator = bptt.onnx.Operator(proto(node))
    outputs, tape = operator.forward(**node.inputs)
    given = {f"d{n}": rng.normal(size=o.shape) for n, o in zip(node.outputs, outputs)}
    parts = [operator.backward(tape, **{n: d}) for n, d in given.items()]
    together = {n: sum(part[n] for part in parts) for n in parts[0]}
    assert_close(together, operator.backward(tape, **given), TOLERANCE["float64"])
    assert not any(a.any() for a in operator.backward(tape).values())


# --- types and defaults ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_small_types(kind: str) -> None:
    """They are computed in float32, and the outputs are of their type, where NumPy has it."""
    dtype = np.dtype(getattr(pytest.importorskip("ml_dtypes"), kind, kind))
    node = random_node(np.random.default_rng(3))
    inputs = {n: a if n == "sequence_lens" else a.astype(dtype) for n, a in node.inputs.items()}
    exact = {n: a if n == "sequence_lens" else a.astype(np.float32) for n, a in inputs.items()}
    got = results(node._replace(inputs=inputs))
    want = results(node._replace(inputs=exact))
    kinds = {array.dtype for array in got.values()}
    assert kinds == {np.dtype("float16" if kind == "float16" else "float32")}
    assert_close(got, {n: a.astype(got[n].dtype) for n, a in want.items()}, 1e-12)


def test_clip_beyond_float32_is_none() -> None:
    node = random_node(np.random.default_rng(0), np.float64)
    node.attributes["clip"] = 3.4028234663852886e38
    free = node._replace(attributes={n: v for n, v in node.attributes.items() if n != "clip"})
    assert_close(results(node), results(free), 0)


def test_names_of_activations_in_any_case() -> None:
    rng = np.random.default_rng(0)
    while "activations" not in (node := random_node(rng)).attributes:
        pass
    lower = [name.lower() for name in node.attributes["activations"]]
    other = node._replace(attributes={**node.attributes, "activations": lower})
    assert_close(results(other), results(node), 0)


def test_constant_inputs() -> None:
    """Constants are inputs that need not be given, and may be."""
    rng = np.random.default_rng(0)
    while not {"B", "initial_h"} <= set((node := random_node(rng, np.float64)).inputs):
        pass
    constant = ("W", "R", "B", "P", "initial_h")
    operator = bptt.onnx.Operator(proto(node), {n: node.inputs.get(n, 0) for n in constant})
    rest = {n: a for n, a in node.inputs.items() if n not in constant}
    want = results(node)
    assert_close(dict(zip(node.outputs, operator(**rest))), want, TOLERANCE["float64"])
    h = 2 * node.inputs["initial_h"]
    changed = results(node._replace(inputs={**node.inputs, "initial_h": h}))
    got = dict(zip(node.outputs, operator(**rest, initial_h=h)))
    assert_close(got, changed, TOLERANCE["float64"])
    assert error(changed["Y"], want["Y"]) > 1e-3
    assert_close(operator.weights, {n: node.inputs[n] for n in operator.weights}, 1e-15)


def test_layers_of_operators_are_trained_in_place() -> None:
    rng = np.random.default_rng(5)
    while (node := random_node(rng)).op != "GRU" or "B" not in node.inputs:
        pass
    node.attributes["direction"] = "forward"
    node = node._replace(inputs={n: a[:1] if n in "WRB" else a for n, a in node.inputs.items()})
    node.inputs.pop("initial_h", None)
    for name in ("activations", "activation_alpha", "activation_beta"):
        node.attributes.pop(name, None)
    operator = bptt.onnx.Operator(proto(node), {n: node.inputs[n] for n in "WRB"})
    rest = {n: a for n, a in node.inputs.items() if n not in "WRB"}
    (Y, _), tape = operator.forward(**rest)
    grads = operator.backward(tape, dY=Y)
    layer = operator.layer
    assert isinstance(layer, bptt.GRU)
    y, _, tape_of_layer = layer.forward(node.inputs["X"], lengths=rest.get("sequence_lens"))
    own = layer.backward(tape_of_layer, y)
    assert error(own.x, grads["X"]) < TOLERANCE["float32"]
    bptt.SGD(layer.parameters, 0.1).step(own.params)
    for name in "WRB":
        want = node.inputs[name] - 0.1 * grads[name]
        assert error(operator.weights[name], want) < TOLERANCE["float32"]
    moved = node._replace(inputs={**node.inputs, **operator.weights})
    assert_close(dict(zip(node.outputs, operator(**rest))), results(moved), TOLERANCE["float32"])
