# SPDX-License-Identifier: MIT
"""Checks that a format of files can express a recurrent layer."""

from __future__ import annotations

import inspect
from collections.abc import Collection

from .recurrent import Recurrent

__all__ = ["check_expressible"]

# Options that change only training or the order of axes.
TRAINING = {"batch_first", "dropout", "recurrent_dropout", "variational_dropout", "seed", "compute"}


def check_expressible(place: str, layer: Recurrent, written: Collection[str], who: str) -> None:
    """Raise if an option is set that a format lacks; `written` names those that it has."""
    for name, argument in inspect.signature(type(layer)).parameters.items():
        plain, value = argument.default, getattr(layer, name, None)
        known = name in written or name in TRAINING
        if plain is not argument.empty and not known and value != plain:
            raise ValueError(
                f"{place} has {name}={value!r}, expected {plain!r}: {who} supports no other"
            )
