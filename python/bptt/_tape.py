# SPDX-License-Identifier: MIT
"""The tape of the recurrent layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .grads import Array

if TYPE_CHECKING:
    from .recurrent import Recurrent


class RecurrentTape(NamedTuple):
    """What `Recurrent.backward` needs of one `Recurrent.forward`.

    Attributes
    ----------
    layer : Recurrent
        The layer that made the tape.
    shape : tuple of int
        T and B.
    cells : list
        A functional tape for each layer and direction, in the order of the state.
    masks : list of ndarray, shape (T, B, directions * H), or (1, B, directions * H)
        Dropout: number k was multiplied into the input of layer k + 1. Empty without dropout.
    zoneout : list of ndarray, shape (T, B, H), or of pairs of them
        For each layer and direction, 1 where the state stayed as it was; of a pair, the number 0
        in place of what has probability 0. Empty without zoneout.
    h_masks : list of ndarray, shape (B, H)
        Recurrent dropout: for each layer and direction, what h was multiplied by in the product
        with weight_hh. Empty without it.
    lengths : ndarray, shape (B,), or None
    """

    layer: Recurrent
    shape: tuple[int, int]
    cells: list[Any]
    masks: list[Array]
    zoneout: list[Any]
    h_masks: list[Array]
    lengths: Array | None
