# SPDX-License-Identifier: MIT
"""`load_model`: files, dicts, modules and messages of every kind, and what it makes of them."""

from __future__ import annotations

import json
import pickle
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt

T, B, I, H = 7, 3, 4, 5
RNG = np.random.default_rng(0)
X = RNG.standard_normal((T, B, I)).astype(np.float32)


def torch_or_skip() -> Any:
    return pytest.importorskip("torch")


def equal(layer: Any, module: Any) -> None:
    """The layer's outputs are the module's."""
    torch = sys.modules["torch"]
    x = torch.tensor(X)
    expected = module(x.swapaxes(0, 1) if getattr(module, "batch_first", False) else x)
    expected = expected[0] if isinstance(expected, tuple) else expected
    found = layer(X.swapaxes(0, 1) if getattr(layer, "batch_first", False) else X)
    found = found[0] if isinstance(found, tuple) else found
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5, atol=1e-6)


# --- dicts of arrays ------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "net.", "module.net.rnn."])
@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_names_of_a_cell_under_any_prefix(kind: str, prefix: str) -> None:
    torch = torch_or_skip()
    cell = getattr(torch.nn, kind)(I, H)
    layer = bptt.load_model({prefix + k: v for k, v in cell.state_dict().items()})
    state = torch.zeros(B, H)
    state = (state, state) if kind == "LSTMCell" else state
    for t, x in enumerate(torch.tensor(X)):
        state = cell(x, state)
        h = state[0] if isinstance(state, tuple) else state
        np.testing.assert_allclose(layer(X[: t + 1])[1][0] if kind != "LSTMCell" else
                                   layer(X[: t + 1])[1][0][0][None],
                                   h.detach().numpy()[None] if kind == "LSTMCell" else
                                   h.detach().numpy(), atol=1e-6)  # fmt: skip
    assert repr(bptt.load_model(cell)) == repr(layer)


@pytest.mark.parametrize("missing", ["bias_hh", "bias_ih"])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_missing_bias_is_0(kind: str, missing: str) -> None:
    layer = getattr(bptt, kind)(I, H, 2, bidirectional=True, seed=0)
    left = {k: v for k, v in layer.parameters.items() if not k.startswith(missing)}
    for name, array in layer.parameters.items():
        if name.startswith(missing):
            array[...] = 0
    np.testing.assert_array_equal(bptt.load_model(left)(X)[0], layer(X)[0])


def test_a_bias_missing_in_one_layer_alone_is_named() -> None:
    arrays = dict(bptt.GRU(I, H, 2, seed=0).parameters)
    del arrays["bias_hh_l1"]
    with pytest.raises(ValueError, match="missing names \\['bias_hh_l1'\\]"):
        bptt.load_model(arrays)


def test_one_name_twice_is_refused() -> None:
    arrays = {**bptt.GRU(I, H, seed=0).parameters, "weight_ih": np.ones((15, I))}
    with pytest.raises(ValueError, match="'weight_ih' and weight_ih_l0 are both given"):
        bptt.load_model(arrays)


def test_several_layers_are_a_dict_and_a_name_may_be_its_end() -> None:
    parts = {"net.encoder": bptt.LSTM(I, H, seed=0), "net.decoder": bptt.GRU(H, H, seed=1)}
    arrays = bptt.optim.join(**{k: v.parameters for k, v in parts.items()})
    found = bptt.load_model(arrays)
    assert list(found) == list(parts)
    assert all(repr(found[k]) == repr(parts[k]) for k in parts)
    assert all(layer.batch_first for layer in bptt.load_model(arrays, batch_first=True).values())
    for name in ("encoder", "net.encoder"):
        np.testing.assert_array_equal(
            bptt.load_model(arrays, name)(X)[0], parts["net.encoder"](X)[0]
        )
    both = {**arrays, **{f"ema.{k}": v for k, v in arrays.items()}}
    text = "name is 'encoder', expected one of ['net.encoder', 'ema.net.encoder']"
    with pytest.raises(ValueError, match=re.escape(text)):
        bptt.load_model(both, "encoder")
    for name in ("coder", "net", ""):
        with pytest.raises(ValueError, match=f"name is '{name}', expected one of"):
            bptt.load_model(arrays, name)


