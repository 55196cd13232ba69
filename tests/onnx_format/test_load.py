# SPDX-License-Identifier: MIT
"""Models become layers where a layer says it all, and run where they have more in them."""

from __future__ import annotations

import copy
import importlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt.onnx
from bptt.onnx import constants, nodes
from support.compare import TOLERANCE, error
from support.onnx_nodes import Node, one_node_model, proto, random_node, run_onnxruntime

onnx = pytest.importorskip("onnx.helper")

WEIGHTS = ("W", "R", "B", "P")


def plain_node(op: str, seed: int = 0, **more: Any) -> Node:
    """A bidirectional node of 3 inputs and 4 units, with biases."""
    rng = np.random.default_rng(seed)
    G = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    shapes = {"X": (5, 2, 3), "W": (2, G * 4, 3), "R": (2, G * 4, 4), "B": (2, G * 8)}
    inputs = {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    return Node(op, {"hidden_size": 4, "direction": "bidirectional", **more}, inputs)


# --- one node -------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_a_node_with_constant_weights_is_a_layer(op: str) -> None:
    node = plain_node(op)
    Y, *finals = bptt.onnx.Operator(proto(node))(**node.inputs)
    weights = {n: node.inputs[n] for n in WEIGHTS if n in node.inputs}
    from_array = importlib.import_module("onnx.numpy_helper").from_array
    sources = [
        bptt.onnx.load(proto(node), weights),
        bptt.onnx.load(proto(node), [from_array(a, n) for n, a in weights.items()]),
        bptt.onnx.load(one_node_model(node, WEIGHTS)),
        bptt.onnx.load(one_node_model(node, WEIGHTS).SerializeToString()),
    ]
    for layer in sources:
        assert type(layer) is {"RNN": bptt.RNN, "GRU": bptt.GRU, "LSTM": bptt.LSTM}[op]
        y, final = layer(node.inputs["X"])
        assert error(y.reshape(5, 2, 2, 4).swapaxes(1, 2), Y) < TOLERANCE["float32"]
        states = final if isinstance(final, tuple) else (final,)
        for state, want in zip(states, finals):
            assert error(state, want) < TOLERANCE["float32"]


def test_layout_1_is_batch_first() -> None:
    node = plain_node("GRU", layout=1)
    inputs = {**node.inputs, "X": node.inputs["X"].swapaxes(0, 1)}
    layer = bptt.onnx.load(one_node_model(node._replace(inputs=inputs), WEIGHTS))
    assert isinstance(layer, bptt.GRU)
    assert layer.batch_first


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_reverse_nodes_are_reverse_layers(op: str) -> None:
    node = plain_node(op, direction="reverse")
    parts = {n: a[:1] if n in "WRB" else a for n, a in node.inputs.items()}
    node = node._replace(inputs=parts)
    Y, Y_h, *_ = bptt.onnx.Operator(proto(node))(**node.inputs)
    layer = bptt.onnx.load(one_node_model(node, WEIGHTS))
    assert layer.reverse
    y, final = layer(node.inputs["X"])
    assert error(y[:, None], Y) < TOLERANCE["float32"]
    state = final[0] if isinstance(final, tuple) else final
    assert error(state, Y_h) < TOLERANCE["float32"]


def test_what_no_layer_expresses_is_an_operator_or_a_model() -> None:
    mixed = plain_node("RNN", activations=["Tanh", "Relu"])
    state = plain_node("RNN")
    state.inputs["initial_h"] = np.ones((2, 2, 4), np.float32)
    for node, constant in ((mixed, WEIGHTS), (state, (*WEIGHTS, "initial_h"))):
        given = {n: a for n, a in node.inputs.items() if n in constant}
        operator = bptt.onnx.load(proto(node), given)
        assert isinstance(operator, bptt.onnx.Operator)
        model = bptt.onnx.load(one_node_model(node, constant))
        assert isinstance(model, bptt.onnx.Model)
        want = bptt.onnx.Operator(proto(node))(**node.inputs)
        for got in (operator(node.inputs["X"]), model(node.inputs["X"]).values()):
            assert all(error(g, w) == 0 for g, w in zip(got, want))


@pytest.mark.parametrize("seed", range(12))
def test_random_models_of_one_node(seed: int) -> None:
    """Whatever is made of a model, its numbers are onnxruntime's."""
    pytest.importorskip("onnxruntime")
    node = random_node(np.random.default_rng(1000 + seed))
    node.inputs.pop("sequence_lens", None)
    constant = ("W", "R", "B", "P") if seed % 3 else ("W", "R", "initial_h")
    model = one_node_model(node, constant)
    given = {n: a for n, a in node.inputs.items() if n not in constant}
    want = run_onnxruntime(model, given)
    loaded = bptt.onnx.load(model)
    if isinstance(loaded, bptt.onnx.Model):
        got: list[Any] = list(loaded(given).values())
    else:
        state = tuple(given[n] for n in ("initial_h", "initial_c") if n in given)
        if state and len(state) < loaded.structure.states:
            pytest.skip("a layer takes both states")
        y, final = loaded(node.inputs["X"], state if len(state) > 1 else (state or [None])[0])
        D = 1 + loaded.bidirectional
        got = [y.reshape(*y.shape[:2], D, -1).swapaxes(1, 2)]
        got += final if isinstance(final, tuple) else [final]
    for g, w in zip(got, want):
        assert error(g, w) < TOLERANCE["float32"]


# --- graphs ---------------------------------------------------------------------------------------


def test_models_learn_by_their_layers() -> None:
    layers = [bptt.GRU(3, 4, 2, seed=0), bptt.Linear(4, 2, seed=1)]
    model = bptt.onnx.load(bptt.onnx.export(layers))
    assert list(model.layers) == ["gru_l0", "gru_l1"]
    assert list(model.operators) == list(model.layers)
    x = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)
    before = model(x)["y"]
    bottom, top = model.layers.values()
    bottom.parameters["weight_ih_l0"] += 0.5
    top.parameters["bias_hh_l0"] -= 0.25
    layers[0].parameters["weight_ih_l0"] += 0.5
    layers[0].parameters["bias_hh_l1"] -= 0.25
    after = model(x)["y"]
    assert error(after, layers[1](layers[0](x)[0])) < TOLERANCE["float32"]
    assert error(after, before) > 0.01


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_learn_alone(copied: Any) -> None:
    layers = [bptt.LSTM(3, 4, seed=0), bptt.Linear(4, 2, seed=1)]
    model = bptt.onnx.load(bptt.onnx.export(layers))
    x = np.random.default_rng(0).normal(size=(6, 2, 3))
    before, other = model(x)["y"], copied(model)
    assert error(other(x)["y"], before) == 0
    other.layers["lstm_l0"].parameters["bias_ih_l0"] += 1
    assert error(other(x)["y"], before) > 0.01
    assert error(model(x)["y"], before) == 0
    assert other.operators["lstm_l0"].layer is other.layers["lstm_l0"]


