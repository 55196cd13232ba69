# SPDX-License-Identifier: MIT
"""The numbers of a report, from one forward pass and its traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._activations import turns_off
from .._binding.call import backward
from .._cells import CELLS
from .._types import Activation, Array
from ..jacobians import decay_bound, spectral_radius
from ..layers.cells import RNN
from ..layers.nonfinite import find_nonfinite
from ..layers.recurrent import Recurrent
from ..layers.tape import RecurrentTape
from ..trace.trace import Trace
from .curves import Curve, curve, norm
from .entry import Entry, share_by_lag

__all__ = ["CellFlow", "at_ends", "measure", "probe", "unit_vectors"]

RETAINING = {cell.retains for cell in CELLS.values()}  # gates that may saturate without harm


@dataclass(frozen=True, eq=False)
class CellFlow:
    """The gradient in one layer and direction.

    Attributes
    ----------
    layer, reverse : int and bool
        Number of the layer, and its direction.
    cell : str
        "rnn", "lstm", ...
    curves : dict of str to Curve
        Norms of the probe by state: "h", and "c" for an LSTM. The probe is a gradient of h, of norm
        1 for each sequence, that enters this layer and direction at its last step. It shows how the
        recurrence passes gradients back, whatever the loss and other layers do.
    dh : ndarray, shape (T,)
        ||dL/dh_t|| of the loss, over batch and units.
    first : float
        The same norm over the first processed step of each sequence: t = 0, or the last step if
        reversed; with a dilation k, over the first k steps.
    share : ndarray, shape (steps,)
        Share of dL/dW_hh by lag from the end of each sequence: <dW_k, dW> / ||dW||^2. The shares
        sum to 1; NaN if the gradient is 0 or not finite.
    saturated : dict of str to ndarray, shape (T,)
        Fraction of units whose gate is within 0.01 of an end of its range; for relu, fraction that
        is off. NaN at steps that no sequence has.
    ranges : dict of str to str or tuple
        The activation of each gate.
    retained : float or None
        Mean of the gate that keeps the state: f of an LSTM, z of a GRU.
    radius, bound : float or None
        For an RNN, the spectral radius of W_hh, and max |activation'| sigma_max(W_hh), the largest
        factor by which one step back can multiply a gradient (Pascanu et al., 2013).
    nonfinite : NonFinite or None
        The first value in this layer and direction that is NaN or infinite.
    ragged : bool
        Do sequences differ in length?
    at_end : bool
        Does the loss enter at the last processed step of each sequence only?
    far : float
        Share of dL/dW_hh from steps further before a loss than the horizon; 0 if the horizon is
        infinite, NaN if it was not measured.
    sequences : ndarray, shape (T,)
        Number of sequences that have the step.
    place : str
        What the names of its parameters begin with, in a `Sequential` that has several recurrent
        layers, such as "4."; else empty.
    """

    layer: int
    reverse: bool
    cell: str
    curves: dict[str, Curve]
    dh: Array
    first: float
    share: Array
    saturated: dict[str, Array]
    ranges: dict[str, Activation]
    retained: float | None
    radius: float | None
    bound: float | None
    nonfinite: Any
    ragged: bool
    at_end: bool
    far: float
    sequences: Array
    place: str = ""

    @property
    def name(self) -> str:
        return f"layer {self.place}{self.layer}" + ", reverse" * self.reverse

    def parameter(self, kind: str) -> str:
        """Name of the layer's parameter of a kind, as "weight_hh_l0" for "weight_hh"."""
        return f"{kind}_l{self.layer}" + "_reverse" * self.reverse

    @property
    def state(self) -> str:
        """The state that carries the memory, on which verdicts rest: c if the cell has it."""
        return "c" if "c" in self.curves else "h"

    @property
    def curve(self) -> Curve:
        """The curve of `state`."""
        return self.curves[self.state]

    def turns_off(self, gate: str) -> bool:
        """Does a unit of the gate turn off at one end of its range?"""
        return turns_off(self.ranges[gate])

    def saturation(self, gate: str) -> float:
        """Mean of `saturated` over all steps of all sequences."""
        on = self.sequences > 0
        return float(np.average(self.saturated[gate][on], weights=self.sequences[on]))

    def tenth(self, last: bool) -> float:
        """Share of dL/dW_hh from the first or last tenth of the steps, at least one step."""
        n = max(1, round(len(self.share) / 10))
        return float(self.share[:n].sum() if last else self.share[-n:].sum())


