# SPDX-License-Identifier: MIT
"""What a backward pass shows of the gradient on its way through time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .._types import Array
from .full import FullTrace
from .nonfinite import NonFinite
from .paths import Paths
from .shares import Shares, needed, shares_of


class Vanished(NamedTuple):
    """Where the gradient of h, on its way back, first became exactly zero."""

    step: int
    sequence: int


Bounds = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Known:
    """A function of anything that returns what it holds, or raises it."""

    value: Any

    def __call__(self, _: Any = None) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@dataclass(frozen=True)
class Source:
    """What a trace knows of the calls that it comes from.

    Attributes
    ----------
    cell : str
    ranges : dict of str to str
        The activation of each gate by name, in the order of the rows of w_ih; its argument is what
        the trace has the gradient of.
    sizes : tuple of int
        Of h, and of everything else.
    states : int
    paths : Paths
        Where gradients can go back.
    plain_weights : bool
        Is a weight's gradient the product of those of the gates with what it multiplied?
    count_outside : callable
        By the bounds of some gates: how many values of their activations are outside, (T, B) by
        gate.
    """

    cell: str
    ranges: dict[str, str]
    sizes: tuple[int, int]
    states: int
    paths: Paths
    plain_weights: bool
    count_outside: Callable[[dict[str, Bounds]], dict[str, Array]]

    @property
    def ends(self) -> dict[str, Bounds]:
        """What is not saturated, by gate that has an end."""
        return {name: INSIDE[a] for name, a in self.ranges.items() if a in INSIDE}

    def count_saturated(self) -> dict[str, Array]:
        """(T, B) by gate that has an end: how many of a step's values are at one."""
        return self.count_outside(self.ends)

    def without_tape(self) -> Source:
        """The same, with what the tape would be asked for."""
        try:
            counts = Known(self.count_saturated())
        except ValueError as error:  # the tape is in segments
            counts = Known(error)
        return replace(self, count_outside=counts)

    @property
    def places(self) -> list[tuple[str, int]]:
        """What a place counts through: names and sizes."""
        H = self.sizes[1]
        return [("h", self.sizes[0]), ("c", H), *((name, H) for name in self.ranges)]


INSIDE: dict[str, Bounds] = {  # an exponential has no end that its values could be at
    **dict.fromkeys(("sigmoid", "hard_sigmoid"), (0.01, 0.99)),
    "tanh": (-0.99, 0.99),
    **dict.fromkeys(("relu", "leaky_relu"), (1.2e-38, np.inf)),
    "identity": (-np.inf, np.inf),
}


def count_outside(value: Array, bounds: Bounds) -> Array:
    """(T, B): how many of a step's values (T, B, H) are not between the bounds."""
    outside = (value < bounds[0]) | (value > bounds[1])
    return np.asarray(outside.sum(2, dtype=np.uint32))  # in half the time of the default


def _over_batch(norms: Array) -> Array:
    """Euclidean norms over the sequences, of norms (T, B), without overflow."""
    largest = norms.max(axis=1, initial=0)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1)
    return np.asarray(scale * np.sqrt(((norms / scale[:, None]) ** 2).sum(axis=1)))


