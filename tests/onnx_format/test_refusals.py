# SPDX-License-Identifier: MIT
"""What ONNX or bptt does not know is refused by name; damaged files end in one plain sentence."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt.onnx
from support.child import output
from support.onnx_nodes import ORDER

helper = pytest.importorskip("onnx.helper")

H = 3


def operator(op: str = "LSTM", **attributes: Any) -> bptt.onnx.Operator:
    inputs = ORDER if op == "LSTM" else ORDER[:6]
    node = helper.make_node(op, inputs, ["Y"], name="encoder", hidden_size=H, **attributes)
    return bptt.onnx.Operator(node)


# --- nodes ----------------------------------------------------------------------------------------

NODES: list[tuple[str, dict[str, Any], str]] = [
    ("RNN", {"direction": "up"}, "direction is 'up', expected one of"),
    ("RNN", {"direction": 1}, "direction is of kind INT, expected STRING"),
    ("RNN", {"layout": 2}, "layout is 2, expected 0 or 1"),
    ("RNN", {"clip": 0.0}, "clip is 0, expected more than 0"),
    ("RNN", {"clip": float("nan")}, "clip is nan, expected more than 0"),
    ("RNN", {"linear_before_reset": 1}, "has the attribute 'linear_before_reset', expected none"),
    ("GRU", {"input_forget": 1}, "has the attribute 'input_forget', expected none such"),
    ("GRU", {"linear_before_reset": 7}, "linear_before_reset is 7, expected 0 or 1"),
    ("LSTM", {"gate_order": "iofc"}, "has the attribute 'gate_order', expected none such"),
    ("LSTM", {"activations": ["Tanh"]}, "activations has 1 names, expected 3: 3 for each"),
    ("GRU", {"activations": ["Sigmoid", "Tanh", "Tanh"], "direction": "bidirectional"},
     "activations has 3 names, expected 4"),
    ("RNN", {"activations": ["Swish"]}, "activations has 'Swish', expected one of Relu, Tanh"),
    ("RNN", {"activations": ["ScaledTanh"]}, "activation_alpha has no finite number for Scaled"),
    ("RNN", {"activations": ["Elu"], "activation_alpha": [float("inf")]},
     "activation_alpha has no finite number for Elu"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attributes", "message"), NODES)
def test_attributes(op: str, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^encoder \({op}\): .*{message}"):
        operator(op, **attributes)


def test_hidden_size() -> None:
    node = helper.make_node("RNN", ["X", "W", "R"], ["Y"], hidden_size=0)
    with pytest.raises(ValueError, match=r"^the node of Y \(RNN\): hidden_size is 0, expected 1"):
        bptt.onnx.Operator(node)


def test_inputs_of_nodes() -> None:
    short = helper.make_node("RNN", ["X", "W"], ["Y"])
    with pytest.raises(ValueError, match="the node has no input R, expected one"):
        bptt.onnx.Operator(short)
    long = helper.make_node("GRU", [*"abcdefgh"], ["Y"])
    with pytest.raises(ValueError, match="the node has 8 inputs, expected 6"):
        bptt.onnx.Operator(long)
    other = helper.make_node("MatMul", ["a", "b"], ["c"], name="product")
    with pytest.raises(ValueError, match=r"source is product \(MatMul\), expected RNN, GRU or"):
        bptt.onnx.load(other)
    for value in (None, "LSTM", 3):
        with pytest.raises(TypeError, match=r"node is \w+, expected an onnx.NodeProto"):
            bptt.onnx.Operator(value)


def arrays(T: int = 4, B: int = 2, I: int = 5) -> dict[str, Any]:
    shapes = {"X": (T, B, I), "W": (1, 4 * H, I), "R": (1, 4 * H, H)}
    return {name: np.ones(shape) for name, shape in shapes.items()}


CALLS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"X": np.ones((4, 5))}, ValueError, r"X has shape \(4, 5\), expected 3 axes"),
    ({"X": np.ones((4, 2, 6))}, ValueError, "X has 6 features, expected 5, as W"),
    ({"X": np.ones((4, 2, 5), complex)}, TypeError, "X has dtype complex128, expected real"),
    ({"W": None}, ValueError, r"W is missing, expected 3 axes: \(D, G\*H, ...\)"),
    ({"W": np.ones((1, 9, 5))}, ValueError, r"W has shape \(1, 9, 5\), expected \(D, G\*H, I\) ="),
    ({"R": np.ones((1, 12, 4))}, ValueError, r"R has shape \(1, 12, 4\), expected \(D, G\*H, H\)"),
    ({"B": np.ones((1, 12))}, ValueError, r"B has shape \(1, 12\), expected \(D, 2\*G\*H\)"),
    ({"P": np.ones((1, 12))}, ValueError, r"P has shape \(1, 12\), expected \(D, 3\*H\)"),
    ({"initial_h": np.ones((2, 1, H))}, ValueError, r"initial_h has shape .*\(D, B, H\) = \(1, 2"),
    ({"initial_c": np.ones((1, 2, 4))}, ValueError, r"initial_c has shape .*\(D, B, H\) = \(1, 2"),
    ({"sequence_lens": [5, 0]}, ValueError, r"sequence_lens has values 0..5, expected 0..T = 0..4"),
    ({"sequence_lens": [1]}, ValueError, r"sequence_lens has shape \(1,\), expected \(B,\)"),
    ({"sequence_lens": [1.0, 2.0]}, TypeError, "sequence_lens has dtype float64, expected int"),
]


@pytest.mark.parametrize(("changed", "kind", "message"), CALLS)
def test_arrays(changed: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=rf"^encoder \(LSTM\): {message}"):
        operator()(**{**arrays(), **changed})


def test_gradients() -> None:
    lstm = operator()
    outputs, tape = lstm.forward(**arrays())
    assert [o.shape for o in outputs] == [(4, 1, 2, H), (1, 2, H), (1, 2, H)]
    with pytest.raises(TypeError, match="tape is tuple, expected forward's"):
        lstm.backward(outputs)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"dY has shape \(4, 2, 3\), expected \(T, D, B, H\)"):
        lstm.backward(tape, np.ones((4, 2, H)))
    with pytest.raises(ValueError, match=r"dY_c has shape \(2, 3\), expected \(D, B, H\)"):
        lstm.backward(tape, dY_c=np.ones((2, H)))
    rnn, inputs = operator("RNN"), [np.ones(s) for s in ((4, 2, 5), (1, H, 5), (1, H, H))]
    _, tape = rnn.forward(*inputs)
    c = np.ones((1, 2, H))
    with pytest.raises(ValueError, match="dY_c is given, expected none: there is no Y_c"):
        rnn.backward(tape, dY_c=c)
    with pytest.raises(ValueError, match="initial_c is given, expected none for RNN"):
        rnn(*inputs, initial_c=c)


# --- models ---------------------------------------------------------------------------------------


def model(**changed: Any) -> Any:
    layers = [bptt.GRU(2, H, seed=0), bptt.Linear(H, 2, seed=0)]
    return bptt.onnx.load(bptt.onnx.export(layers, **changed))


def test_inputs_of_models() -> None:
    x = np.ones((4, 1, 2))
    run = model(lengths=True)
    for call, kind, message in [
        (lambda: run(), ValueError, r"the inputs \['x', 'lengths'\] are missing"),
        (lambda: run(x), ValueError, r"the inputs \['lengths'\] are missing"),
        (lambda: run(x, [4], x), TypeError, r"3 arrays are given, expected 2: \['x', 'lengths'\]"),
        (lambda: run(x, [4], h=x), TypeError, r"the input 'h' is given, expected \['x', 'len"),
        (lambda: run(x, x=x), TypeError, "the input 'x' is given, expected .*, each once"),
        (lambda: run(x, [4.0]), TypeError, "input lengths has dtype float64, expected int32"),
        (lambda: run(1j * x, [4]), TypeError, "input x has dtype complex128, expected float32"),
        (lambda: run(x[0], [4]), ValueError,
         r"input x has shape \(1, 2\), expected \(time, batch, 2\)"),
        (lambda: run(x[..., :1], [4]), ValueError, r"input x has shape \(4, 1, 1\), expected"),
        (lambda: run(x, [9]), ValueError, r"gru_l0 \(GRU\): sequence_lens has values 9..9"),
    ]:  # fmt: skip
        with pytest.raises(kind, match=rf"^load: {message}"):
            call()


def test_graphs() -> None:
    def changed(change: Any) -> Any:
        proto = bptt.onnx.export([bptt.GRU(2, H, seed=0), bptt.Linear(H, 2, seed=0)])
        change(proto)
        return proto

    def rename(proto: Any) -> None:
        proto.graph.node[-1].op_type = "Einsum"

    def foreign(proto: Any) -> None:
        proto.graph.node[-1].domain = "com.example"

    def forget(proto: Any) -> None:
        del proto.graph.node[1]

    def empty(proto: Any) -> None:
        del proto.graph.node[:]

    def others(proto: Any) -> None:
        del proto.graph.node[:-1]

    def newer(proto: Any) -> None:
        proto.opset_import[0].version = 9999

    def output_of_none(proto: Any) -> None:
        proto.graph.output[0].name = "z"

    def sequence(proto: Any) -> None:
        proto.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1

    def short(proto: Any) -> None:
        proto.graph.initializer[0].raw_data = b"short"

    for change, message in [
        (rename, r"the graph has .*\(Einsum\), which bptt does not run; bptt.onnx.load_layers"),
        (foreign, r"the graph has .*\(Identity\) of com.example, which bptt does not run"),
        (
            forget,
            r"\(MatMul\) reads 'gru_l0_y', expected an input or the output of a node before it",
        ),
        (empty, "load has no node, expected a recurrent one"),
        (others, "the graph has no recurrent node, expected RNN, GRU or LSTM"),
        (newer, r"the model is of opset 9999, expected 1..\d+, which the installed"),
        (output_of_none, "no node computes the output 'z'"),
        (sequence, "the input 'x' is not a tensor, expected one"),
        (short, r"gru_l0_W is damaged: "),
    ]:
        with pytest.raises(ValueError, match=message):
            bptt.onnx.load(changed(change).SerializeToString())


def test_layers_that_are_none() -> None:
    node = helper.make_node("RNN", ["X", "W", "R"], ["Y"], name="free", hidden_size=H)
    infos = [helper.make_tensor_value_info(n, 1, None) for n in ("X", "W", "R", "Y")]
    graph = helper.make_graph([node], "g", infos[:3], infos[3:])
    made = helper.make_model(graph, ir_version=10)
    with pytest.raises(ValueError, match=r"load_layers: free \(RNN\) is not a layer: its weights"):
        bptt.onnx.load_layers(made)
    given = {n: np.ones(s) for n, s in (("W", (1, H, 2)), ("R", (1, H, H)), ("h", (1, 2, H)))}
    from_array = importlib.import_module("onnx.numpy_helper").from_array
    graph.initializer.extend(from_array(a, n) for n, a in given.items())
    del graph.input[1:]
    graph.node[0].input.extend(["", "", "h"])
    own = helper.make_model(graph, ir_version=10)
    with pytest.raises(ValueError, match=r"not a layer: \['initial_h'\] are constant, and other"):
        bptt.onnx.load_layers(own)
    assert isinstance(bptt.onnx.load(own), bptt.onnx.Model)
    with pytest.raises(TypeError, match="initializers are given, expected none: the model has"):
        bptt.onnx.load(made, {})
    with pytest.raises(TypeError, match="initializers is int, expected a dict of arrays or a list"):
        bptt.onnx.load(node, 3)
    with pytest.raises(TypeError, match="initializers has 3, expected names and tensors"):
        bptt.onnx.load(node, {3: 1})
    with pytest.raises(TypeError, match="initializers has ndarray, expected names and tensors"):
        bptt.onnx.load(node, [np.ones(2)])


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [bptt.onnx.load, bptt.onnx.load_layers])
def test_files_that_are_none(tmp_path: Path, load: Any) -> None:
    path = tmp_path / "model.onnx"
    for content in (b"", b"text", b"\x08\x0a", bytes(100), b"\xff" * 64, b"\x89HDF\r\n\x1a\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"^load\w*: .*model.onnx is damaged or not an ONNX"):
            load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.onnx")
    with pytest.raises(ValueError, match="is not a regular file, expected one"):
        load(tmp_path)
    with pytest.raises(TypeError, match=r"source is int, expected a path, bytes, an onnx.ModelP"):
        load(3)


def test_truncated_files() -> None:
    """Any beginning of a file is refused."""
    for layers in (bptt.LSTM(2, H, 2, seed=0), [bptt.GRU(2, H, seed=0), bptt.Linear(H, 2, seed=0)]):
        content = bptt.onnx.export(layers, lengths=True, state=True).SerializeToString()
        for size in range(0, len(content), 7):
            with pytest.raises(ValueError, match=r"^load") as error:
                bptt.onnx.load(content[:size])
            assert str(error.value).isprintable()


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files(seed: int) -> None:
    """A changed byte may be a changed number; anything else is a plain sentence."""
    rng, refused = np.random.default_rng(seed), 0
    layers = [bptt.LSTM(2, H, bidirectional=True, seed=0), bptt.Linear(2 * H, 2, seed=0)]
    content = bptt.onnx.export(layers, lengths=True).SerializeToString()
    for _ in range(200):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        try:
            bptt.onnx.load(bytes(damaged))
        except ValueError as error:
            refused += 1
            text = str(error)
            if not (text.startswith("load") and "\n" not in text and len(text) < 300):
                raise
    assert 40 < refused < 200


# --- the package ----------------------------------------------------------------------------------


def test_nothing_imports_the_package_before_it_is_used() -> None:
    program = """
        import sys
        import bptt, bptt.onnx
        print([name for name in ("onnx", "onnxruntime", "torch") if name in sys.modules])
    """
    assert output(program) == "[]\n"


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = bptt.GRU(2, 3)
    for name in ("onnx", "onnx.helper"):
        monkeypatch.setitem(importlib.import_module("sys").modules, name, None)
    for call in (
        lambda: bptt.onnx.load("model.onnx"),
        lambda: bptt.onnx.load_layers(b""),
        lambda: bptt.onnx.export(layer),
        lambda: bptt.onnx.Operator(None),
    ):
        with pytest.raises(ImportError, match=r'package onnx is not installed, .*"bptt\[onnx\]"$'):
            call()
