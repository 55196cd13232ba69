# SPDX-License-Identifier: MIT
"""Makes a layer of any recurrent model: a module of PyTorch, a dict of arrays, a file."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import io
from .._cells import CELLS, NAMES
from .._files.access import naming
from .._guesses import numbered
from .._types import Array
from .._validate import as_array, as_choice, as_path, check_mapping, to_numpy
from .._words import listed, shown
from .cells import LAYERS
from .recurrent import Recurrent

__all__ = ["layer_of"]

# The number of gates identifies the first such cell, unless its W_hh has another width than h.
BY_GATES = {len(c.gates): name for name, c in reversed(CELLS.items()) if c.wide_as_h}
OWN_WIDTH = {name: len(cell.gates) for name, cell in CELLS.items() if not cell.wide_as_h}
TORCH_MODES = {"RNN_TANH": "rnn", "RNN_RELU": "rnn", "LSTM": "lstm", "GRU": "gru"}
PARAMETER = re.compile(rf"({'|'.join((*NAMES.values(), 'h0', 'c0'))})_l([0-9]{{1,6}})(_reverse)?$")
SIMILAR = re.compile(r"\w+_l[0-9]+(_reverse)?$")  # names that another program's layer may have
LSTM_ONLY = [
    name
    for argument, name in NAMES.items()
    if [n for n, c in CELLS.items() if argument in (*c.options, *c.layer_norm)] == ["lstm"]
]


class Sizes(NamedTuple):
    cell: str
    gates: int
    input_size: int
    hidden_size: int
    num_layers: int
    directions: int
    proj_size: int  # 0: none


def layer_of(
    model: Any, name: str | None = None, *, cell: str | None = None, **options: Any
) -> Recurrent:
    """Make a layer of what holds recurrent weights under PyTorch's names.

    Parameters
    ----------
    model : Recurrent, torch.nn.RNN, LSTM or GRU, dict of str to array_like, or path
        A layer is returned unchanged. A module gives its arguments and copies of its weights;
        PyTorch itself is not imported. In a dict, or in a file written by `bptt.save` or by
        safetensors, names and shapes tell the sizes, the number of layers, directions, heads,
        biases, projection, peepholes and layer normalisation. The names may have a prefix, as in
        ``lstm.weight_hh_l0``.
    name : str, optional
        The prefix, such as "lstm"; needed if there are several layers.
    cell : {"rnn", "lstm", "gru", "mgu", "slstm", "lstm1997"}, optional
        If omitted, the number of gates tells the cell: RNN 1, MGU 2, GRU 3, LSTM 4.
    **options
        Arguments of the layer's constructor that shapes do not tell: ``activation="relu"``,
        ``batch_first=True``, ``dilation=2``, ... An LSTM with three gates needs `forget_gate`,
        "coupled" or "none".

    Returns
    -------
    Recurrent
        In float64 if all weights are float64, else in float32.

    Raises
    ------
    ValueError
        If names and shapes do not fit one such layer. Each array of the layer is used or named in
        the error.
    TypeError
        If `model` is something else, or `cell` or options are given for a model that has its own.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.flow import layer_of
    >>> weights = {"weight_ih_l0": np.ones((12, 2)), "weight_hh_l0": np.zeros((12, 3))}
    >>> layer_of(weights)
    LSTM(2, 3, bias=False, dtype='float64')
      weight_ih_l0  (12, 2)
      weight_hh_l0  (12, 3)
      60 parameters
    """
    caller = "layer_of"
    if name is not None and not isinstance(name, str):
        raise TypeError(f"{caller}: name is {shown(name)}, expected the prefix of a layer's names")
    if isinstance(model, (str, os.PathLike)):
        arrays = io.load(as_path(caller, model, "model"))
        with naming(model):
            return _of_arrays(caller, arrays, name, cell, options)
    if isinstance(model, Mapping):
        check_mapping(caller, "model", model, tensors=True)
        return _of_arrays(caller, model, name, cell, options)
    known = isinstance(model, Recurrent) or getattr(model, "mode", None) in TORCH_MODES
    if not known:
        raise TypeError(
            f"{caller}: model is of type {type(model).__name__}, expected a recurrent layer of "
            f"bptt or PyTorch, a dict of its parameters, or a file of them{_inside(model)}"
        )
    if name is not None or cell is not None or options:
        raise TypeError(
            f"{caller}: name, cell or options are given, expected none: "
            f"{type(model).__name__} has its own"
        )
    return as_layer(model)


def as_layer(model: Any, seed: int = 0) -> Recurrent:
    """As `layer_of`; `seed` is for the masks of a PyTorch module in training mode."""
    if isinstance(model, Recurrent) or getattr(model, "mode", None) not in TORCH_MODES:
        return model if isinstance(model, Recurrent) else layer_of(model)
    return _of_torch("layer_of", model, seed)


def _inside(model: Any) -> str:
    """Name the recurrent layers of a module, for a message."""
    if not hasattr(model, "named_modules"):
        return ""
    found = [n for n, m in model.named_modules() if getattr(m, "mode", None) in TORCH_MODES]
    return f": pass one of its layers {listed(found)}, or .state_dict()" if found else ""


def _of_torch(caller: str, module: Any, seed: int) -> Recurrent:
    options = {
        "seed": seed,
        "num_layers": module.num_layers,
        "bias": bool(module.bias),
        "batch_first": module.batch_first,
        "dropout": float(module.dropout) if module.training else 0.0,
        "bidirectional": module.bidirectional,
    }
    cell = TORCH_MODES[module.mode]
    if cell == "rnn":
        options["activation"] = module.mode.removeprefix("RNN_").lower()
    if getattr(module, "proj_size", 0):
        options["proj_size"] = module.proj_size
    state = {k: _array(caller, k, v) for k, v in module.state_dict().items()}
    return _filled(LAYERS[cell], module.input_size, module.hidden_size, options, state)


def _of_arrays(
    caller: str,
    arrays: Mapping[str, Any],
    name: str | None,
    cell: str | None,
    given: dict[str, Any],
) -> Recurrent:
    own = _one_layer(caller, numbered(arrays), name)
    found = {k: _array(caller, k, v) for k, v in own.items()}
    if cell is None and "forget_gate" in given:  # only an LSTM has this option
        cell = "lstm"
    sizes = sizes_of(caller, found, cell)
    options: dict[str, Any] = {
        "num_layers": sizes.num_layers,
        "bias": _some(found, "bias_ih", "bias_hh") is not None,
        "bidirectional": sizes.directions == 2,
    }
    if sizes.proj_size:
        options["proj_size"] = sizes.proj_size
    if _some(found, "peephole") is not None:
        options["peepholes"] = True
    if _some(found, "gain_ih", "gain_hh", "gain_c", "bias_c") is not None:
        options["layer_norm"] = True
    if _some(found, "h0", "c0") is not None:
        options["learn_state"] = True
    if sizes.cell == "slstm":
        options["heads"] = max(1, sizes.hidden_size // max(1, found["weight_hh_l0"].shape[1]))
    if sizes.cell == "lstm" and sizes.gates == 3 and "forget_gate" not in given:
        raise ValueError(
            f"{caller}: weight_hh_l0 has 3 gates, expected forget_gate='coupled' or 'none' to be "
            "given with an LSTM of so many"
        )
    kind = LAYERS[sizes.cell]
    known = inspect.signature(kind).parameters
    for option in given:
        if option not in known:
            raise TypeError(f"{caller}: {kind.__name__} has no option {option!r}")
    return _filled(kind, sizes.input_size, sizes.hidden_size, options | given, found)


def sizes_of(caller: str, arrays: Mapping[str, Array], cell: str | None = None) -> Sizes:
    """Read the sizes of one layer from the names and shapes of its parameters."""
    if cell is not None:
        as_choice(caller, "cell", cell, tuple(LAYERS))
    for needed in ("weight_ih_l0", "weight_hh_l0"):
        if needed not in arrays or arrays[needed].ndim != 2:
            raise ValueError(f"{caller}: model has no matrix {needed}, expected one")
    rows, width = arrays["weight_hh_l0"].shape
    projected = _some(arrays, "weight_hr")
    if projected is not None and (projected.ndim != 2 or len(projected) != width):
        _refuse_shape(caller, "weight_hr", projected, f"(P, H) with P = {width}")
    hidden = projected.shape[1] if projected is not None else width
    if cell in OWN_WIDTH:
        hidden = rows // OWN_WIDTH[cell]
    gates, rest = divmod(rows, max(hidden, 1))
    if rest or gates not in BY_GATES:
        raise ValueError(
            f"{caller}: weight_hh_l0 has shape {(rows, width)}, expected (G*H, H) with 1 to "
            f"{max(BY_GATES)} gates"
        )
    if len(arrays["weight_ih_l0"]) != rows:
        _refuse_shape(caller, "weight_ih_l0", arrays["weight_ih_l0"], f"(G*H, I) with G*H = {rows}")
    if cell is None:
        cell = "lstm" if _some(arrays, *LSTM_ONLY) is not None else BY_GATES[gates]
    directions = 1 + any(name.endswith("_reverse") for name in arrays)
    return Sizes(
        cell=cell,
        gates=gates,
        input_size=arrays["weight_ih_l0"].shape[1],
        hidden_size=hidden,
        num_layers=_num_layers(caller, arrays, directions),
        directions=directions,
        proj_size=0 if projected is None else len(projected),
    )


def _some(arrays: Mapping[str, Array], *kinds: str) -> Array | None:
    """Find a parameter of these kinds in any layer; `load` names those that are missing."""
    found = ((PARAMETER.search(name), array) for name, array in arrays.items())
    return next((array for at, array in found if at and at[1] in kinds), None)


def _num_layers(caller: str, arrays: Mapping[str, Array], directions: int) -> int:
    """Count the layers, each with a W_hh, so that no more memory is taken than the arrays have."""
    shape = arrays["weight_hh_l0"].shape
    numbers = {int(found[2]) for found in map(PARAMETER.search, arrays) if found}
    for k in range(max(numbers) + 1):
        for suffix in ("", "_reverse")[:directions]:
            name = f"weight_hh_l{k}{suffix}"
            if name not in arrays:
                raise ValueError(
                    f"{caller}: model has no {name}, expected it with those of layer {max(numbers)}"
                )
            if arrays[name].shape != shape:
                _refuse_shape(caller, name, arrays[name], f"that of weight_hh_l0, {shape}")
    return max(numbers) + 1


def _refuse_shape(caller: str, name: str, array: Array, expected: str) -> None:
    raise ValueError(f"{caller}: {name} has shape {array.shape}, expected {expected}")


def _filled(
    kind: type[Any], inputs: int, hidden: int, options: dict[str, Any], arrays: dict[str, Array]
) -> Recurrent:
    wide = all(a.dtype == np.float64 for a in arrays.values())
    dtype = "float64" if wide else "float32"
    layer: Recurrent = kind(inputs, hidden, **{"dtype": dtype, **options})
    layer.load(arrays)
    return layer


def recurrent_parts(arrays: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parameters of each recurrent layer among all arrays, by their prefix."""
    layers: dict[str, dict[str, Any]] = {}
    for key, value in arrays.items():
        found = PARAMETER.search(key)
        if found and (found.start() == 0 or key[found.start() - 1] == "."):
            layers.setdefault(key[: found.start()].rstrip("."), {})[found[0]] = value
    return layers


def _one_layer(caller: str, arrays: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """The parameters of one layer among all arrays, without their prefix."""
    layers = recurrent_parts(arrays)
    if not layers:
        raise ValueError(
            f"{caller}: model has the names {listed(arrays)}, expected weight_ih_l0, ..."
        )
    if name is None and len(layers) == 1:
        name = next(iter(layers))
    if name not in layers:
        has = f"name is {shown(name)}" if name is not None else "name is missing"
        raise ValueError(f"{caller}: {has}, expected one of {listed(layers)}")
    start = f"{name}." if name else ""
    for key in arrays:
        own = key[len(start) :] if key.startswith(start) else ""
        if SIMILAR.fullmatch(own) and own not in layers[name]:
            raise ValueError(f"{caller}: model has {shown(key)}, expected parameters of bptt alone")
    return layers[name]


def _array(caller: str, name: str, value: Any) -> Array:
    array = as_array(caller, f"model[{shown(name)}]", to_numpy(value))
    if array.dtype.kind not in "fiu":
        raise TypeError(
            f"{caller}: model[{shown(name)}] has dtype {array.dtype}, expected real numbers"
        )
    return array