# --- the probe ------------------------------------------------------------------------------------


def unit_vectors(B: int, width: int, seed: int, k: int) -> Array:
    """A random vector of norm 1 for each sequence, for layer and direction number k."""
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
    reverse = layer.structure.is_reverse(k)
    dy = at_ends(unit_vectors(B, layer.structure.width, seed, k), lengths, T, reverse)
    control = (None, None, True, None, ())  # the trace alone
    grads = backward(layer.structure.kind, tape.cells[k], dy.astype(layer.dtype), None, control)
    assert grads.trace is not None
    return {state: curve(grads.trace, state) for state in "hc"[: grads.trace.source.states]}


# --- all numbers of a report ----------------------------------------------------------------------


def measure(
    layer: Recurrent,
    tape: RecurrentTape,
    traces: Sequence[Trace],
    entry: Entry,
    seed: int,
    place: str = "",
) -> tuple[CellFlow, ...]:
    """The numbers of each layer and direction, from the full traces of the loss."""
    cells, lengths = [], entry.lengths
    for k, trace in enumerate(traces):
        radius, bound = _bounds(layer, layer.structure.weights(layer.parameters, k)["w_hh"])
        number, reverse = divmod(k, 1 + layer.bidirectional)
        curves = probe(layer, tape, lengths, k, seed)
        horizon = curves["c" if "c" in curves else "h"].horizon
        share = share_by_lag(trace)
        top = k >= len(traces) - len(entry.dys)
        cells.append(
            CellFlow(
                layer=number,
                reverse=bool(reverse),
                cell=layer.structure.kind,
                curves=curves,
                dh=np.asarray(trace.dh, np.float64),
                first=_first(trace),
                share=share,
                saturated={g: np.asarray(a, np.float64) for g, a in trace.saturated.items()},
                ranges=trace.source.ranges,
                retained=_retained(layer, tape.cells[k], trace.valid),
                radius=radius,
                bound=bound,
                nonfinite=find_nonfinite(tape.cells[k]) or trace.nonfinite,
                ragged=bool((lengths != lengths.max()).any()),
                at_end=entry.at_end,
                far=entry.far(tape.cells[k], share, horizon, reverse if top else None),
                sequences=trace.valid.sum(1),
                place=place,
            )
        )
    return tuple(cells)


def _first(trace: Trace) -> float:
    paths = trace.source.paths
    on = paths.inside & (paths.lags + paths.dilation >= paths.lengths)
    return norm(paths.back(trace.dh_by_sequence)[on])


def _bounds(layer: Recurrent, w_hh: Array) -> tuple[float | None, float | None]:
    if not isinstance(layer, RNN) or {*layer.structure.options} - {"activation", "preact_clip"}:
        return None, None
    if layer.layer_norm or layer.skip or layer.recurrent_dropout or layer.rates.has_zoneout:
        return None, None  # W_hh is not the only link between two steps
    if not np.isfinite(w_hh).all():
        return None, None
    return spectral_radius(w_hh), float(decay_bound(w_hh, layer.activation))


def _retained(layer: Recurrent, tape: Any, inside: Array) -> float | None:
    gate = CELLS[layer.structure.kind].retains
    if gate is None or gate not in tape.names:  # an LSTM may have no forget gate of its own
        return None
    return float(getattr(tape, gate)[inside].mean(dtype=np.float64))
