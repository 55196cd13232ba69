# SPDX-License-Identifier: MIT
"""The random masks that a recurrent layer draws for one call in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .grads import Array

if TYPE_CHECKING:
    from .recurrent import Recurrent


class Masks(NamedTuple):
    """Empty lists where nothing is random."""

    dropout: list[Array]  # of the input of layer k + 1: (T or 1, B, directions * H)
    zoneout: list[Any]  # of each layer and direction: (T, B, H), or a pair of it and a pair's other
    hidden: list[Array]  # of each layer and direction, of h in the product with w_hh: (B, H)

    def options(self, k: int) -> dict[str, Any]:
        """Arguments of the functions, of one layer and direction."""
        options = {"zoneout": self.zoneout[k]} if self.zoneout else {}
        return options | {"h_mask": self.hidden[k]} if self.hidden else options


def has_zoneout(layer: Recurrent) -> bool:
    return layer.zoneout not in (0, (0, 0))


def is_random(layer: Recurrent) -> bool:
    between = layer.dropout and layer.num_layers > 1
    return bool(between or layer.recurrent_dropout) or has_zoneout(layer)


def draw(layer: Recurrent, rng: np.random.Generator, T: int, B: int) -> Masks:
    directions, P, dtype = 1 + layer.bidirectional, layer._width, layer.dtype
    cells, above = layer.num_layers * directions, layer.num_layers - 1

    def read_only(mask: Array) -> Array:
        mask.flags.writeable = False  # the tape refers to it
        return mask

    def kept(shape: tuple[int, ...], p: float) -> list[Array]:
        scale = 1 / (1 - p) if p < 1 else 0.0
        return list(read_only((rng.random(shape) >= p) * dtype.type(scale)))

    def zones(p: float, width: int) -> Any:
        return read_only((rng.random((T, B, width)) < p).astype(dtype)) if p else 0.0

    def zones_of(z: Any) -> Any:
        if isinstance(z, tuple):
            return zones(z[0], P), zones(z[1], layer.hidden_size)
        return zones(z, P)

    dropout, zoneout, hidden = list[Array](), list[Any](), list[Array]()
    if layer.dropout and above:
        dropout = kept(
            (above, 1 if layer.variational_dropout else T, B, directions * P), layer.dropout
        )
    if has_zoneout(layer):
        zoneout = [zones_of(layer.zoneout) for _ in range(cells)]
    if layer.recurrent_dropout:
        hidden = kept((cells, B, P), layer.recurrent_dropout)
    return Masks(dropout, zoneout, hidden)
