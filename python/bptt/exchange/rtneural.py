# SPDX-License-Identifier: MIT
"""Layers to and from JSON for RTNeural's run-time loader.

The format follows Keras: kernels are (inputs, G*H), the transpose of PyTorch's weights, and the
gates of a GRU are z r n instead of r z n. An LSTM has one bias, a GRU two, as in Keras with
``reset_after=True``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .._cells import CELLS
from .._files.access import Path, mark, open_file, write_file
from .._types import Array
from .._validate import as_dtype, as_path
from .._words import printable
from ..layers.activations import ACTIVATIONS
from ..layers.base import Layer
from ..layers.cells import GRU, LSTM
from ..layers.linear import Linear
from ..layers.recurrent import Recurrent
from .chains import check_chain, sizes_of_layer
from .conventions import Convention, Weights, check_options, filled, reorder

__all__ = [
    "JSON",
    "as_json",
    "layers_of_rtneural",
    "load_rtneural",
    "parse_json",
    "save_rtneural",
]

GATES = {"lstm": ("i", "f", "g", "o"), "gru": ("z", "r", "n")}  # in the order of the columns
START = '{"in_shape": [null, null, '
JSON = mark("RTNeural's JSON made by bptt", START.encode(), b'"layers": [')
KINDS = ("lstm", "gru", "dense", "time-distributed-dense", "activation")
WRITTEN = {"num_layers", "bias", "dtype"}  # options that the file holds


def save_rtneural(path: Path, layers: Sequence[Layer]) -> None:
    """Write a chain of layers as RTNeural's JSON.

    The one bias of an LSTM in this format is the sum of its two biases. An `LSTM` or `GRU` of
    several layers becomes several entries. The file is written whole or not at all.

    Parameters
    ----------
    path : str or path-like
        The file: a new one, or an earlier one.
    layers : sequence of LSTM, GRU and Linear
        Each layer reads the output of the layer before it. RTNeural has only plain cells: layers
        may have sizes, `bias`, the activation of `Linear`, and options that act in training only.

    Raises
    ------
    TypeError
        If `layers` holds something else.
    ValueError
        If RTNeural has no such layer, the sizes of successive layers differ, a weight is not
        finite, or `path` is a file that bptt did not make; nothing is written.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import bptt
    >>> layers = [bptt.LSTM(1, 8, seed=0), bptt.Linear(8, 1, activation="tanh", seed=1)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "amp.json")
    ...     bptt.save_rtneural(path, layers)
    ...     lstm, head = bptt.load_rtneural(path)
    >>> head
    Linear(8, 1, activation='tanh')
      weight  (1, 8)
      bias    (1,)
      9 parameters

    References
    ----------
    Chowdhury (2021), RTNeural: Fast neural inferencing for real-time systems, arXiv:2106.03037.
    """
    write_file("save_rtneural", path, as_json(layers), JSON)


def as_json(layers: Sequence[Layer]) -> bytes:
    """The content that `save_rtneural` writes."""
    check_chain("save_rtneural", layers, (LSTM, GRU, Linear), WRITTEN, "RTNeural")
    first = sizes_of_layer(layers[0])[0]
    entries: list[dict[str, Any]] = []
    for layer in layers:
        if isinstance(layer, Linear):
            entries += _dense(layer)
        elif isinstance(layer, (LSTM, GRU)):
            entries += _recurrent(layer)
    model = {"in_shape": [None, None, first], "layers": entries}
    return json.dumps(model, allow_nan=False).encode()


def load_rtneural(path: Path, dtype: DTypeLike = "float32") -> list[Layer]:
    """Read a chain of layers from RTNeural's JSON.

    A dense layer becomes a `Linear` with its activation. An entry "activation" is merged into the
    dense layer before it if this has none. The bias of an LSTM becomes ``bias_ih``, and
    ``bias_hh`` is 0.

    Parameters
    ----------
    path : str or path-like
        The file.
    dtype : {"float32", "float64"}, optional
        The dtype of the layers.

    Returns
    -------
    list of LSTM, GRU and Linear
        Each layer reads the output of the layer before it.

    Raises
    ------
    ValueError
        If the file is not such JSON, has a layer that bptt lacks, such as a convolution, or weights
        of wrong shapes; the message names the place.
    OSError
        If the file cannot be read.
    """
    caller = "load_rtneural"
    name, kind = as_path(caller, path), as_dtype(caller, dtype)
    with open_file(caller, name) as file:
        caller = f"{caller}: {printable(name)}"
        model = parse_json(caller, file.read())
    return layers_of_rtneural(caller, model, {"dtype": kind})


def layers_of_rtneural(caller: str, model: dict[str, Any], options: dict[str, Any]) -> list[Layer]:
    """The layers of a parsed file; `options` are for the recurrent ones."""
    for kind in (LSTM, GRU):
        check_options(caller, kind, options)
    options = {**options, "dtype": as_dtype(caller, options.get("dtype", "float32"))}
    width = _width(f"{caller}: in_shape", model.get("in_shape"))
    layers: list[Layer] = []
    for k, entry in enumerate(_items(f"{caller}: layers", model.get("layers"))):
        place = f"{caller}: layers[{k}]"
        if not isinstance(entry, dict):
            raise ValueError(f"{place} is {_brief(entry)}, expected an object")
        inputs, width = width, _width(f"{place}.shape", entry.get("shape"))
        _append(place, layers, entry, (inputs, width), options)
    if not layers:
        raise ValueError(f"{caller}: layers is empty, expected one or more")
    return layers


# --- writing --------------------------------------------------------------------------------------


def _entry(kind: str, activation: str, width: int, weights: list[Array]) -> dict[str, Any]:
    lists = [array.tolist() for array in weights]
    shape = [None, None, width]
    return {"type": kind, "activation": activation, "shape": shape, "weights": lists}


def _dense(layer: Linear) -> list[dict[str, Any]]:
    weights = [layer.parameters["weight"].T]
    if layer.bias:
        weights.append(layer.parameters["bias"])
    name = "" if layer.activation == "identity" else layer.activation
    return [_entry("dense", name, layer.out_features, weights)]


def _recurrent(layer: LSTM | GRU) -> list[dict[str, Any]]:
    kind = "lstm" if isinstance(layer, LSTM) else "gru"
    rows, entries = len(GATES[kind]) * layer.hidden_size, []
    for k in range(layer.num_layers):
        kernels = [_reorder(kind, layer.parameters[f"weight_{of}_l{k}"]).T for of in ("ih", "hh")]
        biases = np.zeros((2, rows))
        if layer.bias:
            for row, of in zip(biases, ("ih", "hh")):
                row[:] = _reorder(kind, layer.parameters[f"bias_{of}_l{k}"])
        bias = biases.sum(0) if kind == "lstm" else biases
        entries.append(_entry(kind, "tanh", layer.hidden_size, [*kernels, bias]))
    return entries


def _reorder(kind: str, array: Array) -> Array:
    """Reorder the gates from our order to RTNeural's."""
    return reorder(array, tuple(CELLS[kind].gates), GATES[kind])


