# SPDX-License-Identifier: MIT
"""A model from what `description.py` writes and the arrays of its `state_dict`, all checked."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Collection, Mapping
from typing import Any

from .._types import Array
from .._words import listed, shown
from ..layers.base import at_most
from ..layers.recurrent import LAYERS, Recurrent
from .description import KEY, VERSION
from .model import Sequential
from .places import KINDS

__all__ = ["fields_of", "from_metadata", "rebuilt"]

CLASSES = {kind.__name__: kind for kind in KINDS if kind is not Recurrent} | {
    kind.__name__: kind for kind in LAYERS.values()
}


def rebuilt(caller: str, description: Any, arrays: Mapping[str, Array]) -> Sequential:
    """The model of `described`, with the arrays of its `state_dict`.

    Raises ValueError in one sentence if they do not fit; no layer is larger than its arrays.
    """
    description = fields_of(f"{caller}: the model", description, ("version", "layers", "frozen"))
    version, entries = description["version"], description["layers"]
    if version != VERSION:
        raise ValueError(
            f"{caller}: the model has format version {shown(version)}, expected {VERSION}: another "
            "version of bptt wrote it"
        )
    if not isinstance(entries, list):
        raise ValueError(f"{caller}: layers is {shown(entries)}, expected a list")
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        number = name.partition(".")[0]
        sizes[number] = sizes.get(number, 0) + array.size
    layers = [_layer(caller, k, entry, sizes.get(str(k), 0)) for k, entry in enumerate(entries)]
    try:
        model = Sequential(*layers)
        model.load_state_dict(arrays)
        model.frozen = description["frozen"]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{caller}: the model has no such layers: {error}") from error
    return model


def _layer(caller: str, k: int, entry: Any, size: int) -> Any:
    """Layer number k, of at most `size` parameters."""
    entry = fields_of(f"{caller}: layer {k}", entry, ("class", "arguments"))
    name, arguments = entry["class"], entry["arguments"]
    if not isinstance(name, str) or name not in CLASSES:
        raise ValueError(
            f"{caller}: layer {k} has class {shown(name)}, expected one of {', '.join(CLASSES)}"
        )
    known = set(inspect.signature(CLASSES[name]).parameters) - {"seed"}
    if not isinstance(arguments, dict) or not known.issuperset(arguments):
        has = listed(sorted(set(arguments) - known)) if isinstance(arguments, dict) else (
            shown(arguments))  # fmt: skip
        raise ValueError(
            f"{caller}: layer {k}, {name}, has arguments {has}, expected some of its constructor's"
        )
    try:
        with at_most(size), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were shown when the model was made
            return CLASSES[name](**{n: _tuples(value) for n, value in arguments.items()})
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{caller}: layer {k} cannot be made: {error}") from error


def fields_of(label: str, value: Any, names: Collection[str]) -> dict[str, Any]:
    """Check that a value of a file is a dict of these names."""
    if not isinstance(value, dict) or set(value) != set(names):
        has = listed(value) if isinstance(value, dict) else shown(value)
        raise ValueError(f"{label} has {has}, expected {listed(names)}")
    return value


def _tuples(value: Any) -> Any:
    """JSON has lists where the arguments were tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def from_metadata(
    caller: str, metadata: Mapping[str, str], arrays: Mapping[str, Array]
) -> Sequential:
    """The model of a file."""
    try:
        description = json.loads(metadata[KEY])
    except (ValueError, RecursionError):
        raise ValueError(f"{caller}: the model is {shown(metadata[KEY])}, expected JSON") from None
    return rebuilt(caller, description, arrays)
