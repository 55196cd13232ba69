# SPDX-License-Identifier: MIT
"""Files and models of Keras, without TensorFlow: .keras, .h5, .weights.h5, and live objects.

Keras 1 and 2, and Keras 3 for a name in .h5, keep a list of arrays for each layer of the model.
Keras 3 keeps a tree of its objects, whose names count the layers of each class.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np

from .._files.formats import Unreadable
from .._files.hdf5 import Group, parse_hdf5
from .._types import Array
from .._words import listed
from .entries import Entry, Where
from .keras_layers import LOADABLE, entry_of, guessed_entry, settings

__all__ = [
    "KerasFile",
    "entries_of_file",
    "entries_of_object",
    "is_keras",
    "parse_archive",
    "parse_h5",
    "snake_case",
]

MODELS = ("Sequential", "Functional", "Model")
MOST_CONFIG = 1 << 26  # bytes
OWN = re.compile(r"(keras|tf_keras|tensorflow)(\.|$)")


class KerasFile(NamedTuple):
    """The contents of a file.

    Attributes
    ----------
    config : dict, or None
        The configuration of the model, if the file has it.
    weights : Group
        The layers' arrays.
    version : str
        Of Keras, such as "2.2.4"; empty if the file does not say.
    tree : bool
        Are the weights a tree of objects, instead of a list for each layer?
    """

    config: Mapping[str, Any] | None
    weights: Group
    version: str
    tree: bool

    @property
    def old(self) -> bool | None:
        """Is it of Keras 1 or 2? None if the file does not say."""
        return self.version.split(".")[0] in ("1", "2") if self.version else None


# --- files ----------------------------------------------------------------------------------------


def parse_archive(content: bytes) -> KerasFile:
    """A .keras file of Keras 3, or of Keras 2.12 and later."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        for member in archive.infolist():
            if member.file_size > min(MOST_CONFIG, 1032 * len(content)) and (
                not member.filename.endswith(".h5") or member.file_size > 1032 * len(content)
            ):
                raise ValueError("it states larger sizes than it can hold")
        names = archive.namelist()
        for name in ("config.json", "model.weights.h5"):
            if name not in names:
                raise Unreadable(f"has no {name}, expected a model of Keras with its weights")
        config = json.loads(archive.read("config.json"))
        about = json.loads(archive.read("metadata.json")) if "metadata.json" in names else {}
        weights = parse_hdf5(archive.read("model.weights.h5"))
    if not isinstance(config, dict) or not isinstance(about, dict):
        raise ValueError("its configuration is not an object")
    version = about.get("keras_version")
    return KerasFile(config, weights, version if isinstance(version, str) else "3", True)


def parse_h5(content: bytes) -> KerasFile:
    """A model or its weights in HDF5."""
    root = parse_hdf5(content)
    weights = root.groups.get("model_weights", root)
    version = weights.attrs.get("keras_version", root.attrs.get("keras_version"))
    if _names(weights, "layer_names") is None:
        if "layers" in root.groups or "_layer_checkpoint_dependencies" in root.groups:
            return KerasFile(None, root, "", True)
        raise Unreadable("is an HDF5 file without layers of Keras, expected a model or its weights")
    config = root.attrs.get("model_config")
    decoded = json.loads(config) if isinstance(config, str) else None
    if config is not None and not isinstance(decoded, dict):
        raise ValueError("its configuration is not an object")
    return KerasFile(decoded, weights, version if isinstance(version, str) else "1", False)


def _names(group: Group, key: str) -> list[str] | None:
    """A list of names among the attributes, which may be cut in numbered pieces."""
    pieces = [group.attrs[key]] if key in group.attrs else []
    while not pieces or f"{key}{len(pieces)}" in group.attrs:
        if f"{key}{len(pieces)}" not in group.attrs:
            return None
        pieces.append(group.attrs[f"{key}{len(pieces)}"])
    return [str(name) for piece in pieces if isinstance(piece, list) for name in piece]


def entries_of_file(where: Where, file: KerasFile) -> dict[str, Entry]:
    """The layers of a file that have arrays, by name, in the order of the model."""
    entries: dict[str, Entry] = {}

    def others() -> list[str]:
        return [name for name, entry in entries.items() if entry.title in LOADABLE]

    if file.config is None:
        for name, arrays in _tree_lists(file.weights) if file.tree else _lists(file.weights):
            if arrays:
                entries[name] = guessed_entry(where, name, arrays, file.old, others)
    else:
        walk = _walk_tree if file.tree else _walk_lists
        used: set[str] = set()
        for name, title, config, arrays in walk(file.config, file.weights, used):
            if arrays or title in LOADABLE:
                entries[name] = entry_of(where, name, title, config, arrays, bool(file.old), others)
        rest = [name for name in _with_arrays(file) if name not in used]
        if rest:
            raise ValueError(
                f"{where} has arrays of {listed(rest)}, expected only layers of the "
                "model's configuration"
            )
    if not entries:
        raise ValueError(f"{where} has no layer with arrays, expected one or more")
    return entries


Found = tuple[str, str, Mapping[str, Any], list[Array]]  # name, class, configuration, arrays


