# SPDX-License-Identifier: MIT
"""Recurrent layers that run step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _core
from .dense import as_float, check_shape
from .grads import State

__all__ = ["Stream"]


class Stream:
    """A layer that keeps its packed weights and its state from call to call; see `LSTM.stream`.

    Gives the bits that one call over the whole sequence gives, however that is cut. It has a copy
    of the parameters: after training them further, make another. Not for several threads at once.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> gru = bptt.GRU(3, 4, seed=0)
    >>> x = np.ones((6, 1, 3), np.float32)
    >>> stream = gru.stream()
    >>> y = [stream.step(x_t) for x_t in x[:2]]
    >>> rest = stream.process(x[2:])
    >>> bool((np.concatenate([y, rest]) == gru(x)[0]).all())
    True
    """

    def __init__(
        self, cores: list[_core.Stream], shape: tuple[int, int], dtype: DTypeLike, batch_first: bool
    ) -> None:
        self._cores, self._shape, self._batch_first = cores, shape, batch_first
        self.dtype = np.dtype(dtype)

    def __repr__(self) -> str:
        B, I = self._shape
        return f"Stream(batch={B}, input_size={I}, num_layers={len(self._cores)}, {self.dtype})"

    def step(self, x: ArrayLike) -> Any:
        """One step.

        Parameters
        ----------
        x : array_like, shape (B, I), or (I,) if B is 1

        Returns
        -------
        ndarray, shape (B, H), or (H,) if x is (I,)

        Raises
        ------
        ValueError, TypeError
            If x has another shape, or does not hold real numbers.
        """
        y: Any = x
        for core in self._cores:
            y = core.step(y)
            if y is None:  # to be converted, or refused
                return self._step_of_any(x)
        return y

    def _step_of_any(self, x: ArrayLike) -> Any:
        array, (B, I) = as_float("stream.step", "x", x, self.dtype), self._shape
        if array.shape == (I,) and B == 1:
            return self.step(np.ascontiguousarray(array[None]))[0]
        if array.shape != self._shape:
            raise ValueError(
                f"stream.step: x has shape {array.shape}, expected (B, I) = ({B}, {I})"
            )
        return self.step(np.array(array))

    def process(self, x: ArrayLike) -> Any:
        """Many steps.

        Parameters
        ----------
        x : array_like, shape (T, B, I), or (B, T, I) if the layer has `batch_first`

        Returns
        -------
        ndarray, shape (T, B, H) or (B, T, H)

        Raises
        ------
        ValueError, TypeError
            If x has another shape, or does not hold real numbers.
        """
        array = as_float("stream.process", "x", x, self.dtype)
        B, I = self._shape
        if array.ndim == 3 and self._batch_first:
            array = array.swapaxes(0, 1)
        if array.ndim != 3 or array.shape[1:] != self._shape:
            axes = "(B, T, I)" if self._batch_first else "(T, B, I)"
            raise ValueError(
                f"stream.process: x has shape {np.shape(x)}, expected {axes} with B = {B}, I = {I}"
            )
        y: Any = np.array(array, order="C")
        for core in self._cores:
            y = core.process(y)
        return y.swapaxes(0, 1) if self._batch_first else y

    @property
    def state(self) -> State:
        """The state now, a copy: (num_layers, B, H), of `LSTM` a tuple (h, c). Can be assigned."""
        parts = [np.stack(part) for part in zip(*(core.get_state() for core in self._cores))]
        return tuple(parts) if len(parts) > 1 else parts[0]

    @state.setter
    def state(self, value: Any) -> None:
        now: Any = self.state
        several = isinstance(now, tuple)
        if several and not (isinstance(value, tuple) and len(value) == 2):
            raise TypeError(f"stream: state is {type(value).__name__}, expected a tuple (h, c)")
        parts = []
        for part, old in zip(value if several else (value,), now if several else (now,)):
            part = as_float("stream", "state", part, self.dtype)
            check_shape("stream", "state", part, "(num_layers, B, H)", old.shape)
            parts.append(np.array(part, order="C"))
        for core, state in zip(self._cores, zip(*parts)):
            core.set_state(state)
