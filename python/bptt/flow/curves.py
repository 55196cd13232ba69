# SPDX-License-Identifier: MIT
"""Norms of a gradient by lag: along the steps that it can take, and what they tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .._types import Array
from ..jacobians import memory_horizon
from ..trace.trace import Trace

__all__ = ["Curve", "curve", "norm"]


@dataclass(frozen=True, eq=False)
class Curve:
    """The gradient that enters at the end of a sequence, on its way back.

    Attributes
    ----------
    norms : ndarray
        ||dL/dh|| or ||dL/dc|| so many steps before the end of a sequence, root mean square over the
        sequences; of different lengths, those that end are left out of both sides of a ratio. With
        a dilation, at its multiples, as it is 0 between them.
    dtype : numpy.dtype
        What the gradient was computed in.
    every : int
        1, or the dilation: the steps from one of the norms to the next.
    period : int
        1; with a skip, how many norms make its length: it brings back what was there before.
    """

    norms: Array
    dtype: np.dtype[Any]
    every: int = 1
    period: int = 1

    @property
    def reach(self) -> int:
        """The longest lag, in steps."""
        return (len(self.norms) - 1) * self.every

    @cached_property
    def tops(self) -> Array:
        """The largest norm of each lag and those after it, one `period` of them: all the gradient
        that is on its way there. `norms` themselves without a skip."""
        if self.period > len(self.norms):
            return self.norms[:0]
        return np.asarray(np.lib.stride_tricks.sliding_window_view(self.norms, self.period).max(1))

    @property
    def level(self) -> float:
        """What there is once the gradient has taken each of the next lags that it can take: at lag
        1 or the dilation, or the largest from there to the skip. All else is relative to it."""
        return float(self.tops[1]) if len(self.tops) > 1 else math.nan

    @property
    def lag(self) -> int:
        """The lag of the largest norm that is its `level`."""
        return (1 + int(np.argmax(self.norms[1 : 1 + self.period]))) * self.every

    @property
    def safe(self) -> float:
        """Smaller norms suffer from subnormal numbers, which have fewer digits."""
        limits = np.finfo(self.dtype)
        return float(limits.tiny / limits.eps)

    @cached_property
    def factor(self) -> float:
        """What one step back multiplies the norm by: exp of the slope of log norms over lags.

        The median of the slopes of `tops` between lags half the range apart (Theil, 1950, the
        incomplete method; whole periods), from lag 1 on as far as norms are `safe`; NaN if these
        are fewer than 4.
        """
        usable = np.isfinite(self.tops) & (self.tops > self.safe)
        usable[:1] = True  # lag 0 does not take part
        end = len(usable) if usable.all() else int(np.argmin(usable))
        logs = np.log(self.tops[1:end])
        half = len(logs) // 2 // self.period * self.period
        if half < 2:
            return float("nan")
        slopes = (logs[half:] - logs[: len(logs) - half]) / (half * self.every)
        return float(np.exp(np.median(slopes)))

    @property
    def tenfold(self) -> float:
        """Steps in which it falls to a tenth or grows ten times: ln 10 / |ln factor|."""
        rate = abs(math.log(self.factor))
        return math.log(10) / rate if rate else math.inf

    @cached_property
    def horizon(self) -> float:
        """The lag at which it is down to 1 % of its `level`; inf if it never is."""
        if len(self.tops) < 2 or self.level == 0:
            return 0.0 if self.level == 0 else math.inf
        with np.errstate(all="ignore"):
            after = self.tops / self.level  # 1 % of a subnormal number may be none
            after[0] = 1  # what is there at lag 0 does not matter
            return self.every * float(memory_horizon(after, reverse=True))

    @cached_property
    def growth(self) -> float:
        """The largest norm from lag 1 on, over its `level`."""
        if len(self.tops) < 2:
            return 1.0
        with np.errstate(all="ignore"):
            return float(np.max(self.norms[1:]) / self.level)

    @property
    def peak(self) -> int:
        """The lag of the largest norm from lag 1 on."""
        return (1 + int(np.argmax(self.norms[1:]))) * self.every

    @cached_property
    def zero_from(self) -> int | None:
        """The first lag from which on it is exactly 0, for a `period` at least."""
        nonzero = np.flatnonzero(self.norms)
        if len(nonzero):  # at lag 0 there is none of a c that zoneout mixes when h is made
            nonzero = np.union1d(nonzero, 0)
        before = np.concatenate([[-1], nonzero])
        zeros = np.diff(before, append=len(self.norms)) - 1
        gaps = np.flatnonzero(zeros >= self.period)
        return (int(before[gaps[0]]) + 1) * self.every if len(gaps) else None


def curve(trace: Trace, state: str) -> Curve:
    """The norms of a state's gradient along the chains of steps that it can take.

    Each chain counts from the step where a gradient first enters it: behind, there is none. Chains
    that none enters are left out; without any, the curve is empty.
    """
    paths, h = trace.source.paths, trace.dh_by_sequence
    norms = h if state == "h" or trace.dc_by_sequence is None else trace.dc_by_sequence
    chains = paths.chains(state)
    value, entered = (paths.back(a)[chains.inside] for a in (norms, (h != 0) | (norms != 0)))
    first = np.full(int(chains.number.max(initial=-1)) + 1, len(h))
    # Steps come in the order of the way back: of each chain, what is assigned last stays.
    first[chains.number[entered][::-1]] = chains.place[entered][::-1]
    lag = chains.place - first[chains.number]
    on = lag >= 0
    by_lag = rms_by_lag(value[on], lag[on], chains.number[on])
    every = paths.every(state) or 1
    period = paths.skip // every if 0 < paths.skip < len(by_lag) * every else 1
    return Curve(by_lag, trace.weights[0].dtype, every, period)


def rms_by_lag(values: Array, lags: Array, chains: Array) -> Array:
    """Root mean square over the chains that are so long, of values with their lags and chains.

    Where a chain ends the others are linked to what was: a change of those that take part is no
    change of the gradient. In each chain lags count up from 0, in the order of the values.
    """
    if not len(values):
        return np.zeros(0)
    lengths = np.zeros(int(chains.max()) + 1, int)
    lengths[chains] = lags + 1
    longest_first = np.argsort(-lengths, kind="stable")
    rank = np.empty_like(longest_first)
    rank[longest_first] = np.arange(len(rank))
    counts = np.bincount(lags)  # how many chains are longer than a lag: the first ones of its row
    starts = np.cumsum(counts) - counts
    rows = np.empty(len(values))
    rows[starts[lags] + rank[chains]] = values
    means = _rms(rows, counts)
    ends = np.flatnonzero(np.diff(counts))  # a chain ends at this lag
    if not len(ends):
        return means
    on, of = starts[ends], counts[ends + 1]  # of its row, those that go on
    before = _rms(rows[np.arange(of.sum()) + np.repeat(on - (np.cumsum(of) - of), of)], of)
    links = np.zeros(len(means))
    known = (before > 0) & (means[ends] > 0)
    links[ends[known] + 1] = np.log(means[ends][known]) - np.log(before[known])
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(np.log(means) + np.cumsum(links)))


def _rms(values: Array, counts: Array) -> Array:
    """Of so many values after so many others."""
    starts = np.cumsum(counts) - counts
    largest = np.maximum.reduceat(values, starts)
    # Relative to the largest, as squares of small norms are 0.
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    squares = np.add.reduceat((values / np.repeat(scale, counts)) ** 2, starts) / counts
    return np.asarray(scale * np.sqrt(squares))


def norm(array: Array) -> float:
    """Euclidean, relative to the largest element, as squares leave the range before it does."""
    largest = float(np.abs(array).max(initial=0))
    scale = largest if 0 < largest < math.inf else 1.0
    return scale * float(np.linalg.norm(array.astype(np.float64) / scale))
