# SPDX-License-Identifier: MIT
"""The steps that a gradient can reach on its way back through time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .._types import Array


class Chains(NamedTuple):
    """Chains of linked steps, in the order of the way back.

    Attributes
    ----------
    inside : ndarray of bool, shape (T, B)
        The N steps that lie inside their sequence.
    number, place : ndarray of int, shape (N,)
        For each of these steps, its chain, and the number of links between it and the chain's last
        processed step.
    """

    inside: Array
    number: Array
    place: Array


@dataclass(frozen=True, eq=False)
class Paths:
    """Links between the steps of one call, in the order of the way back: last processed first.

    A step passes its gradient to the step `dilation` before it in the order of processing; the
    gradient of h also goes to the step `skip` before it. Sequences, resets and cuts end the way.

    Attributes
    ----------
    steps : int
        T.
    lengths : ndarray, shape (B,)
        Length of each sequence.
    reverse : bool
        Was the last step processed first?
    dilation, skip : int
        Lengths of the links, in steps; skip 0 means no skip.
    resets : ndarray of bool, shape (T, B), or None
        Steps at which a sequence starts again.
    cut : int
        Number of steps between two cuts of the gradient; 0 means none.
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
        """Reverse values (T, ...) from the order of time to the order of the way back, or back."""
        return values if self.reverse else values[::-1]

    def links(self, state: str) -> tuple[int, ...]:
        """Lengths of the links that the gradient of a state can take, the shortest first."""
        if state != "h":
            return (self.dilation,)
        recurrent = (self.dilation,) if self.passes_h else ()
        return recurrent + ((self.skip,) if self.skip and (self.skip,) != recurrent else ())

    def every(self, state: str) -> int:
        """Length of the shortest link, of which all reached lags are multiples; 0 for no link."""
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
        """(T, B): does the way back end at this step? None without resets and cuts."""
        if self.resets is None and not self.cut:
            return None
        borders = np.zeros(self.lags.shape, bool) if self.resets is None else self.back(self.resets)
        return borders | ((self.lags + 1) % self.cut == 0) if self.cut else borders

    @cached_property
    def subsequences(self) -> tuple[Array, Array]:
        """(T, B) each: number of the subsequence between two borders, and the lag of its start."""
        if self.borders is None:
            return np.zeros_like(self.lags), np.zeros_like(self.lags)
        after = np.zeros_like(self.borders)
        after[1:] = self.borders[:-1] & self.inside[:-1]
        begins = np.where(after, self.lags, 0)
        return after.cumsum(0), np.maximum.accumulate(begins, 0)

    def arrives(self, state: str, nonzero: Array) -> Array:
        """(T, B): can a step be reached from one of the steps `nonzero` (T, B) by one link?

        Both are in the order of the way back.
        """
        number, reached = self.subsequences[0], np.zeros(nonzero.shape, bool)
        for k in self.links(state):
            reached[k:] |= nonzero[:-k] & (number[k:] == number[:-k])
        return reached & self.inside

    def chains(self, state: str) -> Chains:
        """The chains that the shortest link of a state makes."""
        every = self.every(state) or max(self.steps, 1)
        own, begins = self.subsequences
        first = np.concatenate([[0], (own.max(0, initial=0) + 1).cumsum()[:-1]]).astype(int)
        since = self.lags - begins
        number = (first[: own.shape[1]] + own) * every + since % every
        return Chains(self.inside, number[self.inside], (since // every)[self.inside])
