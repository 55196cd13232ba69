# SPDX-License-Identifier: MIT
"""Models that Keras 2 and 3 load, written without Keras."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from support.keras_models import IDS, X, chain, keras_of, outputs, randomised

h5py = pytest.importorskip("h5py")
# Of Keras on PyTorch, which NumPy asks for arrays in a new way.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CHAINS: dict[str, Any] = {
    "lstm": lambda how: [bptt.LSTM(3, 4, num_layers=2, seed=0, **how)],
    "both directions": lambda how: [bptt.LSTM(3, 4, 2, bidirectional=True, seed=0, **how),
                                    bptt.GRU(8, 3, bidirectional=True, seed=1, **how)],
    "gru before": lambda how: [bptt.GRU(3, 4, reset_after=False, activation="relu", **how)],
    "no bias": lambda how: [bptt.GRU(3, 4, bias=False, **how), bptt.LSTM(4, 2, bias=False, **how),
                            bptt.RNN(2, 4, bias=False, activation="identity", **how)],
    "embedding": lambda how: [bptt.Embedding(7, 3, seed=0, dtype=how["dtype"]),
                              bptt.RNN(3, 4, activation="sigmoid", **how),
                              bptt.Linear(4, 2, activation="elu", dtype=how["dtype"])],
    "dense first": lambda how: [bptt.Linear(3, 2, bias=False, dtype=how["dtype"]),
                                bptt.LSTM(2, 4, activation="relu", output_activation="relu",
                                          **how)],
    **{name: lambda how, name=name: [bptt.GRU(3, 4, activation=name, gate_activation="sigmoid",
                                              **how)]
       for name in ("identity", "sigmoid", "elu", "softsign", "softplus", ("leaky_relu", 0.2))},
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("version", [2, 3])
def test_keras_loads_what_is_written(version: int, name: str, dtype: str, tmp_path: Path) -> None:
    library = keras_of(version)
    layers = CHAINS[name]({"batch_first": True, "dtype": dtype})
    x = IDS if name == "embedding" else X.astype(dtype)
    expected = chain(layers, x)
    for suffix in (".h5", ".keras")[: 1 + (version == 3)]:
        path = tmp_path / f"m{suffix}"
        bptt.save_keras(path, layers)
        bptt.save_keras(path, layers)  # over the earlier file
        model = library.models.load_model(str(path), compile=False)
        assert outputs(model, x).dtype == dtype
        atol = 1e-12 if dtype == "float64" else 2e-6
        # Keras on PyTorch multiplies some matrices of float64 in float32, and TensorFlow has the
        # slope of a leaky ReLU in 32 bits.
        theirs = 2e-6 if version == 3 or "leaky_relu" in name else atol
        np.testing.assert_allclose(outputs(model, x), expected, atol=theirs)
        again = bptt.load_model(path)
        found = again.values() if isinstance(again, dict) else [again]
        np.testing.assert_allclose(chain(found, x), expected, atol=atol)
    if version == 3:
        bptt.save_keras(tmp_path / "m.weights.h5", layers)
        randomised(model).load_weights(str(tmp_path / "m.weights.h5"))
        np.testing.assert_allclose(outputs(model, x), expected, atol=2e-6)


def test_hard_sigmoid_and_names(tmp_path: Path) -> None:
    library = keras_of(3)
    layers = {"first": bptt.LSTM(3, 4, 2, gate_activation="hard_sigmoid", batch_first=True),
              "head": bptt.Linear(4, 2)}  # fmt: skip
    path = tmp_path / "m.keras"
    bptt.save_keras(path, layers)
    model = library.models.load_model(str(path), compile=False)
    assert [layer.name for layer in model.layers] == ["first_0", "first_1", "head"]
    np.testing.assert_allclose(outputs(model, X), chain(layers.values(), X), atol=1e-6)
    assert list(bptt.load_model(path)) == ["first_0", "first_1", "head"]
    with pytest.raises(ValueError, match="its slope in Keras 2 is another than in Keras 3"):
        bptt.save_keras(tmp_path / "m.h5", layers)
    assert [p.name for p in tmp_path.iterdir()] == ["m.keras"]


LSTM = bptt.LSTM(3, 4, seed=0)


@pytest.mark.parametrize(
    ("name", "layers", "error", "words"),
    [
        ("m.npz", [LSTM], ValueError, "path is 'm.npz', expected .keras, .h5 or .weights.h5"),
        ("m.h5", LSTM, TypeError, "layers is of type LSTM, expected a list of layers"),
        ("m.h5", [], TypeError, "layers is an empty list, expected a list of layers"),
        ("m.h5", [bptt.MGU(3, 4)], TypeError, "layers[0] is of type MGU, expected RNN, LSTM,"),
        ("m.h5", [LSTM, bptt.Linear(3, 2)], ValueError, "layers[1] has 3 inputs, expected 4"),
        ("m.h5", [LSTM, bptt.Embedding(3, 2)], ValueError, "has indices as inputs, expected 4"),
        ("m.h5", [bptt.LSTM(3, 4, peepholes=True)], ValueError, "has peepholes=True, expected"),
        ("m.h5", [bptt.GRU(3, 4, dilation=2)], ValueError, "has dilation=2, expected 1: Keras"),
        ("m.h5", [bptt.RNN(3, 4, activation="leaky_relu")], ValueError, "activation='leaky_relu'"),
        ("m.h5", [bptt.LSTM(3, 4, activation="relu")], ValueError, "output_activation='tanh'"),
        ("m.h5", [bptt.RNN(3, 4, activation=("elu", 0.5))], ValueError, "activation=('elu', 0.5)"),
        (
            "m.h5",
            [bptt.GRU(3, 4, gate_activation=("hard_sigmoid", 0.2))],
            ValueError,
            "gate_activation=('hard_sigmoid', 0.2",
        ),
        ("m.h5", {"a/b": LSTM}, ValueError, "layers has the name 'a/b', expected one without /"),
    ],
)
def test_what_keras_lacks_is_refused_and_nothing_is_written(
    name: str, layers: Any, error: Any, words: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(words)) as info:
        bptt.save_keras(name, layers)
    assert str(info.value).startswith("save_keras: ")
    assert not list(tmp_path.iterdir())


def test_other_files_and_large_configurations_stay(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = X
    before = (tmp_path / "data.h5").read_bytes()
    with pytest.raises(ValueError, match="not known to be a file of Keras made by bptt"):
        bptt.save_keras(tmp_path / "data.h5", [LSTM])
    assert (tmp_path / "data.h5").read_bytes() == before
    with pytest.raises(ValueError, match="configuration too long"):
        bptt.save_keras(tmp_path / "m.h5", [bptt.RNN(2, 2)] * 400)
    many = [bptt.RNN(2, 2, seed=k) for k in range(400)]
    bptt.save_keras(tmp_path / "m.keras", many)
    bptt.save_keras(tmp_path / "m.keras", many)
    assert len(bptt.load_model(tmp_path / "m.keras")) == 400