# --- reading --------------------------------------------------------------------------------------


def parse_json(caller: str, content: bytes) -> dict[str, Any]:
    """The JSON object, with all numbers as float and without NaN."""
    try:
        model = json.loads(content, parse_int=float, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{caller} is not JSON: {error}") from error
    if not isinstance(model, dict):
        raise ValueError(f"{caller} is {_brief(model)}, expected an object: in_shape and layers")
    return model


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _append(
    place: str,
    layers: list[Layer],
    entry: dict[str, Any],
    sizes: tuple[int, int],
    options: dict[str, Any],
) -> None:
    """Append the layer of one entry."""
    kind = _choice(f"{place}.type", entry.get("type"), KINDS)
    weights = _items(f"{place}.weights", entry.get("weights"))
    activation, place = entry.get("activation", ""), f"{place} ({kind})"
    if kind in GATES:
        _choice(f"{place}.activation", activation, ("", "tanh"))
        layers.append(_load_recurrent(place, kind, sizes, weights, options))
        return
    name = _choice(f"{place}.activation", activation, ("", *ACTIVATIONS)) or "identity"
    if kind != "activation":
        layers.append(_load_dense(place, name, sizes, weights, options.get("dtype", "float32")))
        return
    before = layers[-1] if layers else None
    if not isinstance(before, Linear) or before.activation != "identity":
        raise ValueError(f"{place} has no dense layer without activation before it, expected one")
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"{place}.shape has size {sizes[1]}, expected {sizes[0]}, the size before it"
        )
    before.activation = name