def test_inputs_by_place_and_by_name() -> None:
    layer = bptt.LSTM(3, 4, seed=0)
    exported = bptt.onnx.export([layer, bptt.Linear(4, 2, seed=0)], lengths=True, state=True)
    model = bptt.onnx.load(exported)
    rng = np.random.default_rng(0)
    x, h, c = (rng.normal(size=s) for s in ((5, 2, 3), (1, 2, 4), (1, 2, 4)))  # of float64
    inputs = {"x": x, "lengths": [5, 3], "h0": h, "c0": c}
    assert list(model.inputs) == list(inputs)
    assert model.inputs["x"] == bptt.onnx.Input(np.dtype("float32"), ("time", "batch", 3))
    calls = [model(inputs), model(*inputs.values()), model(x, [5, 3], c0=c, h0=h), model(**inputs)]
    assert list(calls[0]) == list(model.outputs) == ["y", "h", "c"]
    for other in calls[1:]:
        assert all(error(other[n], calls[0][n]) == 0 for n in other)
    text = repr(model)
    assert "lstm_l0: LSTM(3, 4)" in text
    assert text.startswith("Model(x float32(time, batch, 3), lengths int32(batch)")


def test_weights_that_nodes_compute() -> None:
    """Constant weights may be cast, joined and turned before they reach the node."""
    node = plain_node("LSTM")
    make, from_array = onnx.make_node, importlib.import_module("onnx.numpy_helper").from_array
    W = node.inputs["W"].astype(np.float64)
    before = [
        make("Cast", ["turned"], ["single"], to=onnx.np_dtype_to_tensor_dtype(np.dtype("f4"))),
        make("Concat", ["single", "second"], ["W"], axis=0),
    ]
    before.insert(0, make("Transpose", ["first"], ["turned"], perm=[0, 2, 1]))
    parts = {"first": W[:1].swapaxes(1, 2), "second": node.inputs["W"][1:]}
    model = one_node_model(node, ("R", "B", "W"))
    graph = model.graph
    kept = [t for t in graph.initializer if t.name != "W"]
    del graph.initializer[:]
    graph.initializer.extend(kept + [from_array(np.ascontiguousarray(a), n)
                                     for n, a in parts.items()])  # fmt: skip
    after = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *after])
    layer = bptt.onnx.load(model)
    assert isinstance(layer, bptt.LSTM)
    want = bptt.onnx.load(one_node_model(node, WEIGHTS))
    assert all(error(layer.parameters[n], a) == 0 for n, a in want.parameters.items())


