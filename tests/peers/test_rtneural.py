# SPDX-License-Identifier: MIT
"""RTNeural's JSON: its own numbers, round trips, and files in another format.

tests/peers/rtneural holds models with what RTNeural itself computes; its "about" says how.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bptt
from bptt.layers.recurrent import Recurrent

FILES = sorted((Path(__file__).parent / "rtneural").glob("*.json"))
ACTIVATIONS = ["identity", "tanh", "relu", "sigmoid", "elu", "softmax"]


def outputs(layers, x):
    """(T, features) through all layers."""
    for layer in layers:
        x = layer(x[:, None])[0][:, 0] if isinstance(layer, Recurrent) else layer(x)
    return x


def written(path, model):
    path.write_text(json.dumps(model))
    return path


def test_there_are_models_of_rtneural():
    assert [path.stem for path in FILES] == ["gru", "lstm"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_layers_give_rtneurals_numbers_and_so_does_the_file_written_again(path, tmp_path):
    fixture = json.loads(path.read_text())
    x, y = np.array(fixture["x"]), np.array(fixture["y"])
    assert np.ptp(y, axis=0).min() > 0.1
    layers = bptt.load_rtneural(written(tmp_path / "theirs.json", fixture["model"]), "float64")
    np.testing.assert_allclose(outputs(layers, x), y, rtol=0, atol=1e-13)
    bptt.save_rtneural(tmp_path / "ours.json", layers)
    ours = json.loads((tmp_path / "ours.json").read_text())
    expected = [e["weights"] for e in fixture["model"]["layers"] if e["type"] != "activation"]
    assert [entry["weights"] for entry in ours["layers"]] == expected  # as RTNeural reads them
    assert ours["in_shape"] == fixture["model"]["in_shape"]
    single = bptt.load_rtneural(tmp_path / "ours.json")
    assert {layer.dtype for layer in single} == {np.dtype(np.float32)}
    np.testing.assert_allclose(outputs(single, x), y, rtol=0, atol=1e-5)


# --- round trips ----------------------------------------------------------------------------------


@st.composite
def models(draw):
    dtype = draw(st.sampled_from(["float32", "float64"]))
    width, layers = draw(st.integers(1, 5)), []
    for seed in range(draw(st.integers(1, 3))):
        how = {"bias": draw(st.booleans()), "dtype": dtype, "seed": seed}
        inputs, width = width, draw(st.integers(1, 6))
        kind = draw(st.sampled_from([bptt.LSTM, bptt.GRU, bptt.Linear]))
        if kind is bptt.Linear:
            layer = kind(inputs, width, activation=draw(st.sampled_from(ACTIVATIONS)), **how)
        else:
            layer = kind(inputs, width, draw(st.integers(1, 2)), **how)
        layers.append(layer)
    return layers


@settings(max_examples=60, deadline=None)
@given(models())
def test_what_is_written_is_read_again(tmp_path_factory, layers):
    path = tmp_path_factory.mktemp("models") / "model.json"
    bptt.save_rtneural(path, layers)
    dtype = layers[0].dtype
    again = bptt.load_rtneural(path, dtype)
    x = np.random.default_rng(0).standard_normal((7, first_inputs(layers[0])))
    atol = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(outputs(again, x), outputs(layers, x), rtol=0, atol=atol)
    bptt.save_rtneural(path.with_name("again.json"), again)
    third = bptt.load_rtneural(path.with_name("again.json"), dtype)
    for one, other in zip(again, third):
        assert repr(one) == repr(other)
        for name, array in one.parameters.items():
            np.testing.assert_array_equal(array, other.parameters[name])


def first_inputs(layer):
    return layer.in_features if isinstance(layer, bptt.Linear) else layer.input_size


def test_options_of_training_change_nothing(tmp_path):
    layer = bptt.GRU(2, 3, 2, dropout=0.5, recurrent_dropout=0.2, batch_first=True, seed=0)
    bptt.save_rtneural(tmp_path / "m.json", [layer])
    x = np.ones((1, 5, 2), np.float32)
    again = outputs(bptt.load_rtneural(tmp_path / "m.json"), x[0])
    np.testing.assert_allclose(again, layer(x)[0][0], rtol=0, atol=1e-6)


# --- what RTNeural has not -----------------------------------------------------------------------


def with_nan():
    layer = bptt.Linear(2, 3, seed=0)
    layer.parameters["weight"][2, 1] = np.nan
    return layer


REFUSED = [
    ([], TypeError, "layers is an empty list, expected a list of layers"),
    (bptt.GRU(1, 2), TypeError, "layers is of type GRU, expected a list of layers"),
    ([bptt.RNN(1, 2)], TypeError, "layers[0] is of type RNN, expected LSTM, GRU or Linear"),
    ([bptt.LSTM(1, 2, bidirectional=True)], ValueError, "layers[0] has bidirectional=True"),
    ([bptt.LSTM(1, 4, proj_size=2)], ValueError, "layers[0] has proj_size=2, expected 0"),
    ([bptt.LSTM(1, 2, forget_gate="none")], ValueError, "has forget_gate='none', expected 'own'"),
    ([bptt.GRU(1, 2, reset_after=False)], ValueError, "has reset_after=False, expected True"),
    ([bptt.GRU(1, 2, zoneout=0.1)], ValueError, "layers[0] has zoneout=0.1, expected 0.0"),
    ([bptt.GRU(1, 2, dilation=2)], ValueError, "layers[0] has dilation=2, expected 1"),
    ([bptt.GRU(2, 2, residual=True)], ValueError, "layers[0] has residual=True"),
    (
        [bptt.GRU(1, 2), bptt.Linear(3, 1)],
        ValueError,
        "layers[1] has 3 inputs, expected 2, the outputs before it",
    ),
    ([with_nan()], ValueError, "layers[0]: weight is nan at (2, 1), expected finite numbers"),
]


@pytest.mark.parametrize(("layers", "error", "message"), REFUSED, ids=lambda v: str(v)[:40])
def test_what_rtneural_has_not_is_refused_and_nothing_is_written(layers, error, message, tmp_path):
    with pytest.raises(error, match=re.escape(message)):
        bptt.save_rtneural(tmp_path / "m.json", layers)
    assert not list(tmp_path.iterdir())


# --- files in another format-----------------------------------------------------------------------

GOOD = {
    "in_shape": [None, None, 2],
    "layers": [
        {"type": "dense", "activation": "", "shape": [None, 1], "weights": [[[1], [2]], [0.5]]},
        {"type": "activation", "activation": "tanh", "shape": [None, None, 1], "weights": []},
        {"type": "gru", "shape": [1], "weights": [[[1] * 3], [[2] * 3], [[3] * 3] * 2]},
    ],
}


def changed(*path, to):
    model = copy.deepcopy(GOOD)
    place = model
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return model


FAULTS = [
    (b"", "is not JSON"),
    (b'{"layers": [', "is not JSON"),
    (b"\xff\xfe\x00", "is not JSON"),
    (b"[" * 100_000, "is not JSON"),
    (b"[" * 500 + b"]" * 500, "is a list of length 1, expected an object"),
    (b'{"in_shape": [NaN]}', "is not JSON: NaN is not a number"),
    ({}, "in_shape is missing, expected [null, null, size]"),
    ({"lstm.weight_ih_l0": [[1.0]]}, "in_shape is missing"),
    (changed("in_shape", to=[]), "in_shape is a list of length 0, expected [null, null, size]"),
    (changed("in_shape", to=[None, 4, 5, 1]), "in_shape is a list of length 4"),
    (changed("in_shape", to=[True]), "in_shape is a list of length 1, expected [null, null, size]"),
    (changed("in_shape", to=[1.5]), "in_shape is a list of length 1"),
    (changed("in_shape", to=[0]), "in_shape is a list of length 1"),
    (changed("in_shape", to=[1e400]), "Infinity is not a number"),
    (b'{"in_shape": [' + b"1" * 5000 + b"]}", "in_shape is a list of length 1"),
    (changed("in_shape", to=[10**18]), "layers[0] (dense).weights[0] has length 2, expected 10000"),
    (changed("layers", to={}), "layers is an object, expected a list"),
    (changed("layers", to=[]), "layers is empty, expected one or more"),
    (changed("layers", 1, to=7), "layers[1] is 7.0, expected an object"),
    (changed("layers", 0, "type", to="conv1d"), "layers[0].type is 'conv1d', expected one of 'ls"),
    (changed("layers", 0, "type", to=None), "layers[0].type is missing, expected one of"),
    (changed("layers", 0, "type", to=["dense"]), "layers[0].type is a list of length 1"),
    (changed("layers", 0, "activation", to="prelu"), "activation is 'prelu', expected one of '',"),
    (changed("layers", 0, "activation", to={}), "layers[0] (dense).activation is an object"),
    (changed("layers", 2, "activation", to="relu"), "layers[2] (gru).activation is 'relu'"),
    (changed("layers", 0, "shape", to=[None, 2]), "layers[0] (dense).weights[0][0] has length 1"),
    (changed("layers", 0, "weights", to=3), "layers[0].weights is 3.0, expected a list"),
    (changed("layers", 0, "weights", to=[]), "weights has length 0, expected kernel and bias"),
    (
        changed("layers", 0, "weights", 0, 1, 0, to="2"),
        "weights[0][1][0] is '2', expected a number",
    ),
    (
        changed("layers", 0, "weights", 0, 1, 0, to=False),
        "weights[0][1][0] is False, expected a nu",
    ),
    (changed("layers", 0, "weights", 0, 1, to=1), "weights[0][1] is 1.0, expected a list"),
    (
        changed("layers", 0, "weights", 1, 0, to=1e39),
        "weights[1] has numbers too large, expected f",
    ),
    (changed("layers", 0, "weights", 1, 0, to=-(10**400)), "weights[1] has numbers too large"),
    (changed("layers", 0, "activation", to="relu"), "layers[1] (activation) has no dense layer"),
    (changed("layers", 1, "shape", to=[3]), "layers[1] (activation).shape has size 3, expected"),
    (
        changed("layers", 2, "weights", 2, to=[0] * 3),
        "layers[2] (gru).weights[2] has length 3, exp",
    ),
    (changed("layers", 2, "weights", 2, to=[0] * 2), "weights[2][0] is 0.0, expected a list"),
    (changed("layers", 2, "weights", to=[]), "expected kernel, recurrent kernel and bias"),
]


def test_the_good_file_is_good(tmp_path):
    dense, gru = bptt.load_rtneural(written(tmp_path / "m.json", GOOD))
    assert repr(dense).startswith("Linear(2, 1, activation='tanh')")
    assert repr(gru).startswith("GRU(1, 1)")


@pytest.mark.parametrize(("content", "message"), FAULTS, ids=[text[:40] for _, text in FAULTS])
def test_a_fault_is_named_with_its_place(content, message, tmp_path):
    path = tmp_path / "m.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        bptt.load_rtneural(path)
    assert str(error.value).startswith(f"load_rtneural: {path}")


def test_a_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        bptt.load_rtneural(tmp_path / "none.json")


def test_a_dtype_that_layers_have_not_is_refused(tmp_path):
    with pytest.raises(TypeError, match="dtype is int64, expected float32 or float64"):
        bptt.load_rtneural(written(tmp_path / "m.json", GOOD), np.int64)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def places(value, path=()):
    """Of all values inside."""
    pairs = value.items() if isinstance(value, dict) else ()
    for key, inner in enumerate(value) if isinstance(value, list) else pairs:
        yield (*path, key)
        yield from places(inner, (*path, key))


def is_read_or_refused(path, content):
    path.write_bytes(content)
    try:
        layers = bptt.load_rtneural(path)
    except ValueError as error:
        assert str(error).startswith(f"load_rtneural: {path}")  # noqa: PT017
    else:
        assert all(np.isfinite(a).all() for layer in layers for a in layer.parameters.values())


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_other_value_anywhere_is_read_or_refused(tmp_path_factory, data):
    place = data.draw(st.sampled_from(list(places(GOOD))))
    model = changed(*place, to=data.draw(JSON))
    is_read_or_refused(tmp_path_factory.mktemp("fuzz") / "m.json", json.dumps(model).encode())


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damaged_text_is_read_or_refused(tmp_path_factory, data):
    content = bytearray(json.dumps(GOOD).encode())
    start = data.draw(st.integers(0, len(content)))
    content[start : start + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=6))
    is_read_or_refused(tmp_path_factory.mktemp("fuzz") / "m.json", bytes(content))
