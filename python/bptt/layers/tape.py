# SPDX-License-Identifier: MIT
"""The tape of the recurrent layers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._types import Array
from .._words import shown


class RecurrentTape(NamedTuple):
    """The values that the layer's `backward` needs from one `forward`.

    The gates, after their activations, and the states after every step are attributes, such as
    ``tape.i`` and ``tape.c``. Their shape is (num_layers * directions, T, B, H), in the order of
    the state, with 0 beyond the lengths; h is P wide with a projection. With a checkpoint there are
    none but h. The names are:

    - `RNN`: h;  `LSTM`: i f g o c h, with any forget gate;  `GRU`: r z n h;  `MGU`: f n h;
    - `SLSTM`: i f z o c n m h, where i and f are i' and f';  `LSTM1997`: i o g c h.

    h is the output of the cells, before `residual` adds to it. With one layer and direction it is a
    read-only view of the tape's memory. All others are copies; ``tape.cells[k].i`` copies the
    values of one layer and direction alone.

    Attributes
    ----------
    layer : Recurrent
        The layer that made the tape.
    shape : tuple of int
        T and B.
    cells : list
        A functional tape for each layer and direction, in the order of the state.
    masks : list of ndarray, shape (T, B, directions * H), or (1, B, directions * H)
        The masks of dropout; mask k multiplied the input of layer k + 1. Empty without dropout.
    zoneout : list of ndarray, shape (T, B, H), or of pairs of them
        For each layer and direction, 1 where the state stayed as it was. A pair has the number 0
        in place of an array whose probability is 0. Empty without zoneout.
    h_masks : list of ndarray, shape (B, H)
        The masks of recurrent dropout: for each layer and direction, the factors of h in the
        product with weight_hh. Empty without recurrent dropout.
    lengths : ndarray, shape (B,), or None
        The number of steps of each sequence; None if all have T.
    given_state : bool
        Did the call have a state?
    """

    layer: Any
    shape: tuple[int, int]
    cells: list[Any]
    masks: list[Array]
    zoneout: list[Any]
    h_masks: list[Array]
    lengths: Array | None
    given_state: bool = False

    def __getattr__(self, name: str) -> Array:
        known = self.cells[0].names
        if name not in known:
            caller, names = type(self.layer).__name__, ", ".join(known)
            raise AttributeError(
                f"the tape of {caller} has no {shown(name)}, expected one of: {names}, "
                f"{', '.join(self._fields)}"
            )
        parts = [getattr(cell, name) for cell in self.cells]
        return parts[0][None] if len(parts) == 1 else np.stack(parts)
