# SPDX-License-Identifier: MIT
"""Exported layers are valid models, compute the same in onnxruntime, and come back as they were."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt.onnx
from support.compare import TOLERANCE, error
from support.onnx_nodes import run_onnxruntime

pytest.importorskip("onnx.helper")
pytest.importorskip("onnxruntime")

HARD = {"gate_activation": "hard_sigmoid", "activation": "relu"}
LAYERS: list[tuple[type[Any], dict[str, Any]]] = [
    (bptt.RNN, {}),
    (bptt.RNN, {"activation": "leaky_relu", "preact_clip": 0.7, "bias": False}),
    (bptt.RNN, {"activation": "identity"}),
    (bptt.RNN, {"activation": "sigmoid", "dropout": 0.5}),
    (bptt.GRU, {}),
    (bptt.GRU, {"reset_after": False, "preact_clip": 0.5}),
    (bptt.GRU, {"bias": False, **HARD}),
    (bptt.LSTM, {}),
    (bptt.LSTM, {"peepholes": True, "preact_clip": 0.5}),
    (bptt.LSTM, {"forget_gate": "coupled", "peepholes": True, "recurrent_dropout": 0.5}),
    (bptt.LSTM, {"output_activation": "identity", **HARD}),
    (bptt.LSTM, {"gate_activation": ("hard_sigmoid", 0.2), "activation": "softsign"}),
    (bptt.LSTM, {"activation": ("scaled_tanh", 1.7, 0.6), "output_activation": ("elu", 0.5)}),
    (
        bptt.GRU,
        {"gate_activation": ("scaled_tanh", 0.9, 0.5), "activation": ("thresholded_relu", 0.1)},
    ),
    (bptt.GRU, {"gate_activation": ("affine", 0.3, 0.1), "activation": "leaky_relu"}),
    (bptt.RNN, {"activation": ("leaky_relu", 0.2)}),
    (bptt.LSTM, {"reverse": True, "peepholes": True}),
    (bptt.GRU, {"reverse": True}),
]
LEARNT: list[tuple[type[Any], dict[str, Any]]] = [
    (bptt.RNN, {"activation": "relu"}),
    (bptt.GRU, {"reset_after": False, "reverse": True}),
    (bptt.LSTM, {"peepholes": True}),
]
FORMS = list(product((1, 2), (False, True), (False, True), (False, True)))


def forms_of(options: dict[str, Any]) -> Iterator[tuple[int, bool, bool, bool]]:
    """num_layers, bidirectional, batch_first, and whether there are lengths."""
    return (form for form in FORMS if not (form[1] and options.get("reverse")))


def checked(model: Any) -> Any:
    importlib.import_module("onnx.checker").check_model(model, full_check=True)
    assert model.ir_version <= 10
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 22)]
    return model


def compare(layer: Any, lengths: bool, state: bool, sizes: tuple[int, int]) -> None:
    """The layer's call and its model in onnxruntime; one sequence may have no step."""
    rng, (T, B) = np.random.default_rng(0), sizes
    x = rng.normal(size=(B, T, 3) if layer.batch_first else (T, B, 3)).astype(np.float32)
    inputs: dict[str, Any] = {"x": x}
    if lengths:
        inputs["lengths"] = np.array([T, 0, 1, 2][:B], np.int32)
    shape = (layer.structure.cells, B, 4)
    states = [rng.normal(size=shape).astype(np.float32) for _ in range(layer.structure.states)]
    if state:
        inputs |= zip(("h0", "c0"), states)
    initial: Any = (tuple(states) if len(states) > 1 else states[0]) if state else None
    y, final = layer(x, initial, inputs.get("lengths"))
    model = checked(bptt.onnx.export(layer, lengths=lengths, state=state))
    got = run_onnxruntime(model, inputs)
    for array, want in zip(got, [y, *(final if isinstance(final, tuple) else (final,))]):
        assert error(array, want) < TOLERANCE["float32"]


@pytest.mark.filterwarnings("ignore:.*dropout acts between layers")
@pytest.mark.parametrize(("kind", "options"), LAYERS)
def test_onnxruntime_computes_the_same(kind: type[Any], options: dict[str, Any]) -> None:
    for k, (num_layers, two, first, lengths) in enumerate(forms_of(options)):
        layer = kind(
            3, 4, num_layers, bidirectional=two, batch_first=first, seed=k, **options
        )  # fmt: skip
        compare(layer, lengths, bool(k % 3), (5 - k % 2, 3 + k % 2))


