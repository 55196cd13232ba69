# SPDX-License-Identifier: MIT
"""docs/coming_from.md: its table of conventions is what the installed libraries do."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import bptt
from bptt._guesses import ARGUMENTS, ATTRIBUTES, OF_OPTIMISERS, RENAMED
from support.paths import ROOT

os.environ.setdefault("KERAS_BACKEND", "torch")

PAGE = (ROOT / "docs" / "coming_from.md").read_text("utf-8")

T, B, I, H = 5, 3, 4, 6
RNG = np.random.default_rng(0)
X = RNG.standard_normal((T, B, I)).astype(np.float32)


class Row(NamedTuple):
    """One library in the page's first table."""

    lstm: str
    gru: str
    inverted: bool
    reset_after: bool
    forget_bias: str

    def order(self, cell: str) -> str:
        return self.lstm if cell == "lstm" else self.gru


def rows() -> dict[str, Row]:
    table = PAGE.split("## Conventions side by side")[1].split("\n\n")[2]
    cells = [[c.strip() for c in line[1:-1].split("|")] for line in table.splitlines()[2:]]
    return {
        name: Row(
            lstm.replace(" ", ""), gru.replace(" ", ""), update == "`z * n`",
            reset.startswith("after"), bias,
        )
        for name, lstm, gru, update, reset, bias in cells
    }  # fmt: skip


ROWS = rows()


def test_every_library_has_a_row() -> None:
    assert list(ROWS) == "bptt PyTorch Keras ONNX RTNeural DyNet Paddle cuDNN".split()
    for row in ROWS.values():
        assert (sorted(row.lstm), sorted(row.gru)) == (sorted("ifgo"), sorted("rzn"))
    assert PAGE.count("| cuDNN |") == 3


def randomised(shapes: list[tuple[int, ...]]) -> list[np.ndarray[Any, Any]]:
    """Values far enough from 0 that gates in another order give other outputs."""
    return [RNG.standard_normal(shape).astype(np.float32) for shape in shapes]


# Each makes a layer of its library with random weights and its default options, and returns its
# outputs for X, (T, B, H), and its weights with gates as rows: w_ih, w_hh, b_ih and, if it has
# two biases, b_hh.
Run = tuple[Any, list[Any]]


def pytorch(cell: str) -> Run:
    torch = pytest.importorskip("torch")
    layer = getattr(torch.nn, cell.upper())(I, H)
    arrays = randomised([tuple(p.shape) for p in layer.parameters()])
    layer.load_state_dict(dict(zip(layer.state_dict(), map(torch.tensor, arrays))))
    return layer(torch.tensor(X))[0].detach().numpy(), arrays


def keras_on_torch() -> Any:
    pytest.importorskip("torch")
    library = pytest.importorskip("keras")
    if library.backend.backend() != "torch":
        pytest.skip("Keras has another backend than torch")
    return library


def keras(cell: str) -> Run:
    library = keras_on_torch()
    layer = getattr(library.layers, cell.upper())(H, return_sequences=True)
    layer.build((None, None, I))
    if cell == "lstm":
        start = layer.weights[2].value.detach().numpy()
        gates = dict(zip(ROWS["Keras"].lstm, np.split(start, 4)))
        assert ROWS["Keras"].forget_bias == "starts at 1"
        assert all((gates[k] == (k == "f")).all() for k in "ifgo")
    kernel, recurrent, bias = randomised([w.shape for w in layer.weights])
    layer.set_weights([kernel, recurrent, bias])
    y = layer(X.swapaxes(0, 1)).detach().numpy().swapaxes(0, 1)
    return y, [kernel.T, recurrent.T, *(bias if bias.ndim == 2 else [bias])]


def onnx(cell: str) -> Run:
    library = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    make, kinds, gates = library.helper, library.TensorProto, 4 if cell == "lstm" else 3
    W, R, b = randomised([(1, gates * H, I), (1, gates * H, H), (1, 2 * gates * H)])
    inputs = {"X": X, "W": W, "R": R, "B": b}
    node = make.make_node(cell.upper(), list(inputs), ["Y"], hidden_size=H)
    infos = [make.make_tensor_value_info(k, kinds.FLOAT, v.shape) for k, v in inputs.items()]
    outputs = [make.make_tensor_value_info("Y", kinds.FLOAT, (T, 1, B, H))]
    graph = make.make_graph([node], "one", infos, outputs)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 22)], ir_version=10)
    session = runtime.InferenceSession(model.SerializeToString())
    return session.run(None, inputs)[0][:, 0], [W[0], R[0], *np.split(b[0], 2)]


def rtneural(cell: str, tmp_path: Path) -> Run:
    """Read by `load_rtneural`, which tests/ hold to files of RTNeural's own."""
    gates = 4 if cell == "lstm" else 3
    shapes = [(I, gates * H), (H, gates * H), (gates * H,) if cell == "lstm" else (2, gates * H)]
    kernel, recurrent, bias = randomised(shapes)
    entry = {"type": cell, "shape": [None, None, H], "activation": ""}
    entry["weights"] = [w.tolist() for w in (kernel, recurrent, bias)]
    path = tmp_path / "layer.json"
    path.write_text(json.dumps({"in_shape": [None, None, I], "layers": [entry]}))
    (layer,) = bptt.load_rtneural(path)
    assert isinstance(layer, (bptt.LSTM, bptt.GRU))
    return layer(X)[0], [kernel.T, recurrent.T, *(bias if bias.ndim == 2 else [bias])]