def test_a_dense_layer_or_an_embedding_by_name() -> None:
    rnn, head, table = bptt.RNN(I, H), bptt.Linear(H, 2), bptt.Embedding(7, I)
    arrays = bptt.optim.join(
        rnn=rnn.parameters, **{"m.head": head.parameters, "m.table": table.parameters}
    )
    assert repr(bptt.load_model(arrays)) == repr(rnn)
    found = bptt.load_model(arrays, "head", activation="tanh")
    np.testing.assert_array_equal(found.parameters["weight"], head.parameters["weight"])
    assert found.activation == "tanh"
    with pytest.raises(ValueError, match="expected cell='linear' or cell='embedding'"):
        bptt.load_model(arrays, "table")
    assert repr(bptt.load_model(arrays, "table", cell="embedding")) == repr(table)
    linear = bptt.load_model(arrays, "m.table", cell="linear")
    assert repr(linear) == repr(bptt.Linear(I, 7, bias=False))
    for name, cell in (("head", "embedding"), ("head", "lstm"), ("rnn", "linear")):
        with pytest.raises(ValueError, match=f"cell is '{cell}', expected one of"):
            bptt.load_model(arrays, name, cell=cell)
    with pytest.raises(TypeError, match="Linear has no option 'batch_first'"):
        bptt.load_model(arrays, "head", batch_first=True)
    norm = {**arrays, "norm.weight": np.ones(H), "norm.bias": np.ones(H)}
    with pytest.raises(ValueError, match=r"weight of shape \(5,\), expected a matrix"):
        bptt.load_model(norm, "norm")
    with pytest.raises(ValueError, match=r"'m.head' has the names .*'m.head.scale'"):
        bptt.load_model({**arrays, "m.head.scale": np.ones(2)}, "head")


# --- modules of PyTorch ---------------------------------------------------------------------------


def test_every_layer_of_a_module() -> None:
    torch = torch_or_skip()
    nn = torch.nn

    class Tagger(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, I)
            self.body = nn.ModuleList([nn.GRU(I, H, 2, batch_first=True), nn.LSTM(H, H)])
            self.cell = nn.GRUCell(H, H)
            self.drop = nn.Dropout(0.5)
            self.head = nn.Sequential(nn.Linear(H, H), nn.Tanh(), nn.Linear(H, 2, bias=False))

    module = Tagger().double()
    found = bptt.load_model(module)
    assert {name: type(layer).__name__ for name, layer in found.items()} == {
        "table": "Embedding", "body.0": "GRU", "body.1": "LSTM", "cell": "GRU", "head.0": "Linear",
        "head.2": "Linear",
    }  # fmt: skip
    assert all(layer.dtype == np.float64 for layer in found.values())
    state = module.state_dict()
    for name, layer in found.items():
        for parameter, array in layer.parameters.items():
            key = f"{name}.{parameter}"
            key = key.removesuffix("_l0") if name == "cell" else key
            np.testing.assert_array_equal(array, state[key].numpy())
    module.conv = nn.Conv1d(2, 2, 3)
    text = "source has 'conv' of type Conv1d, which bptt lacks, expected name= with one of ['table"
    with pytest.raises(ValueError, match=re.escape(text)):
        bptt.load_model(module)
    module.float()
    equal(bptt.load_model(module, "body.0"), module.body[0])
    assert bptt.load_model(module, "body.1", dtype="float64").dtype == np.float64
    module.start = nn.Parameter(torch.zeros(H))
    with pytest.raises(ValueError, match="source has '' of type Tagger, which bptt lacks"):
        bptt.load_model(module)


def test_a_module_under_a_parametrization_or_in_training() -> None:
    torch = torch_or_skip()
    module = torch.nn.LSTM(I, H, 2)
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    equal(bptt.load_model(module), module)
    dropping = torch.nn.GRU(I, H, 2, dropout=0.5)
    assert bptt.load_model(dropping).dropout == 0.5
    assert bptt.load_model(dropping.eval()).dropout == 0
    assert bptt.load_model(torch.nn.RNN(I, H, nonlinearity="relu")).activation == "relu"
    assert bptt.load_model(torch.nn.RNNCell(I, H, nonlinearity="relu")).activation == "relu"
    with pytest.raises(ValueError, match=r"has max_norm=1\.0, expected None"):
        bptt.load_model(torch.nn.Embedding(3, 2, max_norm=1.0))
    with pytest.raises(ValueError, match="source is Tanh without parameters"):
        bptt.load_model(torch.nn.Tanh())
    with pytest.raises(TypeError, match="cell is 'lstm', expected None unless arrays are given"):
        bptt.load_model(module, cell="lstm")


# --- files ----------------------------------------------------------------------------------------


