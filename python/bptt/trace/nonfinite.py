# SPDX-License-Identifier: MIT
"""Where NaN and infinity first appear."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._cells import LAYER_NORM, NAMES
from .._types import Array

__all__ = ["NonFinite"]

# Arguments of the functions, with the layers' names for them.
PARAMETERS = {
    **{argument: name for argument, name in NAMES.items() if argument not in LAYER_NORM},
    **{f"layer_norm[{k}]": NAMES[argument] for k, argument in enumerate(LAYER_NORM)},
}


class NonFinite(NamedTuple):
    """The place of the first value of a pass that is NaN or infinite.

    Attributes
    ----------
    phase : {"forward", "backward"}
        The pass.
    layer : int
        Number of the layer and direction, in the order of the state; 0 for a function's tape.
    step, sequence : int or None
        Index in time and in the batch; None for a parameter.
    gate : str
        Name of the gate or state, as on the tape; in the forward pass also the name of an argument,
        "x", "w_hh", ...
    unit : int
        Index along the last axis; for a weight, its row.
    """

    phase: str
    layer: int
    step: int | None
    sequence: int | None
    gate: str
    unit: int


def described(place: NonFinite, states: tuple[str, ...] = ()) -> str:
    """The place in words, without its phase and layer."""
    name, at = place.gate, place.unit
    if name in PARAMETERS:
        return f"{PARAMETERS[name]}, {'row' if name.startswith('w_') else 'element'} {at}"
    if name.startswith("state"):
        return f"initial {name}, sequence {place.sequence}, unit {at}"
    kind = "input" if name == "x" else "state" if name in states else "gate"
    return f"step {place.step}, sequence {place.sequence}, {kind} {name}, unit {at}"


def check_finite(label: str, array: Array) -> None:
    """Raise if a value is NaN or infinite, with the place of the first."""
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        at = tuple(bad[0].tolist())
        raise ValueError(f"{label} is {array[at]} at {at}, expected finite numbers")
