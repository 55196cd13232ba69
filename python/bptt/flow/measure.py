# SPDX-License-Identifier: MIT
"""The numbers of a report: from one forward pass and its traces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .. import functional
from .._masks import has_zoneout
from .._tape import RecurrentTape
from ..forensics import find_nonfinite
from ..grads import Array
from ..jacobians import decay_bound, memory_horizon, spectral_radius
from ..layers import RNN
from ..recurrent import Recurrent
from ..shares import parts_of
from ..trace import Trace

__all__ = ["CellFlow", "Curve", "at_ends", "curve", "measure", "norm", "probe", "unit_vectors"]

RETAINS = {"lstm": "f", "gru": "z"}  # the gate whose mean says how much of the state is kept


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


@dataclass(frozen=True, eq=False)
class CellFlow:
    """The gradient in one layer and direction.

    Attributes
    ----------
    layer, reverse : int and bool
    cell : str
        "rnn", "lstm", ...
    curves : dict of str to Curve
        For each state, "h" and of an LSTM "c": of a gradient of h, of norm 1 for each sequence,
        that enters this layer and direction at its own last step. How the recurrence passes
        gradients back, whatever the loss and other layers do.
    dh : ndarray, shape (T,)
        ||dL/dh_t|| of the loss itself, over batch and units.
    first : float
        The same at the step of each sequence that is processed first: t = 0, in reverse its last;
        with a dilation, at so many steps.
    share : ndarray, shape (steps,)
        By lag from the end of each sequence, the share of dL/dW_hh that comes from the steps there:
        <dW_k, dW> / ||dW||^2. Sums to 1; NaN where the gradient is 0 or not finite.
    saturated : dict of str to ndarray, shape (T,)
        Fraction of units whose gate is within 0.01 of an end of its range; of a relu, that is off.
        NaN where no sequence has the step.
    ranges : dict of str to str
        The activation of each gate.
    retained : float or None
        Mean of the gate that keeps the state: f of an LSTM, z of a GRU.
    radius, bound : float or None
        Of an RNN: spectral radius of W_hh, and max |activation'| sigma_max(W_hh), the most that one
        step back can multiply any gradient by (Pascanu et al., 2013).
    nonfinite : NonFinite or None
        The first value in this layer and direction that is NaN or infinite.
    ragged : bool
        Do sequences differ in length?
    sequences : ndarray, shape (T,)
        How many of them have the step.
    """

    layer: int
    reverse: bool
    cell: str
    curves: dict[str, Curve]
    dh: Array
    first: float
    share: Array
    saturated: dict[str, Array]
    ranges: dict[str, str]
    retained: float | None
    radius: float | None
    bound: float | None
    nonfinite: Any
    ragged: bool
    sequences: Array

    @property
    def name(self) -> str:
        return f"layer {self.layer}" + ", reverse" * self.reverse

    def parameter(self, kind: str) -> str:
        """The name of its parameter of a kind, as "weight_hh"."""
        return f"{kind}_l{self.layer}" + "_reverse" * self.reverse

    @property
    def state(self) -> str:
        """That which carries the memory, and which verdicts are on: c where there is one."""
        return "c" if "c" in self.curves else "h"

    @property
    def curve(self) -> Curve:
        """That of `state`."""
        return self.curves[self.state]

    def turns_off(self, gate: str) -> bool:
        """Has the gate one end, where it is off, in place of two?"""
        return self.ranges[gate] in ("relu", "leaky_relu")

    def saturation(self, gate: str) -> float:
        """Mean of `saturated` over the steps of all sequences."""
        on = self.sequences > 0
        return float(np.average(self.saturated[gate][on], weights=self.sequences[on]))

    @property
    def far(self) -> float:
        """Share of dL/dW_hh from lags beyond the horizon; 0 if it is infinite."""
        beyond = np.arange(len(self.share)) > self.curve.horizon
        return float(self.share[beyond].sum())

    def tenth(self, last: bool) -> float:
        """Share of dL/dW_hh from the first or last tenth of the steps, at least one."""
        n = max(1, round(len(self.share) / 10))
        return float(self.share[:n].sum() if last else self.share[-n:].sum())


# --- by lag ---------------------------------------------------------------------------------------


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


# --- gradients that enter at the end --------------------------------------------------------------


def unit_vectors(B: int, width: int, seed: int, k: int) -> Array:
    """A random direction, of norm 1, for each sequence of layer and direction number k."""
    u = np.random.default_rng((seed, k)).standard_normal((B, width))
    return np.asarray(u / np.linalg.norm(u, axis=1, keepdims=True))


def at_ends(vectors: Array, lengths: Array, T: int, reverse: bool) -> Array:
    """(T, B, width): the vectors (B, width) at each sequence's last processed step, else 0."""
    dy = np.zeros((T, *vectors.shape))
    rows = np.flatnonzero(lengths)
    dy[0 if reverse else lengths[rows] - 1, rows] = vectors[rows]
    return dy


