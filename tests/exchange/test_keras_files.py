# SPDX-License-Identifier: MIT
"""Models of Keras 2 and 3, from files and in memory, and files that do not fit."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from support.keras_models import IDS, X, chain, keras_of, outputs, randomised, save

h5py = pytest.importorskip("h5py")
# Of Keras on PyTorch, which NumPy asks for arrays in a new way.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def one(library: Any, layer: Any, inputs: int = 3) -> Any:
    return randomised(library.Sequential([library.layers.Input((None, inputs)), layer]))


def large(library: Any) -> Any:
    """Every kind of layer, and a model in the model."""
    L = library.layers
    hard = {"recurrent_activation": "hard_sigmoid", "return_sequences": True}
    inner = library.Sequential([L.Dense(3, use_bias=False), L.Dense(2, activation="elu")])
    return randomised(
        library.Sequential(
            [
                L.Input((None,), dtype="int32"),
                L.Embedding(7, 3),
                L.Bidirectional(L.LSTM(4, **hard)),
                L.GRU(5, reset_after=False, **hard),
                L.SimpleRNN(3, return_sequences=True, activation="relu"),
                L.RNN(L.LSTMCell(2), return_sequences=True),
                L.Dropout(0.2),
                L.GRU(4, use_bias=False, return_sequences=True, activation="linear"),
                L.TimeDistributed(L.Dense(2, activation="softmax")),
                inner,
            ]
        )
    )


@pytest.mark.parametrize("suffix", [".keras", ".h5", None])
@pytest.mark.parametrize("version", [2, 3])
def test_a_model_of_every_layer(version: int, suffix: str | None, tmp_path: Path) -> None:
    model = large(keras_of(version))
    source = model if suffix is None else save(model, tmp_path / f"model{suffix}")
    layers = bptt.load_model(source)
    kinds = [type(layer).__name__ for layer in layers.values()]
    assert kinds == "Embedding LSTM GRU RNN LSTM GRU Linear Linear Linear".split()
    assert [name.split(".")[-1] for name in layers][:3] == [w.name for w in model.layers[:3]]
    np.testing.assert_allclose(chain(layers.values(), IDS), outputs(model, IDS), atol=1e-6)
    name = next(iter(layers))
    assert repr(bptt.load_model(source, name)) == repr(layers[name])


@pytest.mark.parametrize(
    ("options", "wrap"),
    [({}, False), ({}, True), ({"use_bias": False}, True), ({"activation": "relu"}, False)],
    ids=str,
)
@pytest.mark.parametrize(
    "kind", ["SimpleRNN", "LSTM", "GRU", "GRU before", "LSTM hard", "GRU hard", "GRU before hard"]
)
@pytest.mark.parametrize("version", [2, 3])
def test_one_layer(
    version: int, kind: str, options: dict[str, Any], wrap: bool, tmp_path: Path
) -> None:
    library = keras_of(version)
    given = {"return_sequences": True, **options}
    if "before" in kind:
        given["reset_after"] = False
    if "hard" in kind:
        given["recurrent_activation"] = "hard_sigmoid"
    layer = getattr(library.layers, kind.split()[0])(4, **given)
    model = one(library, library.layers.Bidirectional(layer) if wrap else layer)
    expected = outputs(model, X)
    for name in ("m.keras", "m.h5"):
        ours = bptt.load_model(save(model, tmp_path / name))
        np.testing.assert_allclose(ours(X)[0], expected, rtol=1e-6, atol=2e-6)
    again = bptt.load_model(tmp_path / "m.h5", batch_first=False, dtype="float64")
    assert again.dtype == np.float64
    np.testing.assert_allclose(
        again(X.swapaxes(0, 1))[0].swapaxes(0, 1), expected, rtol=1e-6, atol=2e-6
    )
    # Without the configuration, what the arrays do not show is given.
    how: dict[str, Any] = {"activation": options.get("activation", "tanh")}
    how |= {"reset_after": "before" not in kind} if "GRU" in kind else {}
    how |= {"output_activation": how["activation"]} if "LSTM" in kind else {}
    if "RNN" not in kind:
        hard = ("hard_sigmoid", 0.2 if version == 2 else 1 / 6)
        how["gate_activation"] = hard if "hard" in kind else "sigmoid"
    path = save(model, tmp_path / ("w_weights.h5" if version == 2 else "w.weights.h5"))
    if "RNN" not in kind:
        with pytest.raises(
            ValueError, match=r"expected \('hard_sigmoid', 0\.2\), which is Keras 2"
        ):
            bptt.load_model(path, **how | {"gate_activation": "hard_sigmoid"})
    if version == 2 and "RNN" not in kind:
        words = r"expected gate_activation='sigmoid' or \('hard_sigmoid', 0\.2\)"
        with pytest.raises(ValueError, match=words):
            bptt.load_model(path)
    np.testing.assert_allclose(bptt.load_model(path, **how)(X)[0], expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_the_layout_of_cudnn(kind: str, wrap: bool, tmp_path: Path) -> None:
    """Keras converts such weights when a plain layer loads them."""
    library = keras_of(2)
    module = importlib.import_module(f"tf_keras.src.layers.rnn.cudnn_{kind.lower()}")
    around = library.layers.Bidirectional if wrap else lambda layer: layer
    model = one(library, around(getattr(module, f"CuDNN{kind}")(4, return_sequences=True)))
    plain = one(library, around(getattr(library.layers, kind)(4, return_sequences=True)))
    plain.load_weights(str(save(model, tmp_path / "weights.h5")))
    expected = outputs(plain, X)
    for source in (save(model, tmp_path / "m.h5"), model, tmp_path / "weights.h5"):
        np.testing.assert_allclose(bptt.load_model(source)(X)[0], expected, atol=1e-6)


def test_a_matrix_alone_in_a_file_of_weights(tmp_path: Path) -> None:
    library = keras_of(3)
    L = library.layers
    first, last = L.Dense(4, use_bias=False, name="first"), L.SimpleRNN(4, name="last")
    model = randomised(library.Sequential([L.Input((None, 3)), first, last]))
    save(model, tmp_path / "m.weights.h5")
    assert [type(v).__name__ for v in bptt.load_model(tmp_path / "m.weights.h5").values()] == [
        "Linear", "RNN",
    ]  # fmt: skip
    with h5py.File(tmp_path / "m.weights.h5", "a") as file:
        file.move("layers/dense", "layers/some")
    text = "some has one matrix, which a Dense without a bias or an Embedding may have, expected"
    with pytest.raises(ValueError, match=rf"{text} .*name= with one of \['simple_rnn'\]"):
        bptt.load_model(tmp_path / "m.weights.h5")
    assert type(bptt.load_model(tmp_path / "m.weights.h5", "simple_rnn")) is bptt.RNN


def test_a_functional_model_by_name(tmp_path: Path) -> None:
    library = keras_of(3)
    L = library.layers
    inputs = L.Input((None, 3))
    first, second = L.LSTM(4, return_sequences=True), L.LSTM(4, return_sequences=True)
    y = L.Concatenate()([first(inputs), second(L.Conv1D(2, 1)(inputs))])
    model = randomised(library.Model(inputs, L.Dense(2, name="head")(y)))
    for name in ("m.keras", "m.h5"):
        path = save(model, tmp_path / name)
        for layer in (first, second):
            ours = bptt.load_model(path, layer.name)
            np.testing.assert_array_equal(ours.parameters["weight_hh_l0"].T, layer.get_weights()[1])
        assert bptt.load_model(path, "head").out_features == 2
        match = r"source has 'conv1d\w*' of type Conv1D, which bptt lacks, expected name= with one"
        with pytest.raises(ValueError, match=match):
            bptt.load_model(path)
        with pytest.raises(ValueError, match=r"name is 'lstms', expected one of \['"):
            bptt.load_model(path, "lstms")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda L: L.LSTM(4, activation="gelu"), "has activation='gelu', expected one of"),
        (lambda L: L.SimpleRNN(4, activation="selu"), "has activation='selu', expected one of"),
        (
            lambda L: L.LSTM(4, recurrent_activation="gelu"),
            "has recurrent_activation='gelu', expected one of",
        ),
        (lambda L: L.LSTM(4, go_backwards=True), "has go_backwards=True, expected False"),
        (
            lambda L: L.Bidirectional(L.LSTM(4), merge_mode="sum"),
            "has merge_mode='sum', expected 'concat'",
        ),
        (
            lambda L: L.Bidirectional(
                L.LSTM(4), backward_layer=L.LSTM(4, activation="relu", go_backwards=True)
            ),
            "backward layer with activation='relu', expected 'tanh'",
        ),
        (lambda L: L.Dense(4, activation="gelu"), "has activation='gelu', expected one of"),
        (lambda L: L.RNN([L.LSTMCell(4), L.LSTMCell(3)]), "has StackedRNNCells inside"),
        (lambda L: L.ConvLSTM1D(2, 1), "of type ConvLSTM1D, which bptt lacks"),
        (lambda L: L.TimeDistributed(L.Conv1D(4, 1)), "of type TimeDistributed(Conv1D), which"),
    ],
)
@pytest.mark.parametrize("version", [2, 3])
def test_what_bptt_lacks_is_named(version: int, make: Any, words: str, tmp_path: Path) -> None:
    library = keras_of(version)
    layer = make(library.layers)
    deep = type(layer).__name__ in ("ConvLSTM1D", "TimeDistributed")
    shape = (5, 4, 3) if deep else (None, 3)
    try:
        model = library.Sequential([library.layers.Input(shape), layer])
    except ValueError as error:
        pytest.skip(f"this Keras lacks it too: {error}")
    for source in (model, save(model, tmp_path / "m.keras"), save(model, tmp_path / "m.h5")):
        with pytest.raises(ValueError, match=re.escape(words)):
            bptt.load_model(source)


# --- files by hand --------------------------------------------------------------------------------

LSTM = bptt.LSTM(3, 4, seed=0)


def archive(tmp_path: Path, config: Any = None, **members: Any) -> Path:
    """A .keras file of one LSTM, with another configuration or other members."""
    path = tmp_path / "m.keras"
    bptt.save_keras(path, [LSTM])
    with zipfile.ZipFile(path) as file:
        found = {name: file.read(name) for name in file.namelist()}
    if config is not None:
        model = json.loads(found["config.json"])
        config(model["config"]["layers"])
        found["config.json"] = json.dumps(model).encode()
    found |= members
    with zipfile.ZipFile(path, "w") as file:
        for name, content in found.items():
            if content is not None:
                file.writestr(name, content)
    return path


def twice(layers: Any) -> None:
    layers.append({**layers[1], "config": {**layers[1]["config"], "name": "other"}})


def rename(layers: Any) -> None:
    layers[1]["class_name"] = "LSTM2"


@pytest.mark.parametrize(
    ("config", "members", "words"),
    [
        (None, {"config.json": b"[]"}, "its configuration is not an object"),
        (None, {"config.json": b"{}"}, "source has arrays of ['lstm'], expected only layers of"),
        (None, {"config.json": b"{" * 100_000}, "is damaged"),
        (None, {"model.weights.h5": None}, "has no model.weights.h5, expected a model of Keras"),
        (None, {"model.weights.h5": b"HDF"}, "is damaged"),
        (lambda layers: layers.pop(), {}, "source has arrays of ['lstm'], expected only layers"),
        (rename, {}, "source has 'lstm' of type LSTM2, which bptt lacks"),
        (lambda layers: layers[1]["config"].update(use_bias=False), {}, "has 3 arrays, expected 2"),
        (
            lambda layers: layers[1]["config"].update(activation=3),
            {},
            "has activation='3', expected",
        ),
        (twice, {}, "other (LSTM) has 0 arrays, expected 3"),
        (lambda layers: layers.append(7), {}, None),
    ],
)
def test_configurations_that_do_not_fit(
    config: Any, members: Any, words: Any, tmp_path: Path
) -> None:
    path = archive(tmp_path, config, **members)
    if words is None:
        assert type(bptt.load_model(path)) is bptt.LSTM
        return
    with pytest.raises(ValueError, match=re.escape(words)) as info:
        bptt.load_model(path)
    assert str(path) in str(info.value)


def hdf5(tmp_path: Path, fill: Any) -> Path:
    path = tmp_path / "m.h5"
    bptt.save_keras(path, [LSTM])
    with h5py.File(path, "a") as file:
        fill(file)
    return path


def huge(file: Any) -> None:
    group = file["model_weights/lstm/lstm"]
    del group["kernel"]
    group.create_dataset("kernel", (1 << 20, 1 << 20), "f4", chunks=(1 << 10, 1 << 10))


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3, 16), "f4")
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", (3, 16))
    group = file["model_weights/lstm/lstm"]
    del group["kernel"]
    group.create_virtual_dataset("kernel", layout)


def external(file: Any) -> None:
    group = file["model_weights/lstm/lstm"]
    del group["kernel"]
    group.create_dataset("kernel", (3, 16), "u1", external=[("/etc/passwd", 0, 48)])


def deep(file: Any) -> None:
    file.create_group("/".join("a" * 40))


def cycle(file: Any) -> None:
    file["model_weights/again"] = file["model_weights"]


def put(file: Any, name: str, value: Any) -> None:
    del file[name]
    file[name] = value


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (huge, "states 4398046511104 bytes for 'kernel', but holds 0 bytes"),
        (virtual, "has 'kernel' in another file, expected it inside"),
        (external, "has 'kernel' in another file, expected it inside"),
        (deep, "has groups inside each other, expected at most 32"),
        (cycle, "has groups inside each other, expected at most 32"),
        (lambda f: f.__setitem__("a", h5py.ExternalLink("/etc/x.h5", "/")), "has 'a' as a link"),
        (lambda f: f.__setitem__("a", h5py.SoftLink("/model_weights")), "has 'a' as a link"),
        (lambda f: f.__delitem__("model_weights/lstm/lstm/bias"), "has no array 'lstm/bias'"),
        (lambda f: put(f, "model_weights/lstm/lstm/bias", "text"), "has no array 'lstm/bias'"),
        (lambda f: put(f, "model_weights/lstm/lstm/bias", np.ones(3)), "bias has shape (3,)"),
        (
            lambda f: put(f, "model_weights/lstm/lstm/bias", np.ones((3, 2))),
            "bias has shape (3, 2)",
        ),
        (lambda f: put(f, "model_weights/lstm/lstm/kernel", np.ones(3)), "kernel has shape (3,)"),
        (lambda f: f.attrs.__setitem__("model_config", "{"), "is damaged"),
        (lambda f: f.attrs.__setitem__("model_config", "3"), "its configuration is not an object"),
        (lambda f: f.__delitem__("model_weights"), "is an HDF5 file without layers of Keras"),
    ],
)
def test_files_that_do_harm_or_do_not_fit(fill: Any, words: str, tmp_path: Path) -> None:
    path = hdf5(tmp_path, fill)
    with pytest.raises(ValueError, match=re.escape(words)) as info:
        bptt.load_model(path)
    assert str(path) in str(info.value)


def test_bfloat16_in_a_file(tmp_path: Path) -> None:
    bits = (LSTM.parameters["bias_ih_l0"].view(np.uint32) >> 16).astype(np.uint16)

    def fill(file: Any) -> None:
        group = file["model_weights/lstm/lstm"]
        del group["bias"]
        group["bias"] = bits.view("V2")
        group["bias"].attrs["dtype"] = "bfloat16"

    layer = bptt.load_model(hdf5(tmp_path, fill))
    exact = (bits.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(layer.parameters["bias_ih_l0"], exact)


def test_without_h5py_the_message_says_how_to_get_it(tmp_path: Path) -> None:
    bptt.save_keras(tmp_path / "m.keras", [LSTM])
    bptt.save_keras(tmp_path / "m.h5", [LSTM])
    code = (
        "import sys; sys.modules['h5py'] = None; import bptt\n"
        "for run in (lambda: bptt.load_model('m.keras'), lambda: bptt.load_model('m.h5'),\n"
        "            lambda: bptt.save_keras('n.h5', [bptt.RNN(1, 1)])):\n"
        "    try: run()\n"
        "    except ImportError as error: print(error)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(found) == 3
    assert all('expected h5py to be installed: pip install "bptt[keras]"' in line for line in found)
    assert not (tmp_path / "n.h5").exists()
