# SPDX-License-Identifier: MIT
"""The recurrent layer of a `Sequential`, with its input, and the loss as a loss of its output."""

from __future__ import annotations

import copy
from typing import Any

from .._validate import as_integers
from ..sequential.model import Sequential
from ..sequential.places import titled

__all__ = ["recurrent_part"]


def recurrent_part(
    caller: str, model: Sequential, x: Any, dy: Any, loss: Any, lengths: Any
) -> tuple[Any, Any, Any, Any]:
    """Return the layer and x, dy and loss for it; all layers run as in training."""
    if len(model._stateful) != 1:
        names = ", ".join(titled(k, model.layers[k]) for k in model._stateful) or "none"
        raise ValueError(
            f"{caller}: model has the recurrent layers {names}, expected one: pass "
            "model.layers[k] and its input"
        )
    row, k = copy.deepcopy(model), model._stateful[0]
    lengths = None if lengths is None else as_integers(caller, "lengths", lengths)
    for place in row._places[:k]:
        x = place.forward(x, None, lengths, None)[0]
    if dy is None and not callable(loss):
        return row.layers[k], x, None, loss

    def back(y: Any, gradient_of: Any) -> tuple[Any, Any]:
        """The loss and its gradient with respect to y, through the layers above."""
        tapes, out = [], y
        for place in row._places[k + 1 :]:
            out, _, tape = place.forward(out, None, lengths, None)
            tapes.append(tape)
        value, d = gradient_of(out)
        for place, tape in zip(reversed(row._places[k + 1 :]), reversed(tapes)):
            d = place.backward(tape, d, None, None, {}).x
        return value, d

    if dy is None:
        return row.layers[k], x, None, lambda y: back(y, loss)
    y = copy.deepcopy(row.layers[k]).forward(x, lengths=lengths)[0]  # with the masks of the report
    return row.layers[k], x, back(y, lambda out: (None, dy))[1], loss
