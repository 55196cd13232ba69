# SPDX-License-Identifier: MIT
"""The trace of a backward pass: norms of the gradient at each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .._activations import Bounds, inside
from .._types import Activation, Array
from .._words import shown
from .full import FullTrace
from .nonfinite import NonFinite
from .paths import Paths
from .shares import Shares, shares_of


class Vanished(NamedTuple):
    """The first step, on the way back, and the sequence where dL/dh is exactly zero."""

    step: int
    sequence: int


@dataclass(frozen=True, eq=False)
class Constant:
    """A function of any argument that returns its value, or raises it."""

    value: Any

    def __call__(self, _: Any = None) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@dataclass(frozen=True)
class Source:
    """The forward and backward call that a trace comes from.

    Attributes
    ----------
    cell : str
        Its kind, as "lstm".
    ranges : dict of str to str or tuple
        The activation of each gate by name, in the order of the rows of w_ih.
    sizes : tuple of int
        Size of h, and of all other states and gates.
    states : int
        Number of states.
    paths : Paths
        The steps that gradients can reach.
    plain_weights : bool
        Is the gradient of a weight G^T V, with the gradients G of the gates and its operand V?
    count_outside : callable
        From bounds by gate to the number of activations outside them, (T, B) by gate.
    dtype : numpy.dtype
        Of the gradients.
    """

    cell: str
    ranges: dict[str, Activation]
    sizes: tuple[int, int]
    states: int
    paths: Paths
    plain_weights: bool
    count_outside: Callable[[dict[str, Bounds]], dict[str, Array]]
    dtype: np.dtype[Any]

    @property
    def ends(self) -> dict[str, Bounds]:
        """Bounds of values that are not saturated, for each gate whose values tell."""
        bounds = {name: inside(activation) for name, activation in self.ranges.items()}
        return {name: found for name, found in bounds.items() if found is not None}

    def count_saturated(self) -> dict[str, Array]:
        """(T, B) for each gate whose values tell: number of a step's saturated values."""
        return self.count_outside(self.ends)

    def without_tape(self) -> Source:
        """The same, with the saturated values counted now."""
        try:
            counts = Constant(self.count_saturated())
        except ValueError as error:  # the tape has a checkpoint
            counts = Constant(error)
        return replace(self, count_outside=counts)

    @property
    def places(self) -> list[tuple[str, int]]:
        """Names and sizes of the states and gates, in the order in which a place counts units."""
        H = self.sizes[1]
        return [("h", self.sizes[0]), ("c", H), *((name, H) for name in self.ranges)]


def count_outside(value: Array, bounds: Bounds) -> Array:
    """(T, B): number of a step's values (T, B, H) outside the bounds."""
    outside = (value < bounds[0]) | (value > bounds[1])
    return np.asarray(outside.sum(2, dtype=np.uint32))  # takes half the time of int64


def _over_batch(norms: Array) -> Array:
    """Euclidean norm over the sequences of norms (T, B), without overflow."""
    largest = norms.max(axis=1, initial=0)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1)
    return np.asarray(scale * np.sqrt(((norms / scale[:, None]) ** 2).sum(axis=1)))


