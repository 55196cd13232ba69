# SPDX-License-Identifier: MIT
"""Where a gradient can go back through time: asked by traces, reports and monitors alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .._types import Array


class Chains(NamedTuple):
    """The steps that links join, of all that are inside their sequence, on the way back.

    Attributes
    ----------
    inside : ndarray, shape (T, B)
    number, place : ndarray, shape (N,)
        Of each of the N steps inside: which chain it belongs to, and how many links lie between it
        and the chain's last processed step.
    """

    inside: Array
    number: Array
    place: Array


@dataclass(frozen=True, eq=False)
class Paths:
    """What links the steps of one call, in the order of the way back: the last processed first.

    A step passes its gradient to the step `dilation` before it in the order of processing, and of h
    also to the step `skip` before it; none goes beyond a sequence, a reset or a cut.

    Attributes
    ----------
    steps : int
        T.
    lengths : ndarray, shape (B,)
    reverse : bool
    dilation, skip : int
        Skip 0 is none.
    resets : ndarray of bool, shape (T, B), or None
    cut : int
        0 is none.
    passes_h : bool
        Does the recurrence itself pass a gradient of h? LSTM1997 does not.
    """

    steps: int
    lengths: Array
    reverse: bool
    dilation: int = 1
    skip: int = 0
    resets: Array | None = None
    cut: int = 0
    passes_h: bool = True

    def back(self, values: Array) -> Array:
        """Values by step, (T, ...), in the order of the way back; and the same way round again."""
        return values if self.reverse else values[::-1]

    def links(self, state: str) -> tuple[int, ...]:
        """The next lags that the gradient of a state can take, the shortest first."""
        if state != "h":
            return (self.dilation,)
        own = (self.dilation,) if self.passes_h else ()
        return own + ((self.skip,) if self.skip and (self.skip,) != own else ())

    def every(self, state: str) -> int:
        """The shortest of its links: lags between its multiples are never reached. 0: none is."""
        return min(self.links(state), default=0)

    @cached_property
    def lags(self) -> Array:
        """(T, B): steps before the last processed one; negative in the padding before it."""
        padding = 0 if self.reverse else self.steps - self.lengths
        return np.asarray(np.arange(self.steps)[:, None] - padding * np.ones_like(self.lengths))

    @cached_property
    def inside(self) -> Array:
        """(T, B): is it a step of the sequence?"""
        return np.asarray((self.lags >= 0) & (self.lags < self.lengths))

    @cached_property
    def borders(self) -> Array | None:
        """(T, B): does nothing go on from this step? None where there is neither reset nor cut."""
        if self.resets is None and not self.cut:
            return None
        borders = np.zeros(self.lags.shape, bool) if self.resets is None else self.back(self.resets)
        return borders | ((self.lags + 1) % self.cut == 0) if self.cut else borders

    @cached_property
    def pieces(self) -> tuple[Array, Array]:
        """(T, B) each: a number for what lies between two borders, and the lag where it begins."""
        if self.borders is None:
            return np.zeros_like(self.lags), np.zeros_like(self.lags)
        after = np.zeros_like(self.borders)
        after[1:] = self.borders[:-1] & self.inside[:-1]
        begins = np.where(after, self.lags, 0)
        return after.cumsum(0), np.maximum.accumulate(begins, 0)

    def arrives(self, state: str, nonzero: Array) -> Array:
        """(T, B): could a gradient that is at the steps `nonzero` (T, B) have come here from one?

        Both in the order of the way back.
        """
        piece, reached = self.pieces[0], np.zeros(nonzero.shape, bool)
        for k in self.links(state):
            reached[k:] |= nonzero[:-k] & (piece[k:] == piece[:-k])
        return reached & self.inside

    def chains(self, state: str) -> Chains:
        """The chains of the shortest link of a state."""
        every = self.every(state) or max(self.steps, 1)
        piece, begins = self.pieces
        first = np.concatenate([[0], (piece.max(0, initial=0) + 1).cumsum()[:-1]]).astype(int)
        since = self.lags - begins
        number = (first[: piece.shape[1]] + piece) * every + since % every
        return Chains(self.inside, number[self.inside], (since // every)[self.inside])