def test_state_dicts_and_checkpoints(tmp_path: Path) -> None:
    torch = torch_or_skip()
    net = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(I, H), "out": torch.nn.Linear(H, 1)})
    adam = torch.optim.Adam(net.parameters())
    net["out"](net["rnn"](torch.tensor(X))[0]).sum().backward()
    adam.step()
    checkpoints = {
        "flat": net.state_dict(),
        "nested": {"epoch": 7, "state_dict": net.state_dict(), "optimizer": adam.state_dict()},
        "deep": {"a": {"b": {"model": net.state_dict()}}, "losses": [1.0, 2.0], "name": "x"},
        "bf16": {"model": {k: v.bfloat16() for k, v in net.state_dict().items()}},
    }
    for name, state in checkpoints.items():
        path = tmp_path / f"{name}.pt"
        torch.save(state, path)
        layer = bptt.load_model(path)
        if name != "bf16":
            equal(layer, net["rnn"])
        assert layer.dtype == np.float32
        assert repr(bptt.load_model(path, "out")) == repr(bptt.Linear(H, 1))
    torch.save({"a": net["rnn"].state_dict(), "b": net["rnn"].state_dict()}, tmp_path / "two.pt")
    assert list(bptt.load_model(tmp_path / "two.pt")) == ["a", "b"]
    torch.save({"a": {"b.w": torch.ones(2)}, "a.b": {"w": torch.ones(2)}}, tmp_path / "same.pt")
    with pytest.raises(ValueError, match=r"holds 'a.b.w' twice, expected different names"):
        bptt.load_model(tmp_path / "same.pt")
    many = torch.ones(1000)
    torch.save({f"weight{k}": many for k in range(1000)}, tmp_path / "many.pt")
    with pytest.raises(ValueError, match="repeats its numbers under many names"):
        bptt.load_model(tmp_path / "many.pt")
    torch.save([net.state_dict()], tmp_path / "list.pt")
    with pytest.raises(ValueError, match=r"list\.pt holds a list, expected a dict of tensors"):
        bptt.load_model(tmp_path / "list.pt")
    torch.save(net, tmp_path / "module.pt")
    with pytest.raises(ValueError, match="holds objects that could run code when they are read"):
        bptt.load_model(tmp_path / "module.pt")


def test_pickles_are_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(dict(bptt.GRU(I, H).parameters)))
    with pytest.raises(ValueError, match="which runs code when it is read") as info:
        bptt.load_model(path)
    assert "pass the arrays: bptt.load_model(arrays)" in str(info.value)
    assert type(bptt.load_model(pickle.loads(path.read_bytes()))) is bptt.GRU


def test_rtneural_by_number_and_with_options(tmp_path: Path) -> None:
    layers = [bptt.LSTM(1, 4, 2, seed=0), bptt.Linear(4, 1, activation="tanh", seed=1)]
    bptt.save_rtneural(tmp_path / "a.json", layers)
    found = bptt.load_model(tmp_path / "a.json")
    assert {k: type(v).__name__ for k, v in found.items()} == {
        "0": "LSTM",
        "1": "LSTM",
        "2": "Linear",
    }
    given = bptt.load_model(tmp_path / "a.json", batch_first=True, dtype="float64")
    assert given["0"].batch_first
    assert {layer.dtype.name for layer in given.values()} == {"float64"}
    assert type(bptt.load_model(tmp_path / "a.json", "2")) is bptt.Linear
    bptt.save_rtneural(tmp_path / "b.json", [bptt.GRU(1, 4, seed=0)])
    assert type(bptt.load_model(tmp_path / "b.json")) is bptt.GRU
    with pytest.raises(TypeError, match="LSTM has no option 'foo'"):
        bptt.load_model(tmp_path / "a.json", foo=1)
    with pytest.raises(TypeError, match="dtype is int8, expected float32 or float64"):
        bptt.load_model(tmp_path / "a.json", dtype="int8")


