# SPDX-License-Identifier: MIT
"""Graphs as PyTorch and Keras export them."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt.onnx
from support.compare import TOLERANCE, error
from support.onnx_nodes import run_onnxruntime

pytest.importorskip("onnx.helper")

# Of the exporters, which are about to change.
pytestmark = pytest.mark.filterwarnings("ignore")
torch: Any = pytest.importorskip("torch")


def exported(module: Any, inputs: tuple[Any, ...], axes: dict[str, Any] | None, new: bool) -> Any:
    """The model of a module, by the exporter of TorchScript or the newer one."""
    load = importlib.import_module("onnx").load_model_from_string
    module = module.eval()
    if new:
        pytest.importorskip("onnxscript")
        shapes = None
        if axes:
            shapes = tuple(
                {k: torch.export.Dim(name) for k, name in axes[key].items()} for key in axes
            )
        program = torch.onnx.export(
            module, inputs, dynamo=True, verbose=False, dynamic_shapes=shapes
        )
        return program.model_proto
    file = io.BytesIO()
    names = list(axes) if axes else None
    torch.onnx.export(
        module, inputs, file, dynamo=False, input_names=names, dynamic_axes=axes
    )  # fmt: skip
    return load(file.getvalue())


class Tagger(torch.nn.Module):  # type: ignore[misc]
    """Embedding, two layers in both directions, a map at each step; and the last states."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(11, 5)
        self.recurrent = cell(5, 6, 2, bidirectional=True, batch_first=True)
        self.head = torch.nn.Linear(12, 3)

    def forward(self, tokens: Any) -> Any:
        y, state = self.recurrent(self.embedding(tokens))
        h = state[0] if isinstance(state, tuple) else state
        return self.head(y).log_softmax(-1), torch.cat([h[-2], h[-1]], 1)


class Filtered(torch.nn.Module):  # type: ignore[misc]
    """A convolution in time with a pool, a layer, attention over its outputs, a class."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv1d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm1d(8)
        self.recurrent = cell(8, 6, batch_first=True)
        self.score, self.head = torch.nn.Linear(6, 1), torch.nn.Linear(6, 4)
        self.after = torch.nn.LayerNorm(6)

    def forward(self, x: Any) -> Any:
        a = torch.relu(self.norm(self.convolution(x.transpose(1, 2)))).transpose(1, 2)
        y, _ = self.recurrent(a)
        weight = torch.softmax(self.score(torch.tanh(y)), 1)
        return self.head(self.after((weight * y).sum(1)))


class Packed(torch.nn.Module):  # type: ignore[misc]
    """Sequences of different lengths, as PyTorch packs them."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.recurrent = cell(3, 6, 2, bidirectional=True)

    def forward(self, x: Any, lengths: Any) -> Any:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths)
        y, state = self.recurrent(packed)
        h = state[0] if isinstance(state, tuple) else state
        return torch.nn.utils.rnn.pad_packed_sequence(y)[0], h


CELLS = ["LSTM", "GRU"]


