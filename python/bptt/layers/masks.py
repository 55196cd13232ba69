# SPDX-License-Identifier: MIT
"""The random masks that a recurrent layer draws for each call in training, and their count."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._types import Array
from .._validate import as_integers
from .structure import Structure

# Held only to count; a lock inside each layer would keep it from being copied and pickled.
_COUNTING = threading.Lock()


# --- which masks ----------------------------------------------------------------------------------


class MaskCount(NamedTuple):
    """The masks that a layer has drawn: for calls 0..calls - 1 except those in `free`."""

    seed: int
    calls: int
    free: tuple[int, ...] = ()  # calls that failed after others had begun, in order

    def take(self) -> tuple[int, MaskCount]:
        if self.free:
            return self.free[0], self._replace(free=self.free[1:])
        return self.calls, self._replace(calls=self.calls + 1)

    def give_back(self, call: int) -> MaskCount:
        calls, free = self.calls, sorted((*self.free, call))
        while free and free[-1] == calls - 1:
            calls = free.pop()
        return MaskCount(self.seed, calls, tuple(free))

    def as_array(self) -> Array:
        return np.array([self.seed, self.calls, *self.free], np.int64)


def as_mask_count(caller: str, value: ArrayLike) -> MaskCount:
    """Undo `MaskCount.as_array`."""
    array = as_integers(caller, "masks", value)
    if array.ndim != 1 or array.size < 2:
        raise ValueError(f"{caller}: masks has shape {array.shape}, expected (2,), seed and count")
    seed, calls, *free = array.tolist()
    fits = 0 <= seed < 2**63 and 0 <= calls < 2**63
    if not fits or sorted({*free, -1, calls}) != [-1, *free, calls]:
        raise ValueError(
            f"{caller}: masks is {array.tolist()}, expected a seed and a count of calls"
        )
    return MaskCount(seed, calls, tuple(free))


def is_mask_count(name: str, value: Any) -> bool:
    """Is it the one array of a layer's `state_dict` that is not a parameter?"""
    dtype = getattr(value, "dtype", None)
    return str(name).split(".")[-1] == "masks" and dtype == np.int64 and np.ndim(value) == 1


class MaskCounter:
    """Gives each call of a layer its own masks."""

    def __init__(self, count: MaskCount) -> None:
        self.count = count

    @contextmanager
    def next_call(self) -> Iterator[np.random.Generator]:
        """The generator of the next call's masks; if the call fails, the one after it has them.

        Simultaneous calls draw different masks.
        """
        with _COUNTING:
            call, self.count = self.count.take()
        try:
            yield np.random.default_rng((self.count.seed, call))
        except BaseException:  # KeyboardInterrupt as well
            with _COUNTING:
                self.count = self.count.give_back(call)
            raise

    @contextmanager
    def all_or_none(self, done: Sized) -> Iterator[None]:
        """If one of several calls fails, none counts, unless another thread drew masks meanwhile.

        `done` has an item for each call that has succeeded.
        """
        before = self.count
        try:
            yield
        except BaseException:
            self.take_back(before, len(done))
            raise

    def take_back(self, before: MaskCount, calls: int) -> None:
        """Forget the calls since `before`, if they are all that drew masks since."""
        with _COUNTING:
            if self.count == before._replace(calls=before.calls + calls):
                self.count = before


# --- the masks ------------------------------------------------------------------------------------


class Rates(NamedTuple):
    """The probabilities of a layer's random masks."""

    dropout: float  # between layers
    zoneout: float | tuple[float, float]  # of h, or of h and of the other states
    recurrent_dropout: float
    variational_dropout: bool

    @property
    def has_zoneout(self) -> bool:
        return self.zoneout not in (0, (0, 0))


class Masks(NamedTuple):
    """The masks of one call; empty lists where nothing is random."""

    dropout: list[Array]  # of the input of layer k + 1: (T or 1, B, directions * H)
    zoneout: list[Any]  # of each cell: (T, B, H), or a pair, for h and for the other states
    hidden: list[Array]  # of each cell, of h in the product with w_hh: (B, H)

    def options(self, k: int) -> dict[str, Any]:
        """The functions' arguments for cell k."""
        options = {"zoneout": self.zoneout[k]} if self.zoneout else {}
        return options | {"h_mask": self.hidden[k]} if self.hidden else options


NO_MASKS = Masks([], [], [])


def is_random(structure: Structure, rates: Rates) -> bool:
    """Does `forward` draw masks?"""
    between = rates.dropout and structure.num_layers > 1
    return bool(between or rates.recurrent_dropout) or rates.has_zoneout


def read_only(mask: Array) -> Array:
    mask.flags.writeable = False  # the tape refers to it
    return mask


def dropout_mask(
    rng: np.random.Generator, shape: tuple[int, ...], p: float, dtype: np.dtype[Any]
) -> Array:
    """0 with probability p, else 1 / (1 - p)."""
    scale = 1 / (1 - p) if p < 1 else 0.0
    return read_only(np.asarray((rng.random(shape) >= p) * dtype.type(scale)))


def draw(structure: Structure, rates: Rates, rng: np.random.Generator, T: int, B: int) -> Masks:
    P, dtype = structure.width, structure.dtype
    cells, above = structure.cells, structure.num_layers - 1

    def kept(shape: tuple[int, ...], p: float) -> list[Array]:
        return list(dropout_mask(rng, shape, p, dtype))

    def zones(p: float, width: int) -> Any:
        return read_only((rng.random((T, B, width)) < p).astype(dtype)) if p else 0.0

    def zones_of(z: Any) -> Any:
        if isinstance(z, tuple):
            return zones(z[0], P), zones(z[1], structure.hidden_size)
        return zones(z, P)

    dropout, zoneout, hidden = list[Array](), list[Any](), list[Array]()
    if rates.dropout and above:
        steps = 1 if rates.variational_dropout else T
        dropout = kept((above, steps, B, structure.directions * P), rates.dropout)
    if rates.has_zoneout:
        zoneout = [zones_of(rates.zoneout) for _ in range(cells)]
    if rates.recurrent_dropout:
        hidden = kept((cells, B, P), rates.recurrent_dropout)
    return Masks(dropout, zoneout, hidden)