@dataclass(frozen=True, eq=False)
class Trace:
    """What a backward pass with ``trace=True`` or ``trace="full"`` shows of itself.

    t is the index of the arrays, whatever the direction; all is zero beyond the lengths. The
    gradients are those of the step's own results, h_t and c_t as the tape holds them, before
    `step_clip` or `cut` act on what is passed back; those of the gates after a `step_clip` of
    gates. A trace can be pickled and copied; it then holds all that it would read from the tape.

    Attributes
    ----------
    find_source : callable
        Finds the `source` when it is asked for: a call of a small network is short.
    norms : ndarray, shape (T, B, G + 4)
        What the core measures, in float64: norms of the gradients of h, of c and of each gate;
        whether `step_clip` changed something; 1 + the place of the first value that is not finite.
        By name below.
    full : FullTrace or None
        With ``trace="full"``.
    weights : tuple of two ndarrays
        The whole gradients of w_ih and w_hh.
    """

    find_source: Callable[[], Source] = field(repr=False)
    norms: Array = field(repr=False)
    full: FullTrace | None = field(repr=False)
    weights: tuple[Array, Array] = field(repr=False)

    def __repr__(self) -> str:
        T, B, _ = self.norms.shape
        first, last = (-1, 0) if self.source.paths.reverse else (0, -1)
        ends = f", |dL/dh| {self.dh[last]:.3g} last, {self.dh[first]:.3g} first" if T else ""
        return f"Trace({self.source.cell}, T={T}, B={B}{ends})"

    def __getstate__(self) -> dict[str, Any]:
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return own | {"find_source": Known(self.source.without_tape())}

    @cached_property
    def source(self) -> Source:
        """What the trace knows of the calls that it comes from."""
        return self.find_source()

    # --- by sequence

    @property
    def dh_by_sequence(self) -> Array:
        """(T, B): Euclidean norm over the units of dL/dh_t, all that reaches h after step t."""
        return self.norms[:, :, 0]

    @property
    def dc_by_sequence(self) -> Array | None:
        """(T, B): the same of dL/dc_t; None for a cell without c.

        What reaches c_t by way of h_t is part of it; with a zoneout of c nothing does, since h_t is
        made before c_t is mixed.
        """
        return self.norms[:, :, 1] if self.source.states > 1 else None

    @property
    def gates_by_sequence(self) -> dict[str, Array]:
        """(T, B) by gate: the same of the gate's argument; "h" for the only one of an RNN."""
        return {name: self.norms[:, :, 2 + k] for k, name in enumerate(self.source.ranges)}

    @property
    def clipped_by_sequence(self) -> Array:
        """(T, B) of bool: did `step_clip` change anything?"""
        return self.norms[:, :, -2] > 0

    @cached_property
    def valid(self) -> Array:
        """(T, B) of bool: is t a step of the sequence?"""
        paths = self.source.paths
        return paths.back(paths.inside)

    # --- by step

    @cached_property
    def dh(self) -> Array:
        """(T,): Euclidean norm over sequences and units of dL/dh_t."""
        return _over_batch(self.dh_by_sequence)

    @cached_property
    def dc(self) -> Array | None:
        """(T,): the same of dL/dc_t; None for a cell without c."""
        return None if self.dc_by_sequence is None else _over_batch(self.dc_by_sequence)

    @cached_property
    def gates(self) -> dict[str, Array]:
        """(T,) by gate: the same of the gate's argument."""
        return {name: _over_batch(norms) for name, norms in self.gates_by_sequence.items()}

    @cached_property
    def clipped(self) -> Array:
        """(T,): how many sequences `step_clip` changed."""
        return np.asarray(self.clipped_by_sequence.sum(axis=1))

    @cached_property
    def saturated(self) -> dict[str, Array]:
        """(T,) by gate: fraction of its activation's values within 0.01 of an end of their range.

        Of ReLU and leaky ReLU the fraction that is off; of the identity none. Of an RNN, "h" is the
        value of its activation, before leak, zoneout and skip make h_t of it; of sLSTM, "f" is
        sig(f), and i, an exponential, is left out. Read from the tape when it is asked for (but for
        a plain RNN not from one with a checkpoint); NaN where no sequence has the step.
        """
        valid = self.valid
        counts = self.source.count_saturated()
        with np.errstate(invalid="ignore"):
            units = self.source.sizes[1] * valid.sum(1)
            return {name: np.where(valid, n, 0).sum(1) / units for name, n in counts.items()}

    @cached_property
    def vanished_at(self) -> Vanished | None:
        """Where dL/dh first, on the way back, became exactly zero, though not a step before.

        A step before is one that passes its gradient on to it: with a dilation or skip so many
        steps before, and none at a reset or `cut`.
        """
        paths = self.source.paths
        norms = paths.back(self.dh_by_sequence)
        vanishes = np.argwhere((norms == 0) & paths.arrives("h", norms > 0))
        if not len(vanishes):
            return None
        n, sequence = vanishes[0]
        return Vanished(int(n if paths.reverse else len(norms) - 1 - n), int(sequence))

    @cached_property
    def nonfinite(self) -> NonFinite | None:
        """The first gradient, on the way back, that is NaN or infinite; None if all are finite."""
        places = self.norms[:, :, -1]
        steps = np.flatnonzero(places.any(axis=1))
        if not len(steps):
            return None
        t = int(steps[0 if self.source.paths.reverse else -1])
        b = int(np.flatnonzero(places[t])[0])
        unit = int(places[t, b]) - 1
        for name, size in self.source.places:
            if unit < size:
                return NonFinite("backward", 0, t, b, name, unit)
            unit -= size
        raise AssertionError("a place beyond all gates")

    @cached_property
    def shares(self) -> Shares:
        """What each step gave to the weights' gradients; see `bptt.Shares`.

        Raises
        ------
        ValueError
            Without ``trace="full"``, or with `layer_norm` or `heads`.
        """
        return shares_of(needed(self, "shares"), self.weights)


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """The traces of a recurrent layer's cells, K = num_layers * directions.

    Attributes
    ----------
    cells : list of Trace
        Of each layer and direction, in the order of the state.
    """

    cells: list[Trace]

    @cached_property
    def dh(self) -> Array:
        """(K, T): `Trace.dh` of each layer and direction."""
        return np.stack([cell.dh for cell in self.cells])

    @cached_property
    def dc(self) -> Array | None:
        """(K, T): `Trace.dc`; None for cells without c."""
        norms = [cell.dc for cell in self.cells]
        return None if norms[0] is None else np.stack(norms)  # type: ignore[arg-type]

    @cached_property
    def nonfinite(self) -> NonFinite | None:
        """The first gradient, on the way back from the top layer, that is NaN or infinite."""
        places = [cell.nonfinite for cell in self.cells]
        found = [place._replace(layer=k) for k, place in enumerate(places) if place]
        return found[-1] if found else None