def probe(
    layer: Recurrent, tape: RecurrentTape, lengths: Array, k: int, seed: int
) -> dict[str, Curve]:
    """The curves of layer and direction number k, in the order of the state."""
    T, B = tape.shape
    reverse = k % (1 + layer.bidirectional) == 1
    dy = at_ends(unit_vectors(B, layer._width, seed, k), lengths, T, reverse)
    back = getattr(functional, f"{layer._cell.name}_backward")
    trace = back(tape.cells[k], dy.astype(layer.dtype), trace=True).trace
    return {state: curve(trace, state) for state in "hc"[: trace.source.states]}


# --- all numbers of a report ----------------------------------------------------------------------


def measure(
    layer: Recurrent, tape: RecurrentTape, traces: Sequence[Trace], lengths: Array, seed: int
) -> tuple[CellFlow, ...]:
    """The numbers of each layer and direction, from the full traces of the loss."""
    cells = []
    for k, trace in enumerate(traces):
        radius, bound = _bounds(layer, layer._weights(k)["w_hh"])
        number, reverse = divmod(k, 1 + layer.bidirectional)
        cells.append(
            CellFlow(
                layer=number,
                reverse=bool(reverse),
                cell=layer._cell.name,
                curves=probe(layer, tape, lengths, k, seed),
                dh=np.asarray(trace.dh, np.float64),
                first=_first(trace),
                share=_share_by_lag(trace),
                saturated={g: np.asarray(a, np.float64) for g, a in trace.saturated.items()},
                ranges=trace.source.ranges,
                retained=_retained(layer, tape.cells[k], trace.valid),
                radius=radius,
                bound=bound,
                nonfinite=find_nonfinite(tape.cells[k]) or trace.nonfinite,
                ragged=bool((lengths != lengths.max()).any()),
                sequences=trace.valid.sum(1),
            )
        )
    return tuple(cells)


def _first(trace: Trace) -> float:
    paths = trace.source.paths
    on = paths.inside & (paths.lags + paths.dilation >= paths.lengths)
    return norm(paths.back(trace.dh_by_sequence)[on])


def _bounds(layer: Recurrent, w_hh: Array) -> tuple[float | None, float | None]:
    if not isinstance(layer, RNN) or layer.leak is not None or layer.layer_norm:
        return None, None
    if layer.skip or layer.recurrent_dropout or has_zoneout(layer):
        return None, None  # W_hh is not all that lies between two steps
    if not np.isfinite(w_hh).all():
        return None, None
    return spectral_radius(w_hh), float(decay_bound(w_hh, layer.activation))


def _retained(layer: Recurrent, tape: Any, inside: Array) -> float | None:
    gate = RETAINS.get(layer._cell.name)
    if gate is None or gate not in tape.names:  # an LSTM may have none of its own
        return None
    return float(getattr(tape, gate)[inside].mean(dtype=np.float64))


def _share_by_lag(trace: Trace) -> Array:
    """Shares of dL/dW_hh by lag from each sequence's end: <G^T V, W> = sum_b (G * V W^T)_b."""
    paths = trace.source.paths
    if not trace.source.plain_weights or trace.full is None:
        return np.full(int(paths.lengths.max()), np.nan)
    parts = parts_of(trace.full, trace.weights[1])
    # Relative to the largest element, as squares of small gradients are 0.
    scale = max(float(np.abs(part.whole).max()) for part in parts) or 1.0
    wholes = [part.whole.astype(np.float64) / scale for part in parts]
    projections = [
        np.einsum("tbm,tbm->tb", part.G, part.V @ whole.T) for part, whole in zip(parts, wholes)
    ]
    square = sum(float((whole**2).sum()) for whole in wholes)
    by_sequence = paths.back(sum(projections) / (scale * square))
    return np.bincount(paths.lags[paths.inside], by_sequence[paths.inside])
