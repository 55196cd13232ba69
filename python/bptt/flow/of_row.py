# SPDX-License-Identifier: MIT
"""The recurrent layers of a model, each with its input, and the way of a gradient between them."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from .._types import Array
from .._validate import as_integers, to_numpy
from ..layers.recurrent import Recurrent
from ..layers.tape import RecurrentTape
from ..sequential.model import Sequential

__all__ = ["Part", "Run"]


class Part(NamedTuple):
    """A recurrent layer that has run.

    Attributes
    ----------
    number : int
        Of the layer in the row.
    layer : Recurrent
        As it was before the call.
    x, y : ndarray
    tape : RecurrentTape
    """

    number: int
    layer: Recurrent
    x: Array
    y: Array
    tape: RecurrentTape


class Run:
    """A call of a layer or a `Sequential` as in training; the model itself counts no call.

    Attributes
    ----------
    parts : list of Part
        From the bottom to the top.
    y : ndarray
        The output of the model.
    """

    def __init__(self, caller: str, model: Any, x: Any, lengths: Any) -> None:
        row = copy.deepcopy(model)
        row = Sequential(row) if isinstance(row, Recurrent) else row
        self.parts, self._tapes, self._places = list[Part](), list[Any](), row._places
        if not row._stateful:
            raise ValueError(f"{caller}: model has no recurrent layer, expected one or more")
        lengths = None if lengths is None else as_integers(caller, "lengths", to_numpy(lengths))
        self.y: Any = to_numpy(x)
        for k, place in enumerate(self._places):
            below, before = self.y, copy.deepcopy(place.layer) if place.has_state else None
            self.y, _, tape = place.forward(below, None, lengths, None)
            self._tapes.append(tape)
            if before is not None:
                self.parts.append(Part(k, before, below, self.y, tape))

    def down(self, d: Any, above: Part | None, below: Part) -> Any:
        """The gradient of a part's output, from that of the input of another or of the output."""
        top = len(self._places) if above is None else above.number
        for k in range(top - 1, below.number, -1):
            d = self._places[k].backward(self._tapes[k], d, None, None, None, None).x
        return d
