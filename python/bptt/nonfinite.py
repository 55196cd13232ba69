# SPDX-License-Identifier: MIT
"""Where NaN and infinity come from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .grads import Array

__all__ = ["NonFinite"]


class NonFinite(NamedTuple):
    """The place of the first value of a pass that is NaN or infinite.

    Attributes
    ----------
    phase : {"forward", "backward"}
    layer : int
        Counted over layers and directions, in the order of the state; 0 for a function's tape.
    step, sequence : int or None
        Index of time and of the batch; None for a parameter, which belongs to all.
    gate : str
        Name of the gate or state, as on the tape; in the forward pass also that of an argument,
        "x", "w_hh", ...
    unit : int
        Index of the last axis; of a weight's row.
    """

    phase: str
    layer: int
    step: int | None
    sequence: int | None
    gate: str
    unit: int


def check_finite(label: str, array: Array) -> None:
    """Refuse an array with a NaN or infinity, naming the first one's place."""
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        at = tuple(bad[0].tolist())
        raise ValueError(f"{label} is {array[at]} at {at}, expected finite numbers")