def test_functions_of_a_model_are_written_out() -> None:
    node = plain_node("GRU")
    inner = onnx.make_node("GRU", ["a", "w", "r"], ["b"], hidden_size=4, direction="bidirectional")
    opsets = [onnx.make_opsetid("", 22), onnx.make_opsetid("own", 1)]
    function = onnx.make_function("own", "Both", ["a", "w", "r"], ["b"], [inner], opsets[:1])
    call = onnx.make_node("Both", ["X", "W", "R"], ["Y"], domain="own")
    model = one_node_model(node._replace(inputs={n: node.inputs[n] for n in "XWR"}), ("W", "R"))
    graph = onnx.make_graph(
        [call], "g", model.graph.input, model.graph.output[:1], model.graph.initializer
    )
    written = onnx.make_model(graph, opset_imports=opsets, functions=[function], ir_version=10)
    layer = bptt.onnx.load(written)
    assert isinstance(layer, bptt.GRU)
    assert not layer.bias
    assert not layer.reset_after


def test_layers_inside_other_nodes() -> None:
    """`load_layers` finds nodes in branches, whose weights may lie or be made outside."""
    node = plain_node("LSTM")
    model = one_node_model(node, WEIGHTS)
    branch = onnx.make_graph([proto(node)], "branch", [], model.graph.output[:1])
    condition = onnx.make_tensor_value_info("condition", 9, [])
    outer = onnx.make_node("If", ["condition"], ["Y"], then_branch=branch, else_branch=branch)
    for tensor in model.graph.initializer:
        if tensor.name == "W":
            tensor.name = "first"
    maker = onnx.make_node("Identity", ["first"], ["W"])
    graph = onnx.make_graph(
        [maker, outer], "g", [*model.graph.input, condition], model.graph.output[:1],
        model.graph.initializer,
    )  # fmt: skip
    nested = onnx.make_model(graph, opset_imports=[onnx.make_opsetid("", 22)], ir_version=10)
    layers = bptt.onnx.load_layers(nested)
    assert list(layers) == ["node", "node_"]
    want = bptt.onnx.load(one_node_model(node, WEIGHTS))
    for layer in layers.values():
        assert all(error(layer.parameters[n], a) == 0 for n, a in want.parameters.items())
    with pytest.raises(ValueError, match=r"\(If\), which bptt does not run; bptt.onnx.load_layers"):
        bptt.onnx.load(nested)


def test_weights_in_another_file(tmp_path: Path) -> None:
    layer, save = bptt.GRU(30, 40, seed=0), importlib.import_module("onnx").save
    model, path = bptt.onnx.export(layer), tmp_path / "model.onnx"
    more = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    save(model, path, **more)
    loaded = bptt.onnx.load(path)
    assert all(error(loaded.parameters[n], a) == 0 for n, a in layer.parameters.items())
    with pytest.raises(ValueError, match="is in another file, expected the path of the model"):
        bptt.onnx.load(path.read_bytes())
    inner = tmp_path / "inner"
    inner.mkdir()
    for entry in (e for t in model.graph.initializer for e in t.external_data):
        entry.value = entry.value.replace("weights.bin", "../weights.bin")
    (inner / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="weights in another file, which cannot be read"):
        bptt.onnx.load(inner / "model.onnx")  # a path that leads out of the folder
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ValueError, match="weights in another file, which cannot be read"):
        bptt.onnx.load(path)


