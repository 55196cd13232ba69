# SPDX-License-Identifier: MIT
"""What recurrent layers are made of: their cell, and its options, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .._cells import LAYER_NORM
from .._grads import Grads
from .._types import Array
from .._validate import as_count, as_probability


class Cell(NamedTuple):
    name: str  # of the functions
    gates: int
    states: int
    options: dict[str, Any]  # arguments of the functions
    shapes: dict[str, tuple[int, ...]]  # of parameters that are others than those of most cells


def layer_norm_shapes(layer: Any, gates: int, states: int) -> dict[str, tuple[int, ...]]:
    """c has a gain and an offset of its own where it is the only state beside h."""
    if not layer.layer_norm:
        return {}
    H = layer.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"g_ih": (gates * H,), "g_hh": (gates * H,)}
    return shapes | {"g_c": (H,), "b_c": (H,)} if states == 2 else shapes


def as_arguments(arrays: dict[str, Array]) -> dict[str, Any]:
    """Parameters as the functions take them."""
    norm = tuple(arrays[name] for name in LAYER_NORM if name in arrays)
    if not norm:
        return dict(arrays)
    return {name: a for name, a in arrays.items() if name not in LAYER_NORM} | {"layer_norm": norm}


def by_parameter(grads: Grads, names: dict[str, str]) -> dict[str, Any]:
    """Gradients by the names that `names` gives the functions' parameters."""
    given = grads._asdict() | dict(zip(LAYER_NORM, grads.layer_norm or ()))
    return {name: given[argument] for argument, name in names.items()}


def start_layer_norm(parameters: dict[str, Array], names: list[dict[str, str]]) -> None:
    """Gains and offsets that normalise and no more; `names` as above, of each direction."""
    for of_one in names:
        for argument in LAYER_NORM.keys() & of_one:
            parameters[of_one[argument]][:] = LAYER_NORM[argument]


def as_zoneout(caller: str, value: Any, states: int) -> float | tuple[float, float]:
    if not isinstance(value, (tuple, list)):
        return as_probability(caller, "zoneout", value)
    if len(value) != 2 or states == 1:
        expected = "one probability: the cell has no state but h" if states == 1 else "one or two"
        raise ValueError(f"{caller}: zoneout has {len(value)} items, expected {expected}")
    h, rest = (as_probability(caller, f"zoneout[{i}]", v) for i, v in enumerate(value))
    return h, rest


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