def _load_dense(
    place: str, activation: str, sizes: tuple[int, int], weights: list[Any], dtype: Any
) -> Linear:
    if len(weights) not in (1, 2):
        raise ValueError(f"{place}.weights has length {len(weights)}, expected kernel and bias")
    symbols = ("(inputs, outputs)", "(outputs,)")
    arrays = _arrays(place, weights, symbols, (sizes, sizes[1:]), dtype)
    layer = Linear(*sizes, len(weights) == 2, activation=activation, dtype=dtype)
    layer.load(dict(zip(("weight", "bias"), (array.T for array in arrays))))
    return layer


def _load_recurrent(
    place: str, kind: str, sizes: tuple[int, int], weights: list[Any], options: dict[str, Any]
) -> Recurrent:
    if len(weights) != 3:
        raise ValueError(
            f"{place}.weights has length {len(weights)}, expected kernel, recurrent kernel and bias"
        )
    inputs, H = sizes
    G = len(GATES[kind])
    bias = ("(4*H,)", (4 * H,)) if kind == "lstm" else ("(2, 3*H)", (2, 3 * H))
    symbols = (f"(inputs, {G}*H)", f"(H, {G}*H)", bias[0])
    shapes = ((inputs, G * H), (H, G * H), bias[1])
    kernel, recurrent, b = _arrays(place, weights, symbols, shapes, options["dtype"])
    biases = (b,) if kind == "lstm" else tuple(b)
    convention = Convention(GATES[kind], tuple(CELLS[kind].gates), transposed=True)
    return filled(place, kind, [Weights(kernel, recurrent, *biases)], convention, options)


def _arrays(
    place: str, weights: list[Any], symbols: Sequence[str], shapes: Sequence[Any], dtype: Any
) -> list[Array]:
    arrays = []
    for k, (value, names, shape) in enumerate(zip(weights, symbols, shapes)):
        _check_rows(f"{place}.weights[{k}]", value, names, shape)
        with np.errstate(over="ignore"):
            arrays.append(np.array(value, np.float64).astype(dtype))
        if not np.isfinite(arrays[-1]).all():
            raise ValueError(f"{place}.weights[{k}] has numbers too large, expected {dtype}")
    return arrays


def _check_rows(place: str, value: Any, symbols: str, shape: tuple[int, ...]) -> None:
    """Raise unless the value is nested lists of numbers of the given shape."""
    if len(_items(place, value)) != shape[0]:
        raise ValueError(
            f"{place} has length {len(value)}, expected {shape[0]}, for weights of shape {symbols}"
        )
    for k, item in enumerate(value):
        if len(shape) > 1:
            _check_rows(f"{place}[{k}]", item, symbols, shape[1:])
        elif not isinstance(item, float):
            raise ValueError(f"{place}[{k}] is {_brief(item)}, expected a number")


def _width(place: str, value: Any) -> int:
    """The last of the sizes, after batch and time."""
    last = value[-1] if isinstance(value, list) and 0 < len(value) < 4 else None
    if not isinstance(last, float) or not last.is_integer() or last < 1:
        raise ValueError(f"{place} is {_brief(value)}, expected [null, null, size]")
    return int(last)


def _items(place: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{place} is {_brief(value)}, expected a list")
    return value


def _choice(place: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        known = ", ".join(map(repr, choices))
        raise ValueError(f"{place} is {_brief(value)}, expected one of {known}")
    return value


def _brief(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of length {len(value)}"
    if not isinstance(value, (str, bool, float, type(None))):
        return "an object" if isinstance(value, dict) else f"of type {type(value).__name__}"
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
