# SPDX-License-Identifier: MIT
"""The tape of a `Sequential`."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._types import State
from ..layers.tape import RecurrentTape

__all__ = ["SequentialTape"]


class SequentialTape(NamedTuple):
    """The values that `Sequential.backward` needs from `forward`.

    Attributes
    ----------
    layer : Sequential
        The model that made the tape.
    y_shape : tuple of int
        The shape of the output.
    tapes : list
        The tape of each layer.
    finals : list
        The final state of each layer; None of a layer without one.
    """

    layer: Any
    y_shape: tuple[int, ...]
    tapes: list[Any]
    finals: list[State]

    @property
    def state(self) -> list[State]:
        """The final state of each recurrent layer; `forward` takes it as `state`."""
        return [self.finals[k] for k in self.layer._stateful]

    @property
    def shape(self) -> tuple[int, int]:
        """T and B, of the recurrent layers."""
        return next(tape.shape for tape in self.tapes if isinstance(tape, RecurrentTape))

    def __repr__(self) -> str:
        return f"SequentialTape({len(self.tapes)} layers, {len(self.state)} states)"