@pytest.mark.filterwarnings("ignore:.*dropout acts between layers")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "options"), LAYERS)
def test_round_trip(kind: type[Any], options: dict[str, Any], dtype: str) -> None:
    kept = {n: v for n, v in options.items() if "dropout" not in n}
    for k, (num_layers, two, first, lengths) in enumerate(forms_of(options)):
        more = {"bidirectional": two, "batch_first": first, "dtype": dtype}
        layer = kind(3, 4, num_layers, seed=k, **more, **options)
        back = bptt.onnx.load(bptt.onnx.export(layer, lengths=lengths, state=bool(k % 2)))
        assert repr(back) == repr(kind(3, 4, num_layers, **more, **kept))
        assert all(error(back.parameters[n], a) == 0 for n, a in layer.parameters.items())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "options"), LEARNT)
def test_a_learnt_initial_state(kind: type[Any], options: dict[str, Any], dtype: str) -> None:
    """onnxruntime and the loaded model begin with it; `compare` has a sequence without a step."""
    rng = np.random.default_rng(0)
    for k, (num_layers, two, first, lengths) in enumerate(forms_of(options)):
        layer = kind(
            3, 4, num_layers, bidirectional=two, batch_first=first, seed=k, learn_state=True,
            dtype=dtype, **options,
        )  # fmt: skip
        names = [name for name in layer.parameters if name[0] in "hc"]
        assert len(names) == layer.structure.cells * layer.structure.states
        layer.parameters.update({name: rng.normal(size=4) for name in names})
        if dtype == "float32":
            for state in (False, True):
                compare(layer, lengths, state, (5, 4))
        model = bptt.onnx.load(bptt.onnx.export(layer, lengths=lengths))
        x = rng.normal(size=(4, 4, 3))
        given = {"lengths": [4, 0, 1, 2]} if lengths else {}
        y, state = layer(x, **given)
        want = [y, *(state if isinstance(state, tuple) else (state,))]
        for array, expected in zip(model({"x": x, **given}).values(), want, strict=True):
            assert error(array, expected) < TOLERANCE[dtype]
        for load in (bptt.onnx.load_layers, lambda m: bptt.load_model(m, f"{kind.__name__}_l0")):
            with pytest.raises(ValueError, match="are constant, and other than 0"):
                load(bptt.onnx.export(layer))


def test_one_model_takes_all_sizes() -> None:
    layer = bptt.GRU(3, 4, 2, bidirectional=True, seed=0)
    runtime = importlib.import_module("onnxruntime")
    content = bptt.onnx.export(layer, lengths=True).SerializeToString()
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for T, B in ((1, 1), (9, 2), (3, 7)):
        x = rng.normal(size=(T, B, 3)).astype(np.float32)
        lengths = rng.integers(1, T + 1, B).astype(np.int32)
        y, h = session.run(None, {"x": x, "lengths": lengths})
        want, state = layer(x, lengths=lengths)
        assert error(y, want) < TOLERANCE["float32"]
        assert error(h, state) < TOLERANCE["float32"]