# --- whole numbers --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # of the package
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["QInt8", "QUInt8"])
def test_quantized_lstm(tmp_path: Path, per_channel: bool, kind: str) -> None:
    package = pytest.importorskip("onnxruntime.quantization")
    lstm = bptt.LSTM(6, 12, bidirectional=True, seed=0)
    bptt.onnx.export(lstm, tmp_path / "float.onnx")
    weight_type = getattr(package.QuantType, kind)
    # Without `reduce_range`, onnxruntime's products saturate on CPUs that lack VNNI.
    package.quantize_dynamic(
        tmp_path / "float.onnx", tmp_path / "int8.onnx", per_channel=per_channel,
        reduce_range=True, weight_type=weight_type, op_types_to_quantize=["LSTM"],
    )  # fmt: skip
    model = importlib.import_module("onnx").load(tmp_path / "int8.onnx")
    assert "DynamicQuantizeLSTM" in {n.op_type for n in model.graph.node}
    found = bptt.onnx.load(model)
    assert isinstance(found, bptt.LSTM)
    for name, array in lstm.parameters.items():
        step = 2 * np.abs(array).max() / 125 if "weight" in name else 1e-9
        assert np.abs(found.parameters[name] - array).max() <= step
    x = np.random.default_rng(0).normal(size=(7, 3, 6)).astype(np.float32)
    (want, *_) = run_onnxruntime(model, {"x": x})
    y, _ = found(x)
    # onnxruntime rounds x and h to 8 bits as well.
    assert error(y, want) < 0.04
    assert error(np.roll(y, 1, 2), want) > 0.3
    written = bptt.onnx.export(bptt.onnx.Model(model))
    assert "LSTM" in {n.op_type for n in written.graph.node}
    assert error(run_onnxruntime(written, {"x": x})[0], y) < TOLERANCE["float32"]


# --- the other nodes ------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [10, 13, 17, 22])
def test_old_versions_of_quantisation(opset: int) -> None:
    """ONNX's reference has only newer ones."""
    node = plain_node("GRU")
    whole = np.round(node.inputs["W"] * 30).clip(-128, 127).astype(np.int8)
    of_array = importlib.import_module("onnx.numpy_helper").from_array
    model = one_node_model(node, ("R", "B"))
    del model.graph.input[1]
    model.opset_import[0].version = opset
    model.graph.initializer.extend(
        [of_array(whole, "whole"), of_array(np.float32(1 / 30), "scale"),
         of_array(np.int8(3), "zero")]
    )  # fmt: skip
    made = onnx.make_node("DequantizeLinear", ["whole", "scale", "zero"], ["W"])
    nodes_of_graph = [made, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes_of_graph)
    (got,) = bptt.onnx.load_layers(model).values()
    W = (whole.astype(np.float32) - 3) * np.float32(1 / 30)
    want = bptt.onnx.load(proto(node), {"W": W, "R": node.inputs["R"], "B": node.inputs["B"]})
    assert error(got.parameters["weight_ih_l0"], want.parameters["weight_ih_l0"]) < 1e-6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of ONNX's own cases
def test_other_operators_pass_the_cases_of_the_backend() -> None:
    """Each has one or more cases. Some types and attributes are refused, and then by name."""
    loader = importlib.import_module("onnx.backend.test.loader")
    to_array = importlib.import_module("onnx.numpy_helper").to_array
    passed, refusals = set(), []
    for case in loader.load_model_tests(kind="node"):
        graph = case.model.graph
        if len(graph.node) != 1 or graph.node[0].op_type not in nodes.OPERATORS:
            continue
        (node,), opset = graph.node, constants.opset_of("test", case.model)
        for inputs, outputs in case.data_sets:
            arrays = [to_array(a) if hasattr(a, "dims") else a for a in inputs]
            values = dict(zip((i.name for i in graph.input), arrays))
            try:
                results = nodes.OtherNode("test", node, opset)(values).values()
            except ValueError as refused:
                refusals.append(str(refused))
                continue
            for got, want in zip(results, outputs):
                want = to_array(want) if hasattr(want, "dims") else want
                assert np.shape(got) == np.shape(want), case.name
                if np.asarray(want).dtype.kind in "iufb" and "bernoulli" not in case.name:
                    np.testing.assert_allclose(
                        np.asarray(got, float), np.asarray(want, float), case.rtol, case.atol
                    )
            passed.add(node.op_type)
    assert passed == nodes.OPERATORS
    assert all(text.startswith("test: the node of ") for text in refusals)
