# SPDX-License-Identifier: MIT
"""The structure of a recurrent layer: sizes, options and the parameters that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .._cells import CELLS, LAYER_NORM, NAMES, Option
from .._grads import Grads
from .._types import Array
from .._validate import as_count, as_flag


class Learnt(NamedTuple):
    """An option that the functions take as arrays and a layer as one argument."""

    name: str  # of the layer's argument
    default: Any
    check: Any


# By the functions' names.
LEARNT = {
    "peepholes": Learnt("peepholes", False, as_flag),
    "w_hr": Learnt("proj_size", 0, lambda caller, name, value: as_count(caller, name, value, 0)),
    "layer_norm": Learnt("layer_norm", False, as_flag),
}
# Options that `Recurrent` has for all cells: of its constructor, or of its calls.
OF_EVERY_LAYER = ("resets", "dilation", "skip", "zoneout", "h_mask")


@cache
def own_options(kind: str) -> dict[str, Option | Learnt]:
    """The options of a cell's layer that other layers may lack, by the layer's names."""
    table = CELLS[kind].options
    own = {name: option for name, option in table.items() if name not in OF_EVERY_LAYER}
    return {LEARNT[n].name if n in LEARNT else n: LEARNT.get(n, o) for n, o in own.items()}


class Structure(NamedTuple):
    """Sizes and options of a recurrent layer, checked. They never change.

    Attributes
    ----------
    caller : str
        The layer's class, for messages.
    kind : str
        The cell, a name in `CELLS`.
    width : int
        The units of h: P with a projection, else H.
    dilations : tuple of int
        One for each layer.
    options : dict
        The cell's options that differ from their defaults, as the functions take them.
    learnt : tuple of str
        The functions' options that are parameters here, as "peepholes".
    """

    caller: str
    kind: str
    input_size: int
    hidden_size: int
    width: int
    num_layers: int
    directions: int
    bias: bool
    batch_first: bool
    dilations: tuple[int, ...]
    skip: int
    residual: bool
    reverse: bool
    learn_state: bool
    dtype: np.dtype[Any]
    compute: str | None
    options: dict[str, Any]
    learnt: tuple[str, ...]

    @property
    def gates(self) -> int:
        return len(CELLS[self.kind].activations(**self.options))

    @property
    def states(self) -> int:
        return len(CELLS[self.kind].states)

    @property
    def cells(self) -> int:
        """One for each layer and direction; cell number k is in layer k // directions."""
        return self.num_layers * self.directions

    def adds_input(self, layer: int) -> bool:
        return self.residual and (layer > 0 or self.input_size == self.directions * self.width)

    def shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """The shapes of one cell's parameters, by the functions' names."""
        cell, H, P = CELLS[self.kind], self.hidden_size, self.width
        rows, inputs = self.gates * H, self.directions * P if layer else self.input_size
        columns = P * len(cell.operand) // self.options.get("heads", 1)
        shapes: dict[str, tuple[int, ...]] = {"w_ih": (rows, inputs), "w_hh": (rows, columns)}
        if self.bias:
            shapes |= {"b_ih": (rows,), "b_hh": (rows,)}
        if "peepholes" in self.learnt:
            shapes["peepholes"] = (self.gates - 1, H)
        if "w_hr" in self.learnt:
            shapes["w_hr"] = (P, H)
        if "layer_norm" in self.learnt:
            shapes |= {g: (rows,) if g in ("g_ih", "g_hh") else (H,) for g in cell.layer_norm}
        return shapes

    def names(self, k: int) -> dict[str, str]:
        """The names of cell k's parameters, by the functions' names."""
        layer, reverse = divmod(k, self.directions)
        suffix = f"_l{layer}" + "_reverse" * reverse
        return {argument: NAMES[argument] + suffix for argument in self.shapes(layer)}

    def is_reverse(self, k: int) -> bool:
        """Does cell k read each sequence from its end?"""
        return self.reverse or k % self.directions == 1

    def initial_shapes(self, k: int) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters of cell k that are its initial state, by their names."""
        layer, reverse = divmod(k, self.directions)
        suffix, states = f"0_l{layer}" + "_reverse" * reverse, CELLS[self.kind].states
        widths = [self.width, *[self.hidden_size] * (len(states) - 1)]
        return {s + suffix: (w,) for s, w in zip(states, widths) if self.learn_state}

    def weights(self, parameters: Mapping[str, Array], k: int) -> dict[str, Any]:
        """The parameters of cell k as the functions take them."""
        arrays: dict[str, Any] = {a: parameters[name] for a, name in self.names(k).items()}
        norm = tuple(arrays.pop(name) for name in LAYER_NORM if name in arrays)
        return arrays | {"layer_norm": norm} if norm else arrays


def by_parameter(
    grads: Grads, names: Mapping[str, str], wanted: frozenset[str] | None = None
) -> dict[str, Any]:
    """One cell's gradients by parameter; `names` as from `Structure.names`; None: all wanted."""
    if grads.layer_norm is None and wanted is None:
        return {name: getattr(grads, argument) for argument, name in names.items()}
    norms = [name for argument, name in names.items() if argument in LAYER_NORM]
    found = {name: getattr(grads, a) for a, name in names.items() if a not in LAYER_NORM}
    found |= dict(zip(norms, grads.layer_norm or ()))
    return found if wanted is None else {n: d for n, d in found.items() if n in wanted}


# --- options of every layer -----------------------------------------------------------------------


def as_dilations(caller: str, value: Any, num_layers: int) -> tuple[int, ...]:
    """One for each layer."""
    if not isinstance(value, Sequence):
        return (as_count(caller, "dilation", value, 1),) * num_layers
    if len(value) != num_layers:
        raise ValueError(
            f"{caller}: dilation has {len(value)} items, expected num_layers = {num_layers}"
        )
    return tuple(as_count(caller, f"dilation[{i}]", v, 1) for i, v in enumerate(value))


def as_skip(caller: str, value: Any, dilations: tuple[int, ...]) -> int:
    skip = as_count(caller, "skip", value, 0)
    for dilation in dilations:
        if skip % dilation:
            raise ValueError(
                f"{caller}: skip is {skip}, expected a multiple of dilation = {dilation}"
            )
    return skip