@pytest.mark.parametrize("activation", ["identity", "tanh", "relu", "sigmoid", "elu", "softmax"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_chains(activation: str, batch_first: bool) -> None:
    """Embedding, two recurrent layers with a map between them, and a head."""
    layers = [
        bptt.Embedding(9, 3, seed=0),
        bptt.LSTM(3, 4, bidirectional=True, batch_first=batch_first, seed=1),
        bptt.Linear(8, 5, bias=False, seed=2),
        bptt.LSTM(5, 4, 2, batch_first=batch_first, seed=3),
        bptt.Linear(4, 2, activation=activation, seed=4),
    ]
    model = checked(bptt.onnx.export(layers, lengths=True))
    embedding, lower, between, upper, head = layers
    x = np.random.default_rng(0).integers(0, 9, (2, 6) if batch_first else (6, 2))
    lengths = np.array([6, 4], np.int32)
    low, (h1, c1) = lower(embedding(x), lengths=lengths)
    high, (h2, c2) = upper(between(low), lengths=lengths)
    want = {"y": head(high), "lstm1_h": h1, "lstm1_c": c1, "lstm2_h": h2, "lstm2_c": c2}
    loaded = bptt.onnx.load(model)
    assert list(loaded.layers) == ["lstm1_l0", "lstm2_l0", "lstm2_l1"]
    for got in (run_onnxruntime(model, {"x": x, "lengths": lengths}), loaded(x, lengths).values()):
        for array, (_, result) in zip(got, want.items()):
            assert error(array, result) < TOLERANCE["float32"]
    assert loaded.outputs == tuple(want)


def test_gradients_survive_a_round_trip() -> None:
    layer = bptt.LSTM(3, 4, 2, peepholes=True, dtype="float64", seed=0)
    back = bptt.onnx.load(bptt.onnx.export(layer))
    x = np.random.default_rng(0).normal(size=(5, 2, 3))
    (y, _, tape), (y2, _, tape2) = layer.forward(x), back.forward(x)
    one, two = layer.backward(tape, y), back.backward(tape2, y2)
    assert error(one.x, two.x) == 0
    assert all(error(one.params[n], d) == 0 for n, d in two.params.items())


# --- files ----------------------------------------------------------------------------------------


def test_files_are_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, layer = tmp_path / "model.onnx", bptt.GRU(3, 4, seed=0)
    model = bptt.onnx.export(layer, path)
    assert path.read_bytes() == model.SerializeToString()
    before = path.read_bytes()
    bptt.onnx.export(bptt.GRU(3, 4, seed=1), path)  # an earlier one is replaced
    assert path.read_bytes() != before
    before = path.read_bytes()

    def fail(source: str, target: str) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        bptt.onnx.export(layer, path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_files_of_others_stay(tmp_path: Path) -> None:
    other = tmp_path / "notes.onnx"
    model = bptt.onnx.export(bptt.GRU(3, 4, seed=0))
    model.producer_name = "another"
    for content in (b"notes", model.SerializeToString()):
        other.write_bytes(content)
        with pytest.raises(ValueError, match="not known to be an ONNX model made by bptt"):
            bptt.onnx.export(bptt.GRU(3, 4, seed=0), other)
        assert other.read_bytes() == content


# --- refusals -------------------------------------------------------------------------------------


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (bptt.MGU(2, 3), ValueError, "is MGU, expected RNN, GRU, LSTM, Linear or Embedding"),
    (bptt.SLSTM(2, 4), ValueError, "is SLSTM, expected RNN, GRU, LSTM"),
    (bptt.LSTM1997(2, 4), ValueError, "is LSTM1997, expected RNN, GRU, LSTM"),
    (bptt.LSTM(2, 4, proj_size=2), ValueError, "has proj_size=2, expected 0: ONNX supports no"),
    (bptt.LSTM(2, 4, cell_clip=2), ValueError, "has cell_clip=2.0, expected None: ONNX"),
    (bptt.LSTM(2, 4, layer_norm=True), ValueError, "has layer_norm=True, expected False: ONNX"),
    (bptt.LSTM(2, 4, forget_gate="none"), ValueError, "has forget_gate='none', expected"),
    (bptt.RNN(2, 4, leak=0.5), ValueError, "has leak=0.5, expected None: ONNX"),
    (bptt.GRU(2, 4, zoneout=0.1), ValueError, "has zoneout=0.1, expected 0.0: ONNX"),
    (bptt.GRU(2, 4, dilation=2), ValueError, "has dilation=2, expected 1: ONNX"),
    (bptt.GRU(2, 4, skip=2), ValueError, "has skip=2, expected 0: ONNX"),
    (bptt.GRU(4, 4, residual=True), ValueError, "has residual=True, expected False: ONNX"),
    (bptt.GRU(2, 4, preact_clip=1 / 3, dtype="float64"), ValueError,
     "has preact_clip of 0.3333333333333333, expected a number of few digits, such as 0.333333"),
    (bptt.RNN(2, 4, activation=("elu", 1 / 3), dtype="float64"), ValueError,
     "has elu of 0.3333333333333333, expected a number of few digits, such as 0.33333334: ONNX"),
    (bptt.Linear(2, 3), ValueError, "layers has no recurrent layer, expected one or more"),
    ([bptt.GRU(2, 3), bptt.Embedding(3, 2)], ValueError, r"layers\[1\] is an Embedding, expected"),
    ([bptt.GRU(2, 3), bptt.Linear(2, 2)], ValueError, r"layers\[1\] has 2 inputs, expected 3"),
    ([bptt.GRU(2, 3), bptt.Linear(3, 2, dtype="float64")], ValueError, "is of float64, expected"),
    ([bptt.GRU(2, 3), bptt.GRU(3, 3, batch_first=True)], ValueError, "differ in batch_first"),
    ([], TypeError, "layers is empty, expected a layer or a list of layers"),
    ([bptt.GRU(2, 3), None], TypeError, r"layers\[1\] is NoneType, expected a layer"),
    ({"a": 1}, TypeError, "layers is dict, expected a layer or a list of layers"),
]  # fmt: skip


@pytest.mark.parametrize(("layers", "kind", "message"), REFUSED)
def test_what_onnx_lacks_is_refused_by_name(
    tmp_path: Path, layers: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=rf"^export: .*{message}"):
        bptt.onnx.export(layers, tmp_path / "model.onnx")
    assert not os.listdir(tmp_path)


def test_flags_are_checked() -> None:
    model = bptt.onnx.load(bptt.onnx.export([bptt.GRU(2, 3), bptt.Linear(3, 1)]))
    with pytest.raises(TypeError, match="lengths or state is given with a Model, expected neither"):
        bptt.onnx.export(model, lengths=True)
    with pytest.raises(TypeError, match="lengths is 1, expected True or False"):
        bptt.onnx.export(bptt.GRU(2, 3), lengths=1)  # type: ignore[arg-type]