def _children(node: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The layers of a model's configuration: name, class and configuration."""
    config = node.get("config")
    layers = config if isinstance(config, list) else settings(node, "config").get("layers")
    for child in layers if isinstance(layers, list) else []:
        if isinstance(child, Mapping):
            inner = child if child.get("class_name") in MODELS else settings(child, "config")
            name = settings(child, "config").get("name", child.get("name"))
            yield str(name), str(child.get("class_name")), inner


# --- a list of arrays for each layer --------------------------------------------------------------


def _lists(weights: Group) -> Iterator[tuple[str, list[Array]]]:
    for name in _names(weights, "layer_names") or []:
        yield name, [array for _, array in _list(weights, name)]


def _list(weights: Group, name: str) -> list[tuple[str, Array]]:
    """The arrays of a layer with their names, in its order."""
    group = weights.at(name)
    found = []
    for path in (_names(group, "weight_names") or []) if group else []:
        array = group.array(path) if group else None
        if array is None:
            raise Unreadable(f"has no array {path!r} of numbers, expected it in {name!r}")
        found.append((path, array))
    return found


def _walk_lists(model: Mapping[str, Any], weights: Group, used: set[str]) -> Iterator[Found]:
    for name, title, config in _children(model):
        used.add(name)
        named = _list(weights, name)
        if title in MODELS:
            yield from _inside(name, config, named)
        else:
            yield name, title, config, [array for _, array in named]


def _inside(
    prefix: str, model: Mapping[str, Any], named: list[tuple[str, Array]]
) -> Iterator[Found]:
    """The layers of a model in the model: arrays whose names have the name of the layer."""
    left = dict(named)
    for name, title, config in _children(model):
        own = [(path, array) for path, array in left.items() if name in re.split("[/:]", path)]
        for path, _ in own:
            del left[path]
        if title in MODELS:
            yield from _inside(f"{prefix}.{name}", config, own)
        else:
            yield f"{prefix}.{name}", title, config, [array for _, array in own]
    if left:
        raise Unreadable(
            f"has the arrays {listed(left)} in {prefix!r}, expected those of its layers"
        )


def _with_arrays(file: KerasFile) -> list[str]:
    """The entries of the file that hold arrays."""
    if file.tree:
        layers = file.weights.groups.get("layers", Group({}, {}, {}))
        return [name for name, group in layers.groups.items() if _collected(group)]
    names = _names(file.weights, "layer_names") or []
    return [n for n in (*names, "top_level_model_weights") if _list(file.weights, n)]


# --- a tree of objects ----------------------------------------------------------------------------


def _tree_lists(weights: Group) -> Iterator[tuple[str, list[Array]]]:
    """The layers of a tree without configuration, in the file's order."""
    for folder in ("layers", "_layer_checkpoint_dependencies"):
        for key, group in weights.groups.get(folder, Group({}, {}, {})).groups.items():
            if "layers" in group.groups:
                yield from ((f"{key}.{name}", arrays) for name, arrays in _tree_lists(group))
            else:
                yield key, _collected(group)


def _walk_tree(
    model: Mapping[str, Any], weights: Group, used: set[str], prefix: str = ""
) -> Iterator[Found]:
    layers = weights.groups.get("layers", Group({}, {}, {})).groups
    by_name = {g.groups["vars"].attrs.get("name"): key
               for key, g in layers.items() if "vars" in g.groups}  # fmt: skip
    count: Counter[str] = Counter()
    for name, title, config in _children(model):
        base = snake_case(title)
        key = f"{base}_{count[base]}" if count[base] else base
        count[base] += 1
        key = by_name.get(name, key)
        if not prefix:
            used.add(key)
        group = layers.get(key, Group({}, {}, {}))
        if title in MODELS:
            yield from _walk_tree(config, group, used, f"{prefix}{name}.")
        else:
            yield prefix + name, title, config, _collected(group)


def snake_case(name: str) -> str:
    """The name of a class as Keras writes it in a tree: SimpleRNN is simple_rnn."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _collected(group: Group) -> list[Array]:
    """The arrays of a layer: its own, then those inside it, forward before backward."""
    own = group.groups.get("vars", Group({}, {}, {})).arrays
    arrays = [own[key] for key in sorted(own, key=lambda key: (len(key), key))]
    inner = [key for key in group.groups if key not in ("vars", "seed_generator")]
    if "forward_layer" in inner and "backward_layer" in inner:
        inner = ["forward_layer", "backward_layer"]
    return arrays + [array for key in inner for array in _collected(group.groups[key])]


# --- objects of a running Keras -------------------------------------------------------------------


def is_keras(value: Any) -> bool:
    """Is it a layer or a model of Keras?"""
    known = any(OWN.match(kind.__module__) for kind in type(value).__mro__)
    return known and hasattr(value, "get_weights") and hasattr(value, "get_config")


def entries_of_object(where: Where, value: Any) -> dict[str, Entry]:
    """The layers of a layer or model by their names in it."""
    entries: dict[str, Entry] = {}

    def others() -> list[str]:
        return [name for name, entry in entries.items() if entry.title in LOADABLE]

    for name, layer in _layers(value, ""):
        title, arrays = type(layer).__name__, [np.asarray(a) for a in layer.get_weights()]
        if arrays or title in LOADABLE:
            config = layer.get_config()
            entries[name] = entry_of(where, name, title, config, arrays, _is_old(layer), others)
    if not entries:
        raise ValueError(f"{where} is {type(value).__name__} without weights")
    return entries


def _layers(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The layers of a model, or the layer itself."""
    title = type(value).__name__
    if title not in MODELS:
        yield prefix.rstrip(".") or value.name, value
        return
    for layer in value.layers:
        yield from _layers(layer, f"{prefix}{layer.name}.")


def _is_old(layer: Any) -> bool:
    """Is the layer of Keras 2, whose hard sigmoid has another slope?"""
    roots = {kind.__module__.split(".")[0] for kind in type(layer).__mro__}
    for root in sorted(roots & {"keras", "tf_keras"}):
        version = getattr(
            sys.modules.get(root) or importlib.import_module(root), "__version__", "3"
        )
        return str(version).split(".")[0] in ("1", "2")
    return True
