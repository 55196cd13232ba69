# SPDX-License-Identifier: MIT
"""Layers as a model that Keras loads, without Keras: .keras, .h5 and .weights.h5."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np

from .._cells import CELLS
from .._files.access import Own, Path, write_file
from .._files.hdf5 import h5py_for
from .._types import Array
from .._validate import as_path, check_mapping
from .._words import listed, shown
from ..layers.base import Layer
from ..layers.cells import GRU, LSTM, RNN
from ..layers.embedding import Embedding
from ..layers.linear import Linear
from ..layers.recurrent import Recurrent
from .chains import check_chain, sizes_of_layer
from .conventions import reorder
from .keras_files import snake_case
from .keras_layers import ACTIVATIONS, GATES

__all__ = ["save_keras"]

WHERE = "save_keras"
MARK = b"made by bptt"
KERAS = Own("a file of Keras made by bptt", lambda ends: MARK in ends)
CLASSES = {RNN: "SimpleRNN", LSTM: "LSTM", GRU: "GRU"}
WRITTEN = {
    "num_layers", "bias", "dtype", "bidirectional", "activation", "output_activation",
    "gate_activation", "reset_after",
}  # fmt: skip
MOST_ATTRIBUTE = 64_000  # bytes that fit in the header of an HDF5 object
VERSION = "3.0.0"  # of the format


class Node(NamedTuple):
    """A layer of Keras; an array has its path in the tree of objects, such as "cell"."""

    title: str
    config: dict[str, Any]
    arrays: list[tuple[str, str, Array]]  # folder in the tree, name, array


def save_keras(path: Path, layers: Sequence[Layer] | Mapping[str, Layer]) -> None:
    """Write a chain of layers as a Sequential model for Keras.

    ``keras.saving.load_model(path)`` loads the model. Its outputs are the outputs of the layers
    called one after another, with ``batch_first=True``. A layer with `num_layers` becomes as many
    layers. The one bias of Keras' SimpleRNN and LSTM is the sum of both biases. The file is written
    whole or not at all. Needs h5py: ``pip install "bptt[keras]"``.

    Parameters
    ----------
    path : str or path-like
        A new file, or an earlier file by this function. The name decides the format: ``.keras`` for
        Keras 3, ``.h5`` for Keras 2 and 3, ``.weights.h5`` for ``model.load_weights(path)`` of an
        equal model in Keras 3.
    layers : sequence of Layer, or dict of str to Layer
        RNN, LSTM, GRU, Linear and Embedding. Each layer reads the output of the layer before it.

    Raises
    ------
    TypeError
        If `layers` holds something else.
    ValueError
        If Keras has no such layer, the sizes of successive layers differ, a weight is not finite,
        the name has another suffix, or `path` is a file that bptt did not make; nothing is written.
    ImportError
        If h5py is not installed.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import bptt
    >>> layers = [bptt.GRU(3, 4, bidirectional=True, seed=0), bptt.Linear(8, 2, seed=1)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.keras")
    ...     bptt.save_keras(path, layers)
    ...     again = bptt.load_model(path)
    >>> list(again)
    ['bidirectional', 'dense']
    """
    name = as_path(WHERE, path)
    kind = next((k for k in (".weights.h5", ".keras", ".h5") if name.lower().endswith(k)), None)
    if kind is None:
        raise ValueError(f"{WHERE}: path is {shown(name)}, expected .keras, .h5 or .weights.h5")
    names = None
    if isinstance(layers, Mapping):
        check_mapping(WHERE, "layers", layers)
        names, layers = list(layers), list(layers.values())
    check_chain(WHERE, layers, (RNN, LSTM, GRU, Linear, Embedding), WRITTEN, "Keras")
    h5py_for(f"{WHERE}: path is {shown(name)}")
    nodes = list(_nodes(layers, names, kind))
    content = {".keras": _archive, ".h5": _legacy, ".weights.h5": _tree}[kind](nodes, layers[0])
    write_file(WHERE, name, content, KERAS)


# --- layers as nodes ------------------------------------------------------------------------------


def _nodes(layers: Sequence[Layer], names: list[str] | None, kind: str) -> Iterator[Node]:
    used: dict[str, int] = {}
    for k, layer in enumerate(layers):
        found = list(_of_recurrent(f"{WHERE}: layers[{k}]", layer, kind)
                     if isinstance(layer, Recurrent) else _of_other(layer))  # fmt: skip
        for number, node in enumerate(found):
            base = snake_case(node.title)
            name = f"{base}_{used[base]}" if used.get(base) else base
            used[base] = used.get(base, 0) + 1
            if names is not None:
                name = names[k] if len(found) == 1 else f"{names[k]}_{number}"
            if "/" in name or not name:
                raise ValueError(
                    f"{WHERE}: layers has the name {shown(name)}, expected one without /"
                )
            config = {"name": name, "trainable": True, "dtype": layer.dtype.name, **node.config}
            yield node._replace(config=config)


def _of_other(layer: Layer) -> Iterator[Node]:
    arrays = layer.parameters
    if isinstance(layer, Embedding):
        config: dict[str, Any] = {
            "input_dim": layer.num_embeddings, "output_dim": layer.embedding_dim
        }  # fmt: skip
        yield Node("Embedding", config, [("", "embeddings", arrays["weight"])])
    elif isinstance(layer, Linear):
        config = {
            "units": layer.out_features, "use_bias": layer.bias,
            "activation": "linear" if layer.activation == "identity" else layer.activation,
        }  # fmt: skip
        own = [("", "kernel", arrays["weight"].T)]
        own += [("", "bias", arrays["bias"])] if layer.bias else []
        yield Node("Dense", config, own)


def _activation(place: str, label: str, value: Any) -> str:
    """The name in Keras."""
    for name, ours in ACTIVATIONS.items():
        if ours == value:
            return name
    raise ValueError(
        f"{place} has {label}={value!r}, expected one of {listed(ACTIVATIONS.values(), 16)}: Keras "
        "has no such activation, or with other numbers"
    )


def _of_recurrent(place: str, layer: Recurrent, kind: str) -> Iterator[Node]:
    title, s = CLASSES[type(layer)], layer.structure
    assert isinstance(layer, (RNN, LSTM, GRU))
    config = {
        "units": layer.hidden_size, "return_sequences": True, "use_bias": s.bias,
        "dtype": s.dtype.name, "activation": _activation(place, "activation", layer.activation),
    }  # fmt: skip
    if isinstance(layer, LSTM) and layer.output_activation != layer.activation:
        raise ValueError(
            f"{place} has output_activation={layer.output_activation!r}, expected "
            f"{layer.activation!r}, its activation: Keras has one for both"
        )
    if isinstance(layer, (LSTM, GRU)):
        config["recurrent_activation"] = _activation(
            place, "gate_activation", layer.gate_activation
        )
        if layer.gate_activation == "hard_sigmoid" and kind == ".h5":
            raise ValueError(
                f"{place} has gate_activation='hard_sigmoid', expected 'sigmoid' in .h5, since its "
                "slope in Keras 2 is another than in Keras 3; .keras is of Keras 3 alone"
            )
    if isinstance(layer, GRU):
        config["reset_after"] = layer.reset_after
    for number in range(s.num_layers):
        cells = [_arrays(layer, number * s.directions + d) for d in range(s.directions)]
        if s.directions == 1:
            yield Node(title, config, [("cell", name, a) for name, a in cells[0].items()])
            continue
        sides = {"forward": False, "backward": True}
        halves = [{"name": f"{side}_{snake_case(title)}", "go_backwards": backwards, **config}
                  for side, backwards in sides.items()]  # fmt: skip
        wrapped = [{"module": "keras.layers", "class_name": title, "config": c,
                    "registered_name": None} for c in halves]  # fmt: skip
        yield Node(
            "Bidirectional",
            {"merge_mode": "concat", "layer": wrapped[0], "backward_layer": wrapped[1]},
            [
                (f"{side}_layer/cell", f"{half['name']}/{name}", array)
                for side, half, cell in zip(sides, halves, cells)
                for name, array in cell.items()
            ],
        )


def _arrays(layer: Recurrent, k: int) -> dict[str, Array]:
    """The arrays of one cell in Keras' convention."""
    kind, s = layer.structure.kind, layer.structure
    own = {argument: reorder(layer.parameters[name], tuple(CELLS[kind].gates), GATES[kind])
           for argument, name in s.names(k).items()}  # fmt: skip
    arrays = {"kernel": own["w_ih"].T, "recurrent_kernel": own["w_hh"].T}
    if s.bias:
        two = isinstance(layer, GRU) and layer.reset_after
        both = np.stack([own["b_ih"], own["b_hh"]])
        arrays["bias"] = both if two else both.sum(0)
    return arrays


# --- files ----------------------------------------------------------------------------------------


def _model(nodes: Sequence[Node], first: Layer, legacy: bool) -> dict[str, Any]:
    """The configuration of a Sequential model."""
    inputs = sizes_of_layer(first)[0]
    shape = [None, None, inputs] if inputs else [None, None]
    dtype = first.dtype.name if inputs else "int32"
    key = "batch_input_shape" if legacy else "batch_shape"
    given = {key: shape, "dtype": dtype, "name": "input"}
    layers: list[dict[str, Any]] = [{"class_name": "InputLayer", "config": given}]
    layers += [{"class_name": node.title, "config": node.config} for node in nodes]
    if not legacy:
        layers = [{"module": "keras.layers", "registered_name": None, **layer} for layer in layers]
    model: dict[str, Any] = {
        "class_name": "Sequential",
        "config": {"name": "sequential", "layers": layers},
    }  # fmt: skip
    return model if legacy else {"module": "keras", "registered_name": None, **model}


def _archive(nodes: Sequence[Node], first: Layer) -> bytes:
    """A .keras file."""
    members: dict[str, str | bytes] = {
        "metadata.json": json.dumps(
            {"keras_version": VERSION, "date_saved": "1980-01-01@00:00:00"}
        ),
        "config.json": json.dumps(_model(nodes, first, False)),
        "model.weights.h5": _tree(nodes, first),
    }
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = MARK
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _tree(nodes: Sequence[Node], first: Layer) -> bytes:
    """The arrays as a tree of objects, where each class counts its layers."""
    buffer, count = BytesIO(), dict.fromkeys((node.title for node in nodes), 0)
    with h5py_for(WHERE).File(buffer, "w") as file:
        file.attrs["made_by"] = MARK
        for node in nodes:
            number, count[node.title] = count[node.title], count[node.title] + 1
            base = f"layers/{snake_case(node.title)}" + (f"_{number}" if number else "")
            file.create_group(f"{base}/vars").attrs["name"] = node.config["name"]
            places: dict[str, int] = {}
            for folder, _, array in node.arrays:
                place = "/".join(filter(None, (base, folder, "vars")))
                file[f"{place}/{places.get(place, 0)}"] = array
                places[place] = places.get(place, 0) + 1
    return buffer.getvalue()


def _legacy(nodes: Sequence[Node], first: Layer) -> bytes:
    """An .h5 file with the configuration, and a list of arrays for each layer."""
    config = json.dumps(_model(nodes, first, True)).encode()
    if len(config) > MOST_ATTRIBUTE:
        raise ValueError(f"{WHERE}: layers has a configuration too long for .h5, expected .keras")
    buffer = BytesIO()
    with h5py_for(WHERE).File(buffer, "w") as file:
        file.attrs["made_by"] = MARK
        about = {"keras_version": VERSION, "backend": "tensorflow"}
        for name, text in about.items():
            file.attrs[name] = text
        file.attrs["model_config"] = config
        weights = file.create_group("model_weights")
        for name, text in about.items():
            weights.attrs[name] = text
        weights.attrs["layer_names"] = [str(node.config["name"]).encode() for node in nodes]
        for node in nodes:
            group = weights.create_group(node.config["name"])
            names = [f"{node.config['name']}/{name}" for _, name, _ in node.arrays]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, (_, _, array) in zip(names, node.arrays):
                group[name] = array
    return buffer.getvalue()
