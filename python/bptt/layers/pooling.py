# SPDX-License-Identifier: MIT
"""From the steps of each sequence to one vector: the last step, or the mean of all."""

from __future__ import annotations

from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike

from .._types import Array
from .._validate import as_flag, as_lengths_within, as_own_float
from .base import LayerWithoutParameters
from .sequences import without_padding

__all__ = ["Last", "MeanPool", "last"]


class MeanTape(NamedTuple):
    """The shape and kind of the steps that `forward` pooled."""

    shape: tuple[int, ...]  # (T, B, H)
    dtype: np.dtype[Any]
    lengths: Array | None
    batch_first: bool


class LastTape(NamedTuple):
    """The same, and where sequences end."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    lengths: Array | None
    batch_first: bool
    ends: tuple[bool, ...]  # of each part of the last axis: is it at step 0?


def _steps(
    caller: str, x: ArrayLike, lengths: ArrayLike | None, batch_first: bool, name: str = "x"
) -> tuple[Array, Array | None]:
    """Check the arguments; return x as (T, B, H), and the lengths."""
    batch_first = as_flag(caller, "batch_first", batch_first)
    x = as_own_float(caller, name, x)
    if x.ndim != 3:
        axes = "(B, T, H)" if batch_first else "(T, B, H)"
        raise ValueError(f"{caller}: {name} has shape {x.shape}, expected {axes}")
    steps = x.swapaxes(0, 1) if batch_first else x
    return steps, as_lengths_within(caller, lengths, *steps.shape[:2])


class Pool(LayerWithoutParameters):
    """What `Last` and `MeanPool` share."""

    def _shape_of_y(self, tape: LastTape | MeanTape) -> tuple[int, ...]:
        return tape.shape[1:]

    def _dx(self, tape: LastTape | MeanTape, dy: Array) -> Array:
        dx = self._of_steps(tape, dy)
        return dx.swapaxes(0, 1) if tape.batch_first else dx

    def _of_steps(self, tape: Any, dy: Array) -> Array:
        """The gradient of x, (T, B, H)."""
        raise NotImplementedError


@final
class Last(Pool):
    """The last step of each sequence: (T, B, H) to (B, H).

    A direction that reads from the end ends at step 0: with `bidirectional` y is the first half of
    the last step and the second half of step 0, with `reverse` step 0. In a `Sequential` the
    recurrent layer below says which of them, and where the batch axis is.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt import Last
    >>> x = np.arange(6.0).reshape(3, 2, 1)  # 3 steps of 2 sequences
    >>> y, tape = Last().forward(x, lengths=[3, 1])
    >>> y
    array([[4.],
           [1.]])
    >>> Last().backward(tape, [[1.0], [2.0]]).x[:, :, 0]
    array([[0., 2.],
           [0., 0.],
           [1., 0.]])
    """

    _tape = LastTape

    def __call__(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        batch_first: bool = False,
        bidirectional: bool = False,
        reverse: bool = False,
    ) -> Array:
        """Return y alone; the arguments are those of `forward`."""
        return self.forward(
            x, lengths, batch_first=batch_first, bidirectional=bidirectional, reverse=reverse
        )[0]

    def forward(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        batch_first: bool = False,
        bidirectional: bool = False,
        reverse: bool = False,
    ) -> tuple[Array, LastTape]:
        """Return the last steps, and the tape for `backward`.

        Parameters
        ----------
        x : array_like, shape (T, B, H), or (B, T, H) with `batch_first`
            T steps of B sequences.
        lengths : array_like of int, shape (B,), optional
            The number of steps of each sequence, 0..T; T if omitted. Later steps are not read.
        batch_first, bidirectional, reverse : bool, optional
            Those of the recurrent layer that made `x`.

        Returns
        -------
        y : ndarray, shape (B, H)
            0 where the length is 0.
        tape : LastTape

        Raises
        ------
        ValueError
            If `x` has no such shape, H is odd with `bidirectional`, or a length is outside 0..T.
        TypeError
            If `x` does not hold real numbers, or `lengths` integers.
        """
        steps, ends_at = _steps("Last", x, lengths, batch_first)
        _, B, H = steps.shape
        bidirectional = as_flag("Last", "bidirectional", bidirectional)
        reverse = as_flag("Last", "reverse", reverse)
        if bidirectional and H % 2:
            raise ValueError(f"Last: x has {H} features, expected an even number of two directions")
        ends = (False, True) if bidirectional else (reverse,)
        tape = LastTape(steps.shape, steps.dtype, ends_at, batch_first, ends)
        y = np.zeros((B, H), steps.dtype)
        for part, at, rows in _places(tape):
            y[rows, part] = steps[at, rows, part]
        return y, tape

    def _of_steps(self, tape: LastTape, dy: Array) -> Array:
        dx = np.zeros(tape.shape, dy.dtype)
        for part, at, rows in _places(tape):
            dx[at, rows, part] = dy[rows, part]
        return dx


def _places(tape: LastTape) -> list[tuple[slice, Array | int, Array | slice]]:
    """Of each direction: its features, and the steps and sequences where it ends."""
    (T, _, H), n, lengths = tape.shape, len(tape.ends), tape.lengths
    places: list[tuple[slice, Array | int, Array | slice]] = []
    for k, at_start in enumerate(tape.ends if T else ()):
        part = slice(k * H // n, (k + 1) * H // n)
        if lengths is None:
            places.append((part, 0 if at_start else T - 1, slice(None)))
        else:
            rows = np.flatnonzero(lengths)
            places.append((part, 0 if at_start else lengths[rows] - 1, rows))
    return places


@final
class MeanPool(Pool):
    """The mean of the steps of each sequence: (T, B, H) to (B, H).

    Examples
    --------
    >>> import numpy as np
    >>> from bptt import MeanPool
    >>> x = np.arange(6.0).reshape(3, 2, 1)  # 3 steps of 2 sequences
    >>> y, tape = MeanPool().forward(x, lengths=[3, 2])
    >>> y
    array([[2.],
           [2.]])
    >>> MeanPool().backward(tape, [[3.0], [2.0]]).x[:, :, 0]
    array([[1., 1.],
           [1., 1.],
           [1., 0.]])
    """

    _tape = MeanTape

    def __call__(
        self, x: ArrayLike, lengths: ArrayLike | None = None, *, batch_first: bool = False
    ) -> Array:
        """Return y alone; the arguments are those of `forward`."""
        return self.forward(x, lengths, batch_first=batch_first)[0]

    def forward(
        self, x: ArrayLike, lengths: ArrayLike | None = None, *, batch_first: bool = False
    ) -> tuple[Array, MeanTape]:
        """Return the means, and the tape for `backward`.

        Parameters
        ----------
        x, lengths, batch_first
            As in `Last.forward`.

        Returns
        -------
        y : ndarray, shape (B, H)
            0 where the length is 0.
        tape : MeanTape

        Raises
        ------
        ValueError, TypeError
            As in `Last.forward`.
        """
        steps, within = _steps("MeanPool", x, lengths, batch_first)
        tape = MeanTape(steps.shape, steps.dtype, within, batch_first)
        # In float64, as in `Linear`: a float32 sum over many steps loses digits.
        total = without_padding(steps, within).sum(0, dtype=np.float64)
        return (total / _divisor(tape)).astype(steps.dtype), tape

    def _of_steps(self, tape: MeanTape, dy: Array) -> Array:
        each = (dy / _divisor(tape)).astype(dy.dtype)
        dx = without_padding(np.broadcast_to(each, tape.shape), tape.lengths)
        return dx if dx.flags.writeable else dx.copy()


def _divisor(tape: MeanTape) -> Array | int:
    """The number of steps of each sequence, at least 1, as (B, 1)."""
    if tape.lengths is None:
        return max(tape.shape[0], 1)
    return np.maximum(tape.lengths, 1)[:, None]


def last(
    y: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    batch_first: bool = False,
    bidirectional: bool = False,
    reverse: bool = False,
) -> Array:
    """The last step of each sequence, as `Last` without a tape.

    Parameters
    ----------
    y : array_like, shape (T, B, H), or (B, T, H) with `batch_first`
        The output of a recurrent layer.
    lengths : array_like of int, shape (B,), optional
        The number of steps of each sequence, 0..T; T if omitted.
    batch_first, bidirectional, reverse : bool, optional
        Those of the layer. A direction that reads from the end ends at step 0.

    Returns
    -------
    ndarray, shape (B, H)
        0 where the length is 0.

    Raises
    ------
    ValueError, TypeError
        As in `Last.forward`.

    Examples
    --------
    >>> import bptt
    >>> bptt.last([[[1.0], [2.0]], [[3.0], [4.0]]], lengths=[2, 1])
    array([[3.],
           [2.]])
    """
    _steps("last", y, lengths, batch_first, "y")
    return Last()(y, lengths, batch_first=batch_first, bidirectional=bidirectional, reverse=reverse)
