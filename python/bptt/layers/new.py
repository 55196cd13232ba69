# SPDX-License-Identifier: MIT
"""The parameters and random masks of a new recurrent layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._cells import LAYER_NORM
from .._types import Array
from .masks import MaskCount, MaskCounter, is_random


def make_new(layer: Any, rng: np.random.Generator) -> None:
    """Give `layer` the parameters and random masks of a new one."""
    s, bound = layer.structure, 1 / np.sqrt(layer.hidden_size)
    names = [s.names(k) for k in range(s.cells)]
    shapes = {
        names[k][argument]: shape
        for k in range(s.cells)
        for argument, shape in s.shapes(k // s.directions).items()
    }
    initial = {name: of for k in range(s.cells) for name, of in s.initial_shapes(k).items()}
    # The initial states take no random numbers: a seed gives the layer that it gives without them.
    takes_random = iter([True] * len(shapes) + [False] * len(initial))

    def draw_one(shape: tuple[int, ...]) -> Array:
        return rng.uniform(-bound, bound, shape) if next(takes_random) else np.zeros(shape)

    layer._fill(shapes | initial, draw_one)
    for of_one in names:
        for argument in LAYER_NORM.keys() & of_one:
            layer.parameters[of_one[argument]][...] = LAYER_NORM[argument]
    count = MaskCount(int(rng.integers(2**63)), 0)
    layer.mask_counter = MaskCounter(count) if is_random(s, layer.rates) else None
    layer._bind()
