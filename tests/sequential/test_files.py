# SPDX-License-Identifier: MIT
"""A model in a file: the same model again, or one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from bptt._words import MOST_SHOWN
from bptt.sequential.description import KEY

E, H = 3, 4
RICH = {
    "peepholes": True, "proj_size": 2, "gate_activation": ("hard_sigmoid", 0.2),
    "zoneout": (0.1, 0.2), "dilation": (1, 2), "learn_state": True, "variational_dropout": True,
}  # fmt: skip
MODELS: dict[str, Callable[[], Any]] = {
    "text": lambda: bptt.Sequential(
        bptt.Embedding(9, E), bptt.LSTM(E, H, 2, dropout=0.5, **RICH), bptt.Dropout(0.25),
        bptt.Linear(2, 9, bias=False),
    ),
    "both": lambda: bptt.Sequential(
        bptt.GRU(E, H, bidirectional=True, batch_first=True, dtype="float64", reset_after=False),
        bptt.LayerNorm(2 * H, eps=1e-3, dtype="float64"), bptt.Attention(2 * H, dtype="float64"),
        bptt.Linear(2 * H, 2, activation="softmax", dtype="float64"),
    ),
    "leaky": lambda: bptt.Sequential(
        bptt.RNN(E, H, leak=[0.1, 0.2, 0.3, 1], activation="relu"), bptt.SLSTM(H, H, heads=2),
        bptt.LSTM1997(H, E), bptt.MGU(E, H, compute="bf16_if_available"), bptt.Last(),
    ),
    "mean": lambda: bptt.Sequential(bptt.Embedding(9, E), bptt.MeanPool(), bptt.Linear(E, 2)),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("name", MODELS)
def test_the_model_of_a_file_is_the_one_that_was_saved(
    name: str, suffix: str, tmp_path: Path
) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    model, path = MODELS[name](), tmp_path / f"model{suffix}"
    model.frozen = list(model.parameters)[:2]
    first = model.layers[0]
    ids = isinstance(first, bptt.Embedding)
    x = np.ones((5, 2), int) if ids else np.ones((5, 2, E))
    model.forward(x)  # counts masks
    model.save(path, {"epoch": "3"})
    again = bptt.load_model(path)
    assert repr(again) == repr(model)
    assert again.frozen == model.frozen
    assert bptt.load_metadata(path)["epoch"] == "3"
    for _ in range(2):
        assert again.forward(x)[0].tobytes() == model.forward(x)[0].tobytes()
    assert again(x).tobytes() == model(x).tobytes()
    one = bptt.load_model(path, "1")
    assert repr(one) == repr(model.layers[1])


def test_one_recurrent_layer_of_a_file_is_found(tmp_path: Path) -> None:
    model = MODELS["both"]()
    model.save(tmp_path / "model.npz")
    x = np.random.default_rng(0).standard_normal((2, 9, E))
    report = bptt.gradient_flow(tmp_path / "model.npz", x)
    assert report.model == repr(model.layers[0]).splitlines()[0]


def damaged(change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> tuple[Any, Any]:
    """The arrays and the description of a model, with one change."""
    from bptt.sequential.description import described

    model = bptt.Sequential(bptt.GRU(E, H, seed=0), bptt.Dropout(0.5), bptt.Linear(H, 2, seed=1))
    arrays, description = model.state_dict(), json.loads(json.dumps(described(model)))
    changed = change(arrays, description)
    return arrays, description if changed is None else changed


def first(**arguments: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda arrays, description: description["layers"][0]["arguments"].update(arguments)


def with_layer(name: Any, arguments: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    entry = {"class": name, "arguments": arguments}
    return lambda arrays, description: description["layers"].append(entry)


HOSTILE = [
    (lambda a, d: "[" * 100_000, "the model is "),
    (lambda a, d: "nothing", "the model has 'nothing', expected ['version', 'layers', 'frozen']"),
    (lambda a, d: d.update(version=2), "the model has format version 2, expected 1"),
    (lambda a, d: d.update(code="x"), "the model has ['version', 'layers', 'frozen', 'code'], exp"),
    (lambda a, d: d.update(layers={}), "layers is {}, expected a list"),
    (lambda a, d: d.update(layers=[]), "the model has no such layers: Sequential: layers is emp"),
    (lambda a, d: d.update(frozen=[["0.w"]]), "the model has no such layers: Sequential: frozen"),
    (lambda a, d: d.update(frozen=None), "the model has no such layers: Sequential: frozen is No"),
    (with_layer("os.system", {}), "layer 3 has class 'os.system', expected one of Embedding"),
    (with_layer(["GRU"], {}), "layer 3 has class ['GRU'], expected one of"),
    (with_layer("Sequential", {}), "layer 3 has class 'Sequential', expected one of"),
    (with_layer("Last", {"seed": 1}), "layer 3, Last, has arguments ['seed'], expected some of i"),
    (with_layer("Last", [1]), "layer 3, Last, has arguments [1], expected some of its"),
    (with_layer("Linear", {}), "layer 3 cannot be made: "),
    (with_layer("GRU", {"input_size": 2, "hidden_size": 3}), "layer 3 cannot be made: GRU: the si"),
    (first(hidden_size=10**9), "layer 0 cannot be made: GRU: "),
    (first(hidden_size=10**400), "layer 0 cannot be made: GRU: hidden_size is "),
    (first(hidden_size=True), "layer 0 cannot be made: GRU: hidden_size is True, expected a whole"),
    (first(num_layers=10**6), "layer 0 cannot be made: GRU: num_layers is 1000000, expected 1..65"),
    (first(hidden_size=5), "layer 0 cannot be made: GRU: the sizes make 150 parameters, expected "),
    (first(activation={"a": 1}), "layer 0 cannot be made: GRU: activation"),
    (first(dtype="object"), "layer 0 cannot be made: GRU: dtype is object, expected float32 or"),
    (first(input_size=2), "the model has no such layers: Sequential: layer 0, GRU: weight"),
    (lambda a, d: [a.pop("1.masks")] and None, "the model has no such layers: Sequential.load"),
    (lambda a, d: a.update({"7.weight": np.ones(3)}), "the model has no such layers: Sequential.l"),
    (lambda a, d: a.update({"2.bias": np.ones(3)}), "the model has no such layers: Sequential: la"),
    (lambda a, d: a.update({"1.masks": np.array([-1, 0])}), "the model has no such layers: Sequen"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), HOSTILE, ids=[row[1][:50] for row in HOSTILE])
def test_a_hostile_file_is_refused_in_a_sentence(change: Any, message: str, tmp_path: Path) -> None:
    arrays, description = damaged(change)
    text = (
        description
        if isinstance(description, str) and "[" in description
        else json.dumps(description)
    )
    path = tmp_path / "model.npz"
    bptt.save(path, arrays, {KEY: text})
    with pytest.raises(ValueError, match=r"\(in .*model\.npz\)$") as caught:
        bptt.load_model(path)
    assert str(caught.value).startswith(f"load_model: {message}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 8 * MOST_SHOWN


def test_options_are_refused_beside_a_whole_model(tmp_path: Path) -> None:
    model = MODELS["mean"]()
    model.save(tmp_path / "model.npz")
    for source in (model, tmp_path / "model.npz"):
        with pytest.raises(TypeError, match="Sequential has its own"):
            bptt.load_model(source, dtype="float64")
    with pytest.raises(ValueError, match="name is '9', expected one of"):
        bptt.load_model(model, "9")
    assert bptt.load_model(model) is model


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    MODELS["mean"]().save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="save: metadata has"):
        MODELS["mean"]().save(path, {"epoch": 3})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
