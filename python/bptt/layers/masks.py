# SPDX-License-Identifier: MIT
"""The random masks that a recurrent layer draws for one call in training, and their count."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._types import Array
from .._validate import as_integers

if TYPE_CHECKING:
    from .recurrent import Recurrent

# Held only to count; a lock inside each layer would keep it from being copied and pickled.
_COUNTING = threading.Lock()


class MaskCount(NamedTuple):
    """The masks that a layer has drawn: those of the calls 0..calls - 1 that are not `free`."""

    seed: int
    calls: int
    free: tuple[int, ...] = ()  # of calls that failed after others had begun, in order

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
    """Is it the one array of a layer's `state_dict` that is no parameter?"""
    dtype = getattr(value, "dtype", None)
    return str(name).split(".")[-1] == "masks" and dtype == np.int64 and np.ndim(value) == 1


@contextmanager
def next_call(layer: Recurrent) -> Iterator[np.random.Generator]:
    """What the next call draws its masks from; a call that fails leaves them to the one after it.

    Calls at the same time draw different ones.
    """
    with _COUNTING:
        call, layer._mask_count = layer._mask_count.take()
    try:
        yield np.random.default_rng((layer._mask_count.seed, call))
    except BaseException:  # KeyboardInterrupt as well
        with _COUNTING:
            layer._mask_count = layer._mask_count.give_back(call)
        raise


@contextmanager
def several_calls(layer: Recurrent, done: Sized) -> Iterator[None]:
    """Calls of which none counts if one fails, unless another thread drew masks meanwhile."""
    before = layer._mask_count
    try:
        yield
    except BaseException:
        with _COUNTING:
            if layer._mask_count == before._replace(calls=before.calls + len(done)):
                layer._mask_count = before
        raise


class Masks(NamedTuple):
    """Empty lists where nothing is random."""

    dropout: list[Array]  # of the input of layer k + 1: (T or 1, B, directions * H)
    zoneout: list[Any]  # of each layer and direction: (T, B, H), or a pair of it and a pair's other
    hidden: list[Array]  # of each layer and direction, of h in the product with w_hh: (B, H)

    def options(self, k: int) -> dict[str, Any]:
        """Arguments of the functions, of one layer and direction."""
        options = {"zoneout": self.zoneout[k]} if self.zoneout else {}
        return options | {"h_mask": self.hidden[k]} if self.hidden else options


def has_zoneout(layer: Recurrent) -> bool:
    return layer.zoneout not in (0, (0, 0))


def is_random(layer: Recurrent) -> bool:
    between = layer.dropout and layer.num_layers > 1
    return bool(between or layer.recurrent_dropout) or has_zoneout(layer)


def draw(layer: Recurrent, rng: np.random.Generator, T: int, B: int) -> Masks:
    directions, P, dtype = 1 + layer.bidirectional, layer._width, layer.dtype
    cells, above = layer.num_layers * directions, layer.num_layers - 1

    def read_only(mask: Array) -> Array:
        mask.flags.writeable = False  # the tape refers to it
        return mask

    def kept(shape: tuple[int, ...], p: float) -> list[Array]:
        scale = 1 / (1 - p) if p < 1 else 0.0
        return list(read_only((rng.random(shape) >= p) * dtype.type(scale)))

    def zones(p: float, width: int) -> Any:
        return read_only((rng.random((T, B, width)) < p).astype(dtype)) if p else 0.0

    def zones_of(z: Any) -> Any:
        if isinstance(z, tuple):
            return zones(z[0], P), zones(z[1], layer.hidden_size)
        return zones(z, P)

    dropout, zoneout, hidden = list[Array](), list[Any](), list[Array]()
    if layer.dropout and above:
        dropout = kept(
            (above, 1 if layer.variational_dropout else T, B, directions * P), layer.dropout
        )
    if has_zoneout(layer):
        zoneout = [zones_of(layer.zoneout) for _ in range(cells)]
    if layer.recurrent_dropout:
        hidden = kept((cells, B, P), layer.recurrent_dropout)
    return Masks(dropout, zoneout, hidden)