@pytest.mark.parametrize("new", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("cell", CELLS)
def test_trained_models_are_written(cell: str, new: bool, tmp_path: Path) -> None:
    """A model is loaded, trained, written, and run by onnxruntime and bptt."""
    torch.manual_seed(0)
    module, tokens = Tagger(getattr(torch.nn, cell)), torch.randint(0, 11, (2, 7))
    axes = {"tokens": {0: "batch", 1: "time"}}
    loaded = bptt.onnx.load(exported(module, (tokens,), axes, new))
    before = list(loaded(tokens).values())
    for layer in loaded.layers.values():
        for array in layer.parameters.values():
            array += 0.1
    written = bptt.onnx.export(loaded, tmp_path / "model.onnx")
    importlib.import_module("onnx.checker").check_model(written, full_check=True)
    assert (tmp_path / "model.onnx").read_bytes() == written.SerializeToString()
    bptt.onnx.export(loaded, tmp_path / "model.onnx")  # may be replaced
    again = bptt.onnx.load(tmp_path / "model.onnx")
    name = written.graph.input[0].name
    inputs = torch.randint(0, 11, (3, 5)).numpy()
    want = list(loaded(inputs).values())
    for got in (run_onnxruntime(written, {name: inputs}), again(inputs).values()):
        assert all(error(g, w) < TOLERANCE["float32"] for g, w in zip(got, want))
    changed = list(loaded(tokens).values())
    assert all(error(c, b) > 0.01 for c, b in zip(changed, before))
    with torch.no_grad():
        for parameter in module.recurrent.parameters():
            parameter += 0.1
    assert error(changed[0], module(tokens)[0].detach().numpy()) < TOLERANCE["float32"]


def compare(module: Any, model: Any, loaded: Any, *inputs: Any) -> None:
    """PyTorch, onnxruntime and the loaded model, on the same inputs."""
    with torch.no_grad():
        want = module(*inputs)
    want = [part.numpy() for part in (want if isinstance(want, tuple) else (want,))]
    arrays = [part.numpy() for part in inputs]
    names = [i.name for i in model.graph.input]
    pytest.importorskip("onnxruntime")
    runtime = run_onnxruntime(model, dict(zip(names, arrays)))
    for got in (runtime, loaded(*arrays).values()):
        for array, part in zip(got, want):
            assert error(array, part) < TOLERANCE["float32"]


@pytest.mark.parametrize("new", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("cell", CELLS)
def test_taggers(cell: str, new: bool) -> None:
    torch.manual_seed(0)
    module = Tagger(getattr(torch.nn, cell))
    axes = {"tokens": {0: "batch", 1: "time"}}
    model = exported(module, (torch.randint(0, 11, (2, 7)),), axes, new)
    loaded = bptt.onnx.load(model)
    assert isinstance(loaded, bptt.onnx.Model)
    assert len(loaded.layers) == 2
    for shape in ((2, 7), (3, 4), (1, 9)):
        compare(module, model, loaded, torch.randint(0, 11, shape))


@pytest.mark.parametrize("new", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("cell", CELLS)
def test_convolution_and_attention(cell: str, new: bool) -> None:
    torch.manual_seed(0)
    module = Filtered(getattr(torch.nn, cell)).eval()
    axes = {"x": {0: "batch", 1: "time"}}
    model = exported(module, (torch.randn(2, 7, 3),), axes, new)
    loaded = bptt.onnx.load(model)
    assert isinstance(loaded, bptt.onnx.Model)
    (layer,) = loaded.layers.values()
    assert layer.hidden_size == 6
    for shape in ((2, 7, 3), (3, 5, 3)):
        compare(module, model, loaded, torch.randn(shape))


@pytest.mark.parametrize("cell", CELLS)
def test_packed_sequences(cell: str) -> None:
    """Of the older exporter: the newer one does not take them."""
    torch.manual_seed(0)
    module = Packed(getattr(torch.nn, cell))
    axes = {"x": {0: "time", 1: "batch"}, "lengths": {0: "batch"}}
    model = exported(module, (torch.randn(7, 2, 3), torch.tensor([7, 4])), axes, False)
    layer = bptt.onnx.load(model)
    assert type(layer) is getattr(bptt, cell)
    assert (layer.num_layers, layer.bidirectional) == (2, True)
    x, lengths = torch.randn(5, 3, 3), torch.tensor([5, 3, 1])
    with torch.no_grad():
        want_y, want_h = module(x, lengths)
    y, state = layer(x.numpy(), lengths=lengths.numpy())
    h = state[0] if isinstance(state, tuple) else state
    assert error(y, want_y.numpy()) < TOLERANCE["float32"]
    assert error(h, want_h.numpy()) < TOLERANCE["float32"]


@pytest.mark.parametrize("new", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_layers_alone_come_back_as_layers(
    cell: str, two: bool, batch_first: bool, new: bool
) -> None:
    torch.manual_seed(0)
    module = getattr(torch.nn, cell)(3, 5, 2, bidirectional=two, batch_first=batch_first)
    model = exported(module, (torch.randn(4, 2, 3),), None, new)
    layer = bptt.onnx.load(model)
    assert type(layer) is getattr(bptt, cell)
    assert layer.batch_first == batch_first
    assert list(layer.parameters) == list(module.state_dict())
    for name, tensor in module.state_dict().items():
        assert error(layer.parameters[name], tensor.numpy()) == 0


def test_plain_rnn_with_an_initial_state() -> None:
    torch.manual_seed(0)
    module = torch.nn.RNN(3, 5, nonlinearity="relu")
    axes = {"input": {0: "time", 1: "batch"}, "hx": {1: "batch"}}
    model = exported(module, (torch.randn(4, 2, 3), torch.randn(1, 2, 5)), axes, False)
    layer = bptt.onnx.load(model)
    assert isinstance(layer, bptt.RNN)
    assert layer.activation == "relu"


@pytest.mark.slow  # TensorFlow takes several seconds to import
def test_keras(tmp_path: Path) -> None:
    """By tf2onnx, which writes nodes for LSTM; for a GRU it writes loops, which are refused."""
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras has another backend")
    pytest.importorskip("tf2onnx")
    K, rng = keras.layers, np.random.default_rng(0)
    load = importlib.import_module("onnx").load_model_from_string

    def model_of(*layers: Any, x: Any) -> tuple[Any, Any]:
        model = keras.Sequential([keras.Input((None, *x.shape[2:])), *layers])
        y = model.predict(x, verbose=0)
        path = tmp_path / "model.onnx"
        model.export(path, format="onnx", verbose=False)
        return load(path.read_bytes()), y

    tokens, series = rng.integers(0, 11, (2, 7)), rng.normal(size=(2, 7, 3)).astype(np.float32)
    graph, y = model_of(
        K.Embedding(11, 5), K.Bidirectional(K.LSTM(6, return_sequences=True)), K.LSTM(4),
        K.Dense(3, activation="softmax"), x=tokens,
    )  # fmt: skip
    model = bptt.onnx.load(graph)
    assert len(model.layers) == 2
    assert error(next(iter(model(tokens).values())), y) < TOLERANCE["float32"]
    graph, y = model_of(
        K.Conv1D(5, 3, padding="same", activation="relu"), K.LSTM(4, return_sequences=True),
        K.Dense(2, activation="tanh"), x=series,
    )  # fmt: skip
    model = bptt.onnx.load(graph)
    assert len(model.layers) == 1
    assert error(next(iter(model(series).values())), y) < TOLERANCE["float32"]
    graph, _ = model_of(K.GRU(4), x=series)
    with pytest.raises(ValueError, match="the graph has no recurrent node"):
        bptt.onnx.load(graph)