@dataclass(frozen=True, eq=False, init=False)
class Trace:
    """The gradient at each step of a backward pass with ``trace=True`` or ``trace="full"``.

    t is the index into the arrays, also with ``reverse``; all values are zero beyond the lengths.
    The gradients of h_t and c_t are taken before `step_clip` and `cut` act on them, the gradients
    of the gates after a `step_clip` of gates. A trace can be pickled and copied; the copy does not
    need the tape.

    Attributes
    ----------
    find_source : callable
        Makes `source` when it is first read, so that calls of a small network stay short.
    norms : ndarray of float64, shape (T, B, G + 4)
        Norms of the gradients of h, of c and of each gate; whether `step_clip` changed something; 1
        + the place of the first value that is not finite. The properties give them by name.
    full : FullTrace or None
        The gradients themselves, with ``trace="full"``.
    weights : tuple of two ndarrays, or None
        The gradients of w_ih and w_hh, with ``trace="full"``.
    """

    find_source: Callable[[], Source] = field(repr=False)
    norms: Array = field(repr=False)
    full: FullTrace | None = field(repr=False)
    weights: tuple[Array, Array] | None = field(repr=False)

    # The one of a frozen dataclass takes twice as long: a trace of a small network would feel it.
    def __init__(
        self,
        find_source: Callable[[], Source],
        norms: Array,
        full: FullTrace | None,
        weights: tuple[Array, Array] | None,
    ) -> None:
        own = self.__dict__
        own["find_source"], own["norms"], own["full"], own["weights"] = (
            find_source, norms, full, weights,
        )  # fmt: skip

    def __repr__(self) -> str:
        T, B, _ = self.norms.shape
        first, last = (-1, 0) if self.source.paths.reverse else (0, -1)
        ends = f", |dL/dh| {self.dh[last]:.3g} last, {self.dh[first]:.3g} first" if T else ""
        return f"Trace({self.source.cell}, T={T}, B={B}{ends})"

    def __getstate__(self) -> dict[str, Any]:
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return own | {"find_source": Constant(self.source.without_tape())}

    @cached_property
    def source(self) -> Source:
        """The calls that the trace comes from."""
        return self.find_source()

    # --- by sequence

    @property
    def dh_by_sequence(self) -> Array:
        """(T, B): Euclidean norm over the units of dL/dh_t, the total gradient of h at step t."""
        return self.norms[:, :, 0]

    @property
    def dc_by_sequence(self) -> Array | None:
        """(T, B): the same norm of dL/dc_t; None for a cell without c.

        dL/dc_t includes the gradient through h_t, except with a zoneout of c: h_t is computed
        before zoneout mixes c_t with c_{t-1}.
        """
        return self.norms[:, :, 1] if self.source.states > 1 else None

    @property
    def gates_by_sequence(self) -> dict[str, Array]:
        """(T, B) by gate: the same norm for the gate's argument. The one gate of an RNN is "h"."""
        return {name: self.norms[:, :, 2 + k] for k, name in enumerate(self.source.ranges)}

    @property
    def clipped_by_sequence(self) -> Array:
        """(T, B) of bool: did `step_clip` change the gradient?"""
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
        """(T,): the same norm of dL/dc_t; None for a cell without c."""
        return None if self.dc_by_sequence is None else _over_batch(self.dc_by_sequence)

    @cached_property
    def gates(self) -> dict[str, Array]:
        """(T,) by gate: the same norm for the gate's argument."""
        return {name: _over_batch(norms) for name, norms in self.gates_by_sequence.items()}

    @cached_property
    def clipped(self) -> Array:
        """(T,): number of sequences whose gradient `step_clip` changed."""
        return np.asarray(self.clipped_by_sequence.sum(axis=1))

    @cached_property
    def saturated(self) -> dict[str, Array]:
        """(T,) by gate: fraction of its values within 0.01 of an end of the activation's range.

        The ends of a scaled range are as near in proportion. For ReLU and its variants, the
        fraction of units that are off; for an affine activation, 0; for a constant, 1. An
        activation whose values do not tell is left out: the exponential i of sLSTM, a leaky ReLU or
        ELU with a negative parameter, a ReLU with a negative threshold. For an RNN, "h" is the
        activation before leak, zoneout and skip; for sLSTM, "f" is sig(f). NaN at steps that no
        sequence has. The values are read from the tape on first use; with a checkpoint, only a
        plain RNN's tape has them.
        """
        valid = self.valid
        counts = self.source.count_saturated()
        with np.errstate(invalid="ignore"):
            units = self.source.sizes[1] * valid.sum(1)
            return {name: np.where(valid, n, 0).sum(1) / units for name, n in counts.items()}

    @cached_property
    def vanished_at(self) -> Vanished | None:
        """The first step, on the way back, whose dL/dh is exactly zero after a nonzero one.

        The nonzero one belongs to a step that passes its gradient to this step: one step away, or
        as far as a dilation or skip reaches, but not across a reset or `cut`.
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
        """Place of the first gradient, on the way back, that is NaN or infinite, or None."""
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
        """The contribution of each step to the gradients of the weights, as `bptt.Shares`.

        Raises
        ------
        ValueError
            Without ``trace="full"``, or with `layer_norm` or `heads`.
        """
        return shares_of(*full_of(self, "shares"))


def full_of(trace: Trace, caller: str) -> tuple[FullTrace, tuple[Array, Array]]:
    """A full trace and its weights, of a cell whose weights' gradients can be computed from it."""
    full, weights = getattr(trace, "full", None), getattr(trace, "weights", None)
    if full is None or weights is None:
        raise ValueError(
            f'{caller}: trace is {shown(trace)}, expected that of a call with trace="full"'
        )
    if not trace.source.plain_weights:
        raise ValueError(f"{caller}: the cell has layer_norm or heads, expected neither")
    return full, weights


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """The traces of a recurrent layer, K = num_layers * directions.

    Attributes
    ----------
    cells : list of Trace
        The trace of each layer and direction, in the order of the state.
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
        """Place of the first gradient, on the way back from the top layer, that is not finite."""
        places = [cell.nonfinite for cell in self.cells]
        found = [place._replace(layer=k) for k, place in enumerate(places) if place]
        return found[-1] if found else None