def nam(sizes: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """A file of Neural Amp Modeler, and its equations, sample by sample."""
    inputs, hidden, layers = sizes
    cells, numbers = [], []
    for k in range(layers):
        wide = (hidden if k else inputs) + hidden
        cell = [RNG.standard_normal(shape).astype(np.float32).astype(float)
                for shape in ((4 * hidden, wide), (4 * hidden,), (hidden,), (hidden,))]  # fmt: skip
        cells.append(cell)
        numbers += [number for array in cell for number in array.reshape(-1).tolist()]
    head = RNG.standard_normal(hidden + 1).astype(np.float32).astype(float)
    numbers += head.tolist()
    config = {"input_size": inputs, "hidden_size": hidden, "num_layers": layers}
    model = {"version": "0.5.4", "architecture": "LSTM", "config": config, "weights": numbers,
             "sample_rate": 48000}  # fmt: skip

    def process(samples: Any) -> Any:
        state = [(h.copy(), c.copy()) for *_, h, c in cells]
        y = []
        for x in samples:
            for k, (w, b, *_) in enumerate(cells):
                h, c = state[k]
                i, f, g, o = np.split(w @ np.concatenate([x, h]) + b, 4)
                c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
                x = np.tanh(c) / (1 + np.exp(-o))
                state[k] = x, c
            y.append(head[:-1] @ x + head[-1])
        return np.array(y)

    return model, process


@pytest.mark.parametrize("sizes", [(1, 3, 1), (1, 8, 2), (2, 4, 3)])
def test_nam(sizes: tuple[int, int, int], tmp_path: Path) -> None:
    model, process = nam(sizes)
    (tmp_path / "amp.nam").write_text(json.dumps(model))
    found = bptt.load_model(tmp_path / "amp.nam", dtype="float64")
    assert list(found) == ["lstm", "head"]
    x = RNG.standard_normal((20, sizes[0]))
    y = found["head"](found["lstm"](x[:, None])[0])
    np.testing.assert_allclose(y[:, 0, 0], process(x), atol=1e-12)
    assert bptt.load_model(tmp_path / "amp.nam", "lstm").dtype == np.float32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "WaveNet"}, "architecture is 'WaveNet', expected 'LSTM'"),
        ({"config": 3}, "config is 3.0, expected an object"),
        ({"config": {"hidden_size": 3}}, "config.num_layers is None, expected a whole number"),
        (
            {"config": {"hidden_size": 1e9, "num_layers": 1}},
            "hidden_size is 1000000000.0, expected",
        ),
        ({"config": {"hidden_size": 9, "num_layers": 1}}, "weights has 70 numbers, expected 424"),
        ({"weights": 3}, "weights has float numbers, expected 70"),
        ({"weights": ["a"] * 70}, "weights[0] is 'a', expected a number"),
        ({"weights": [1e300] * 70}, "weights has numbers too large, expected float32"),
    ],
)
def test_nam_that_does_not_fit(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    model, _ = nam((1, 3, 1))
    (tmp_path / "amp.nam").write_text(json.dumps({**model, **change}))
    with pytest.raises(ValueError, match=re.escape(words)) as info:
        bptt.load_model(tmp_path / "amp.nam")
    assert "amp.nam" in str(info.value)


# --- ONNX and others ------------------------------------------------------------------------------


def test_onnx_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = {"encoder": bptt.GRU(I, H), "decoder": bptt.GRU(H, H)}
    module = types.ModuleType("bptt.onnx")
    module.load = lambda source: ("loaded", source)  # type: ignore[attr-defined]
    module.load_layers = lambda source: layers  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bptt.onnx", module)
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x08\x12\x04test")
    assert bptt.load_model(path) == ("loaded", str(path))
    assert bptt.load_model(path, "encoder") is layers["encoder"]
    with pytest.raises(ValueError, match="name is 'x', expected one of"):
        bptt.load_model(path, "x")
    with pytest.raises(TypeError, match="cell is 'gru', expected None"):
        bptt.load_model(path, cell="gru")
    with pytest.raises(TypeError, match=r"options \['batch_first'\] are given, expected none"):
        bptt.load_model(path, batch_first=True)
    onnx = pytest.importorskip("onnx")
    for message in (onnx.ModelProto(), onnx.GraphProto(), onnx.NodeProto()):
        assert bptt.load_model(message)[1] is message


def test_layers_of_bptt_stay_and_others_are_refused(tmp_path: Path) -> None:
    for layer in (bptt.GRU(I, H), bptt.Linear(2, 3), bptt.Embedding(2, 3)):
        assert bptt.load_model(layer) is layer
        with pytest.raises(TypeError, match="cell or options are given, expected none"):
            bptt.load_model(layer, batch_first=True)
    with pytest.raises(
        TypeError, match="load_model: source is of type int, expected a path, a dict"
    ):
        bptt.load_model(3)
    with pytest.raises(TypeError, match="load_model: name is 3, expected the name of a layer"):
        bptt.load_model({}, 3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        bptt.load_model(tmp_path / "no.npz")
    (tmp_path / "a.csv").write_text("1,2\n")
    with pytest.raises(ValueError, match=r"is a table, which numpy\.loadtxt reads"):
        bptt.load_model(tmp_path / "a.csv")
    (tmp_path / "a.xyz").write_text("hello")
    with pytest.raises(ValueError, match=r"is damaged or not a model: safetensors, npz, torch\."):
        bptt.load_model(tmp_path / "a.xyz")
    with pytest.raises(ValueError, match="gradient_flow: model is of type Linear, expected a recu"):
        bptt.gradient_flow(bptt.Linear(2, 3), X)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_the_file_of_an_estimator_is_not_loaded_in_part(suffix: str, tmp_path: Path) -> None:
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    path, kind = tmp_path / f"m.{suffix}", bptt.models.SequenceClassifier
    model = kind(hidden_size=5, epochs=1, seed=0).fit(RNG.standard_normal((8, 6, 4)), [0, 1] * 4)
    model.save(path)
    with pytest.raises(
        ValueError, match=r"load_model: .*expected bptt\.models\.load for all of it"
    ):
        bptt.load_model(path)
    layer = bptt.load_model(path, "0")
    assert np.array_equal(layer(X)[0], model.model_.layers[0](X)[0])
    with pytest.raises(TypeError, match="SequenceClassifier, whose network is model_, expected a"):
        bptt.gradient_flow(model, X)
