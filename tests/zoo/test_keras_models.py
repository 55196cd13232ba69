# SPDX-License-Identifier: MIT
"""Models in HDF5 of Keras 2, against Keras 2 itself, which is called tf_keras today.

Its hard sigmoid has slope 0.2.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from bptt._types import Array
from support.zoo import assert_outputs, file_of, files_of

h5py = pytest.importorskip("h5py")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("tf_keras")


def weights_of(path: Path, name: str) -> list[Array]:
    """A layer's arrays in the order of the file."""
    with h5py.File(path) as file:
        layer = file.get("model_weights", file)[name]
        return [np.asarray(layer[array]) for array in layer.attrs["weight_names"]]


def outputs(layer: Any, weights: list[Array], x: Array) -> Array:
    """Of a layer of Keras."""
    layer(x)
    layer.set_weights(weights)
    return np.asarray(layer(x))


@pytest.mark.parametrize("size", [50, 100, 150, 200, 300])
def test_chars2vec(size: int, keras: Any, tmp_path: Path) -> None:
    path = file_of("chars2vec", f"chars2vec/trained_models/eng_{size}/weights.h5", tmp_path)
    model = bptt.load_model(path, gate_activation=("hard_sigmoid", 0.2))
    first, second = model.values()

    x = np.eye(first.input_size, dtype=np.float32)[RNG.integers(first.input_size, size=(8, 12))]
    got = second(first(x)[0])[1][0][-1]
    want = x
    for name in model:
        theirs = keras.layers.LSTM(size, recurrent_activation="hard_sigmoid", return_sequences=True)
        want = outputs(theirs, weights_of(path, name), want)
    assert_outputs(f"chars2vec, eng_{size}", got, want[:, -1])


def test_textgenrnn(keras: Any, tmp_path: Path) -> None:
    names = [f"textgenrnn/textgenrnn_{end}" for end in ("weights.hdf5", "vocab.json")]
    path, words = files_of("textgenrnn", names, tmp_path).values()
    first, second = bptt.load_model(path, "rnn_1"), bptt.load_model(path, "rnn_2")
    embedding, out = bptt.load_model(path, "embedding"), bptt.load_model(path, "output")

    # The file is of CuDNNLSTM; Keras converts it as it loads the model of textgenrnn/model.py.
    L = keras.layers
    inputs = L.Input((40,))
    embedded = L.Embedding(465, 100, name="embedding")(inputs)
    one = L.LSTM(128, return_sequences=True, name="rnn_1")(embedded)
    two = L.LSTM(128, return_sequences=True, name="rnn_2")(one)
    both = L.concatenate([embedded, one, two])
    model = keras.Model(inputs, [both, L.Dense(465, name="output")(both)])
    model.load_weights(str(path), by_name=True)

    characters = json.loads(words.read_text("utf-8"))
    x = np.array([[characters[c] for c in text[:40]] for text in TEXTS])
    want, want_logits = (np.asarray(y) for y in model(x))
    y1, _ = first(embedding(x))
    y2, _ = second(y1)
    got = np.concatenate([embedding(x), y1, y2], -1)
    assert_outputs("textgenrnn", got, want)
    assert_outputs("textgenrnn, logits", out(got), want_logits)


# Text as it was trained on: random characters make it chaotic, and roundings grow to 1e-3.
TEXTS = [
    "What is the best advice that you have ever been given?",
    "My cat is sleeping on the keyboard of my new computer.",
    "TIL that the gradient of a long sequence can vanish or explode",
]


@pytest.mark.parametrize("name", ["bidirectional_1", "bidirectional_2"])
def test_crema(name: str, keras: Any, tmp_path: Path) -> None:
    path = file_of("crema", "crema/models/chord/model.h5", tmp_path)
    gru = bptt.load_model(path, name)

    with h5py.File(path) as file:
        config = json.loads(file.attrs["model_config"])
    own = next(layer for layer in config["config"]["layers"] if layer["name"] == name)
    theirs = keras.layers.Bidirectional.from_config(own["config"])
    x = RNG.normal(size=(2, 100, gru.input_size)).astype(np.float32)
    assert_outputs(f"crema, {name}", gru(x)[0], outputs(theirs, weights_of(path, name), x))


def test_dgaintel(keras: Any, tmp_path: Path) -> None:
    path = file_of("dgaintel", "dgaintel/domain_classifier_model.h5", tmp_path)
    lstm, out = bptt.load_model(path, "lstm_4"), bptt.load_model(path, "dense_4")

    model = keras.models.load_model(str(path), compile=False)
    inner = keras.Model(model.inputs, [model.get_layer("max_pooling1d_4").output, model.output])
    x, want = (np.asarray(y) for y in inner(RNG.integers(39, size=(16, 82))))
    assert_outputs("dgaintel", out(lstm(x)[1][0][-1]), want)
