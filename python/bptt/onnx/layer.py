# SPDX-License-Identifier: MIT
"""Makes a layer of bptt from the weights of a node, if a layer can express the node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._types import Array
from ..layers.cells import LAYERS
from ..layers.recurrent import Recurrent
from .attributes import Attributes
from .weights import Weights

__all__ = ["layer_of", "obstacle", "weights_of"]


def obstacle(a: Attributes) -> str | None:
    """What no layer can express, as the end of a sentence; None if there is nothing."""
    if any(options != a.options[0] for options in a.options):
        return "activations differ between the directions, expected the same for both"
    return None


def layer_of(a: Attributes, cells: Sequence[Weights], dtype: np.dtype[Any]) -> Recurrent:
    """A new layer with these weights, one for each direction; without an `obstacle`."""
    first = cells[0]
    options = dict(a.options[0])
    if first.peepholes is not None:
        options["peepholes"] = True
    layer: Recurrent = LAYERS[a.op.lower()](
        first.w_ih.shape[1], first.w_hh.shape[1], bias=first.b_ih is not None,
        batch_first=a.batch_first, bidirectional=len(cells) == 2, reverse=a.reverse == (True,),
        dtype=dtype, seed=0, **options,
    )  # fmt: skip
    layer.load(named(layer, 0, cells))
    return layer


def named(layer: Recurrent, number: int, cells: Sequence[Weights]) -> dict[str, Array]:
    """The weights of one of the layers on top of each other, by the names of the parameters."""
    s = layer.structure
    arrays: dict[str, Array] = {}
    for d, cell in enumerate(cells):
        names = s.names(number * s.directions + d)
        arrays |= {name: getattr(cell, argument) for argument, name in names.items()}
    return arrays


def weights_of(layer: Recurrent, number: int = 0) -> list[Weights]:
    """The weights of one of the layers on top of each other, one for each direction; no copies."""
    s = layer.structure
    cells = range(number * s.directions, (number + 1) * s.directions)
    return [Weights(**s.weights(layer.parameters, k)) for k in cells]
