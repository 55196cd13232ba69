# SPDX-License-Identifier: MIT
"""Layers from arrays with PyTorch's names, as in a state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .._cells import CELLS, NAMES
from .._guesses import CELL
from .._types import Array
from .._validate import as_array, as_choice, to_numpy
from .._words import listed, shown
from ..layers.base import Layer
from ..layers.cells import LAYERS
from ..layers.embedding import Embedding
from ..layers.linear import Linear
from ..layers.recurrent import Recurrent
from .conventions import check_options
from .entries import Entry, Where, matching

__all__ = ["entries_of_arrays", "recurrent_parts", "sizes_of"]

# The number of gates identifies the first such cell, unless its W_hh has another width than h.
BY_GATES = {len(c.gates): name for name, c in reversed(CELLS.items()) if c.wide_as_h}
OWN_WIDTH = {name: len(cell.gates) for name, cell in CELLS.items() if not cell.wide_as_h}
# Names of a layer end with its number; those of PyTorch's LSTMCell, GRUCell and RNNCell do not.
NUMBERED = "|".join((*NAMES.values(), "h0", "c0"))
PARAMETER = re.compile(rf"(?:({NUMBERED})_l([0-9]{{1,6}})(_reverse)?|({'|'.join(CELL)}))$")
SIMILAR = re.compile(r"\w+_l[0-9]+(_reverse)?$")  # names that another program's layer may have
LSTM_ONLY = [
    name
    for argument, name in NAMES.items()
    if [n for n, c in CELLS.items() if argument in (*c.options, *c.layer_norm)] == ["lstm"]
]
OTHERS: dict[str, type[Any]] = {"linear": Linear, "embedding": Embedding}


class Sizes(NamedTuple):
    cell: str
    gates: int
    input_size: int
    hidden_size: int
    num_layers: int
    directions: int
    proj_size: int  # 0: none


def entries_of_arrays(
    where: Where, arrays: Mapping[str, Any], name: str | None, cell: str | None
) -> dict[str, Entry]:
    """The recurrent layers among arrays; or the dense layer or embedding called `name`.

    Only recurrent weights have names that show what they are: a matrix alone may be the weight of
    many layers, so others are looked up by name alone.
    """
    if cell is not None:
        as_choice(where.caller, "cell", cell, (*LAYERS, *OTHERS))
    parts = recurrent_parts(where.caller, arrays)
    heads = {key.removesuffix("weight").rstrip("."): key for key in arrays if _ends(key, "weight")}
    if name is not None and not matching(parts, name) and (found := matching(heads, name)):
        return {p: Entry("Linear", partial(_head, where, arrays, p, cell), False) for p in found}
    if not parts:
        raise ValueError(f"{where} has the names {listed(arrays)}, expected weight_ih_l0, ...")
    return {p: Entry("layer", partial(_recurrent, where, arrays, p, cell)) for p in parts}


def _ends(key: str, name: str) -> bool:
    return key == name or key.endswith(f".{name}")


def _head(
    where: Where, arrays: Mapping[str, Any], prefix: str, cell: str | None, options: dict[str, Any]
) -> Layer:
    start = f"{prefix}." if prefix else ""
    own = {n: _array(where, start + n, arrays[start + n]) for n in ("weight", "bias")
           if start + n in arrays}  # fmt: skip
    known = {start + n for n in own}
    others = [k for k in arrays if k.startswith(start) and k not in known] if start else []
    if own["weight"].ndim != 2 or others:
        raise ValueError(
            f"{where.caller}: {shown(prefix)} has the names {listed([*known, *others])} and "
            f"weight of shape {own['weight'].shape}, expected a matrix, and a bias or none"
        )
    fits = ["linear"] if "bias" in own else ["linear", "embedding"]
    if cell is None and len(fits) > 1:
        raise ValueError(
            f"{where.caller}: {shown(prefix)} has a weight alone, which a dense layer or an "
            "embedding may have, expected cell='linear' or cell='embedding'"
        )
    kind = OTHERS.get(cell or "linear")
    if kind is None or (cell is not None and cell not in fits):
        raise ValueError(
            f"{where.caller}: cell is {cell!r}, expected one of {fits} for {shown(prefix)}"
        )
    check_options(where.caller, kind, options)
    double = all(a.dtype == np.float64 for a in own.values())
    given: dict[str, Any] = {"dtype": "float64" if double else "float32", **options}
    rows, columns = own["weight"].shape
    layer: Layer = (
        Embedding(rows, columns, **given)
        if kind is Embedding
        else Linear(columns, rows, "bias" in own, **given)
    )
    layer.load(own)
    return layer


def _recurrent(
    where: Where, arrays: Mapping[str, Any], prefix: str, cell: str | None, given: dict[str, Any]
) -> Recurrent:
    """The recurrent layer with this prefix."""
    own = _one_layer(where, arrays, prefix)
    found = _with_second_bias({k: _array(where, k, v) for k, v in own.items()})
    if cell in OTHERS:
        raise ValueError(f"{where.caller}: cell is {cell!r}, expected one of {listed(LAYERS)}")
    if cell is None and "forget_gate" in given:  # only an LSTM has this option
        cell = "lstm"
    sizes = sizes_of(where.caller, found, cell)
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
            f"{where.caller}: weight_hh_l0 has 3 gates, expected forget_gate='coupled' or 'none' "
            "to be given with an LSTM of so many"
        )
    kind = LAYERS[sizes.cell]
    check_options(where.caller, kind, given)
    double = all(a.dtype == np.float64 for a in found.values())
    given = {"dtype": "float64" if double else "float32", **options, **given}
    layer: Recurrent = kind(sizes.input_size, sizes.hidden_size, **given)
    layer.load(found)
    return layer


def _with_second_bias(arrays: dict[str, Array]) -> dict[str, Array]:
    """Add biases of 0 if the source has one bias for each cell instead of two."""
    for one, other in (("bias_ih", "bias_hh"), ("bias_hh", "bias_ih")):
        if _some(arrays, one) is not None and _some(arrays, other) is None:
            added = {
                name.replace(one, other): np.zeros_like(array)
                for name, array in arrays.items()
                if name.startswith(one)
            }
            return arrays | added
    return arrays


def sizes_of(caller: str, arrays: Mapping[str, Array], cell: str | None = None) -> Sizes:
    """Read the sizes of one layer from the names and shapes of its parameters."""
    if cell is not None:
        as_choice(caller, "cell", cell, tuple(LAYERS))
    for needed in ("weight_ih_l0", "weight_hh_l0"):
        if needed not in arrays or arrays[needed].ndim != 2:
            raise ValueError(f"{caller}: the weights have no matrix {needed}, expected one")
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
    return next((array for at, array in found if at and (at[1] or at[4]) in kinds), None)


def _num_layers(caller: str, arrays: Mapping[str, Array], directions: int) -> int:
    """Count the layers, each with a W_hh, so that no more memory is taken than the arrays have."""
    shape = arrays["weight_hh_l0"].shape
    numbers = {int(found[2]) for found in map(PARAMETER.search, arrays) if found and found[2]}
    for k in range(max(numbers) + 1):
        for suffix in ("", "_reverse")[:directions]:
            name = f"weight_hh_l{k}{suffix}"
            if name not in arrays:
                raise ValueError(
                    f"{caller}: the weights have no {name}, expected it with those of layer "
                    f"{max(numbers)}"
                )
            if arrays[name].shape != shape:
                _refuse_shape(caller, name, arrays[name], f"that of weight_hh_l0, {shape}")
    return max(numbers) + 1


def _refuse_shape(caller: str, name: str, array: Array, expected: str) -> None:
    raise ValueError(f"{caller}: {name} has shape {array.shape}, expected {expected}")


def recurrent_parts(caller: str, arrays: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parameters of each recurrent layer among all arrays, by their prefix."""
    layers: dict[str, dict[str, Any]] = {}
    for key, value in arrays.items():
        found = PARAMETER.search(key)
        if found and (found.start() == 0 or key[found.start() - 1] == "."):
            name = f"{found[0]}_l0" if found[4] else found[0]
            part = layers.setdefault(key[: found.start()].rstrip("."), {})
            if name in part:
                raise ValueError(f"{caller}: {shown(key)} and {name} are both given, expected one")
            part[name] = value
    return layers


def _one_layer(where: Where, arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The parameters of one layer among all arrays, without their prefix."""
    found = recurrent_parts(where.caller, arrays)[prefix]
    start = f"{prefix}." if prefix else ""
    for key in arrays:
        own = key[len(start) :] if key.startswith(start) else ""
        if SIMILAR.fullmatch(own) and own not in found:
            raise ValueError(f"{where} has {shown(key)}, expected parameters of bptt alone")
    return found


def _array(where: Where, name: str, value: Any) -> Array:
    array = as_array(where.caller, f"{where.label}[{shown(name)}]", to_numpy(value))
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{where}[{shown(name)}] has dtype {array.dtype}, expected real numbers")
    return array
