# SPDX-License-Identifier: MIT
"""Norms of a gradient by lag, along the steps that it can take."""

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
    """Norms of a gradient that enters at the end of a sequence, by lag.

    Attributes
    ----------
    norms : ndarray
        ||dL/dh|| or ||dL/dc|| by the number of steps before the end of a sequence, root mean square
        over the sequences. Where a sequence ends, it is left out of both sides of the ratio of
        successive norms. With a dilation, only lags that are its multiples have a norm.
    dtype : numpy.dtype
        The precision of the gradient.
    every : int
        Steps from one norm to the next: 1, or the dilation.
    period : int
        Number of norms that a skip spans, since it brings back the norm from that many before; 1
        without a skip.
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
        """Largest norm of the `period` lags from each lag on; `norms` itself without a skip."""
        if self.period > len(self.norms):
            return self.norms[:0]
        return np.asarray(np.lib.stride_tricks.sliding_window_view(self.norms, self.period).max(1))

    @property
    def level(self) -> float:
        """The norm to which others are compared: at the first lag that the gradient can take, or
        with a skip the largest norm up to its length."""
        return float(self.tops[1]) if len(self.tops) > 1 else math.nan

    @property
    def lag(self) -> int:
        """The lag at which the norm is `level`."""
        return (1 + int(np.argmax(self.norms[1 : 1 + self.period]))) * self.every

    @property
    def safe(self) -> float:
        """The norm below which elements may be zero, as subnormal numbers are to the core."""
        limits = np.finfo(self.dtype)
        return float(limits.tiny / limits.eps)

    @cached_property
    def factor(self) -> float:
        """The factor by which one step back multiplies the norm: exp of the slope of log norms.

        The slope is the median over pairs of `tops` that are half the range of lags apart (Theil,
        1950, the incomplete method), rounded to whole periods. The range goes from lag 1 as far as
        norms are above `safe`. NaN if it has fewer than 4 norms.
        """
        usable = np.isfinite(self.tops) & (self.tops > self.safe)
        usable[:1] = True  # lag 0 is not used
        end = len(usable) if usable.all() else int(np.argmin(usable))
        logs = np.log(self.tops[1:end])
        half = len(logs) // 2 // self.period * self.period
        if half < 2:
            return float("nan")
        slopes = (logs[half:] - logs[: len(logs) - half]) / (half * self.every)
        return float(np.exp(np.median(slopes)))

    @property
    def tenfold(self) -> float:
        """Steps in which the norm falls or grows by a factor of ten: ln 10 / |ln factor|."""
        rate = abs(math.log(self.factor))
        return math.log(10) / rate if rate else math.inf

    @cached_property
    def horizon(self) -> float:
        """The lag at which the norm has fallen to 1 % of `level`; inf if it never does."""
        if len(self.tops) < 2 or self.level == 0:
            return 0.0 if self.level == 0 else math.inf
        with np.errstate(all="ignore"):
            relative = self.tops / self.level  # 1 % of a tiny number may underflow
            relative[0] = 1  # the norm at lag 0 does not matter
            return self.every * float(memory_horizon(relative, reverse=True))

    @cached_property
    def growth(self) -> float:
        """The largest norm from lag 1 on, relative to `level`."""
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
        """The first lag from which on the norm is exactly 0, for at least a `period`."""
        nonzero = np.flatnonzero(self.norms)
        if len(nonzero):  # lag 0 may be 0: with a zoneout of c, h has no gradient for c yet
            nonzero = np.union1d(nonzero, 0)
        before = np.concatenate([[-1], nonzero])
        zeros = np.diff(before, append=len(self.norms)) - 1
        gaps = np.flatnonzero(zeros >= self.period)
        return (int(before[gaps[0]]) + 1) * self.every if len(gaps) else None


def curve(trace: Trace, state: str) -> Curve:
    """The norms of a state's gradient along the chains of steps that it can take.

    In each chain, lags count from the step where a gradient first enters. Chains without a gradient
    are left out; if no chain has one, the curve is empty.
    """
    paths, h = trace.source.paths, trace.dh_by_sequence
    norms = h if state == "h" or trace.dc_by_sequence is None else trace.dc_by_sequence
    chains = paths.chains(state)
    value, entered = (paths.back(a)[chains.inside] for a in (norms, (h != 0) | (norms != 0)))
    first = np.full(int(chains.number.max(initial=-1)) + 1, len(h))
    # Steps are in the order of the way back. Assigned in reverse, the first of each chain stays.
    first[chains.number[entered][::-1]] = chains.place[entered][::-1]
    lag = chains.place - first[chains.number]
    on = lag >= 0
    means = rms_by_lag(value[on], lag[on], chains.number[on])
    every = paths.every(state) or 1
    period = paths.skip // every if 0 < paths.skip < len(means) * every else 1
    return Curve(means, trace.source.dtype, every, period)


def rms_by_lag(values: Array, lags: Array, chains: Array) -> Array:
    """Root mean square over the chains by lag, of values with their lags and chains.

    Where a chain ends, the mean of the others is rescaled to continue the mean before, since the
    end of a chain does not change the gradient. In each chain lags count up from 0, in the order of
    the values.
    """
    if not len(values):
        return np.zeros(0)
    lengths = np.zeros(int(chains.max()) + 1, int)
    lengths[chains] = lags + 1
    longest_first = np.argsort(-lengths, kind="stable")
    rank = np.empty_like(longest_first)
    rank[longest_first] = np.arange(len(rank))
    counts = np.bincount(lags)  # chains that have a lag: the first ones, longest first
    starts = np.cumsum(counts) - counts
    rows = np.empty(len(values))
    rows[starts[lags] + rank[chains]] = values
    means = _rms(rows, counts)
    ends = np.flatnonzero(np.diff(counts))  # a chain ends at this lag
    if not len(ends):
        return means
    on, of = starts[ends], counts[ends + 1]  # the chains of this lag that go on
    before = _rms(rows[np.arange(of.sum()) + np.repeat(on - (np.cumsum(of) - of), of)], of)
    links = np.zeros(len(means))
    positive = (before > 0) & (means[ends] > 0)
    links[ends[positive] + 1] = np.log(means[ends][positive]) - np.log(before[positive])
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(np.log(means) + np.cumsum(links)))


def _rms(values: Array, counts: Array) -> Array:
    """Root mean square of consecutive groups of values, with the size of each group."""
    starts = np.cumsum(counts) - counts
    largest = np.maximum.reduceat(values, starts)
    # The scale keeps squares of small norms from underflow.
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    squares = np.add.reduceat((values / np.repeat(scale, counts)) ** 2, starts) / counts
    return np.asarray(scale * np.sqrt(squares))


def norm(array: Array) -> float:
    """Euclidean norm, scaled by the largest element so that squares stay in range."""
    largest = float(np.abs(array).max(initial=0))
    scale = largest if 0 < largest < math.inf else 1.0
    return scale * float(np.linalg.norm(array.astype(np.float64) / scale))