def dynet(cell: str) -> Run:
    library = pytest.importorskip("dynet")
    collection = library.ParameterCollection()
    kind = library.VanillaLSTMBuilder if cell == "lstm" else library.GRUBuilder
    builder = kind(1, I, H, collection)
    arrays = randomised([p.shape() for p in collection.parameters_list()])
    for parameter, array in zip(collection.parameters_list(), arrays):
        parameter.set_value(array)
    y = np.empty((T, B, H), np.float32)
    for b in range(B):
        library.renew_cg()
        steps = [library.inputVector(x) for x in X[:, b]]
        y[:, b] = [h.value() for h in builder.initial_state().transduce(steps)]
    return y, arrays if cell == "lstm" else [np.concatenate(arrays[k::3]) for k in range(3)]


def paddle(cell: str) -> Run:
    library = pytest.importorskip("paddle")
    layer = getattr(library.nn, cell.upper())(I, H, time_major=True)
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    arrays = randomised([getattr(layer, name).shape for name in names])
    for name, array in zip(names, arrays):
        getattr(layer, name).set_value(array)
    state = {k: v.numpy() for k, v in layer.state_dict().items() if "." not in k}
    assert all(np.array_equal(state[name], array) for name, array in zip(names, arrays))
    return layer(library.to_tensor(X))[0].numpy(), arrays


LIBRARIES: dict[str, Callable[..., Run]] = {
    "PyTorch": pytorch, "Keras": keras, "ONNX": onnx, "DyNet": dynet, "Paddle": paddle,
}  # fmt: skip


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("name", [*LIBRARIES, "RTNeural"])
def test_a_row_of_the_table_is_what_the_library_does(name: str, cell: str, tmp_path: Path) -> None:
    y, weights = LIBRARIES[name](cell) if name in LIBRARIES else rtneural(cell, tmp_path)
    row = ROWS[name]
    how: dict[str, Any] = {"gates": row.order(cell)}
    if cell == "gru":
        how |= {"reset_after": row.reset_after, "update": "inverted" if row.inverted else "keep"}
    elif row.forget_bias.startswith("1 is added"):
        how["forget_bias"] = 1
    layer = bptt.layer_from_arrays(cell, *weights, **how)
    np.testing.assert_allclose(layer(X)[0], y, rtol=0, atol=1e-5)


def test_every_call_of_the_page_has_the_convention_of_its_test() -> None:
    """The page's calls are those of tests/exchange/test_conventions.py, but for names."""
    page = PAGE.split("## Converting weights")[1].split("## PyTorch")[0]
    tested = (ROOT / "tests" / "exchange" / "test_conventions.py").read_text("utf-8")

    def conventions(text: str) -> set[str]:
        calls = re.findall(r"layer_from_arrays\((.*?)\n?\)$", text, re.DOTALL | re.MULTILINE)
        words = r"(gates|update|transposed|forget_bias|reset_after|activation)=(\"?\w+\"?)"
        return {repr(sorted(re.findall(words, call))) for call in calls}

    named = conventions(page)
    assert len(named) > 8
    assert named <= conventions(re.sub(r"reset_after=after", "", tested))


def test_keras_repeats_the_last_output_in_the_padding() -> None:
    layer = keras_on_torch().layers.LSTM(H, return_sequences=True)
    mask = np.arange(T) < 2
    y = layer(X[:, :1].swapaxes(0, 1), mask=mask[None])[0].detach().numpy()
    assert np.array_equal(y[2:], np.repeat(y[1:2], T - 2, axis=0))
    assert "where Keras repeats the last one" in PAGE


def test_defaults_of_the_tables_are_those_of_the_libraries() -> None:
    library = keras_on_torch()
    torch = pytest.importorskip("torch")
    for layer in (library.layers.LSTM(H), library.layers.GRU(H)):
        assert not layer.return_sequences
        initialisers = layer.get_config()
        assert initialisers["kernel_initializer"]["class_name"] == "GlorotUniform"
        assert initialisers["recurrent_initializer"]["class_name"] == "Orthogonal"
    assert library.optimizers.Adam().epsilon == 1e-7
    assert torch.optim.Adam([torch.zeros(1)]).defaults["eps"] == 1e-8
    for module, ours in (
        (torch.nn.LSTM(I, H), bptt.LSTM(I, H)),
        (torch.nn.GRU(I, H), bptt.GRU(I, H)),
    ):
        assert not module.batch_first
        shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
        assert shapes == {name: p.shape for name, p in ours.parameters.items()}
    one = torch.ones(1)
    assert torch.nn.functional.hardsigmoid(one).item() == pytest.approx(0.5 + 1 / 6)
    assert float(library.activations.hard_sigmoid(one)) == pytest.approx(0.5 + 1 / 6)


@pytest.mark.parametrize("name", {**ATTRIBUTES, **OF_OPTIMISERS, **RENAMED, **ARGUMENTS})
def test_names_that_errors_answer_are_on_the_page(name: str) -> None:
    there = "\n".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| "))
    assert re.search(rf"\b{name}\b", there)
