# SPDX-License-Identifier: MIT
"""A recurrent layer that runs step by step."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import _core
from .._binding.call import uses_bf16
from .._cells import CELLS
from .._types import Array, State
from .._validate import as_bools, as_count, as_float, check_shape, prepare
from .bound import BoundCell
from .out import check_out, finished, for_core
from .sequences import hint_on_ids
from .structure import Structure

__all__ = ["Stream", "StreamBase"]


class StreamBase:
    """What the streams of a layer and of a `Sequential` share.

    Attributes
    ----------
    _shape : tuple of int or None
        Of x in a step: (B, I), or (B,) for ids. None: any number.
    _batch_first : bool
        Of x in `process`.
    """

    _shape: tuple[int | None, ...]
    _batch_first: bool

    def __reduce__(self) -> Any:
        raise TypeError(
            "stream: it holds packed weights and cannot be pickled or copied: keep the layer or "
            "model and stream.state, and make another by its stream(batch, state)"
        )

    def _check_x(self, call: str, array: Array, x: ArrayLike) -> None:
        """Raise unless the array has the axes of `x` in a step, or those and the time."""
        if array.shape == self._shape and call == "step":
            return
        sizes = dict(zip("BI", self._shape))
        axes = [*sizes]
        if call == "process":
            axes.insert(1 if self._batch_first else 0, "T")
        fits = array.ndim == len(axes)
        if fits and all(sizes.get(axis) in (None, n) for axis, n in zip(axes, array.shape)):
            return
        names = ", ".join(axes) + "," * (len(axes) == 1)
        known = ", ".join(f"{axis} = {n}" for axis, n in sizes.items() if n is not None)
        raise ValueError(
            f"stream.{call}: x has shape {array.shape}, expected ({names}) with {known}"
            + (hint_on_ids("x", np.asarray(x)) if "I" in sizes else "")
        )

    def reset(self, mask: ArrayLike | None = None) -> None:
        """Begin other sequences: set their state to zero, or to the learnt state.

        Parameters
        ----------
        mask : array_like of bool, shape (B,), optional
            True for the sequences to reset; all if omitted.

        Raises
        ------
        ValueError, TypeError
            If the mask has another shape or does not hold booleans.
        """
        mask = np.ones(self._shape[:1], bool) if mask is None else mask
        chosen = as_bools("stream.reset", "mask", mask)
        check_shape("stream.reset", "mask", chosen, "(B,)", self._shape[:1])
        self._reset(chosen)

    @abstractmethod
    def _reset(self, chosen: Array) -> None:
        """Reset the sequences that are chosen by True."""


class Stream(StreamBase):
    """A layer that keeps packed weights and its state from call to call; made by `LSTM.stream`.

    Its results have the same bits as one call over the whole sequence, however the sequence is cut.
    A stream has a copy of the parameters: after further training, make another one. Use it in one
    thread at a time. It cannot be pickled or copied: keep the layer and `state`.

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
        self, structure: Structure, cells: list[BoundCell], batch: int, state: State
    ) -> None:
        s, caller = structure, f"{structure.caller}.stream"
        if s.directions > 1:
            raise ValueError(f"{caller}: the layer is bidirectional, expected one direction")
        if s.reverse:
            raise ValueError(f"{caller}: the layer has reverse=True, expected False")
        if max(s.dilations) > 1:
            dilation = s.dilations[0] if len(set(s.dilations)) == 1 else s.dilations
            raise ValueError(f"{caller}: the layer has dilation {dilation}, expected 1")
        if s.skip:
            raise ValueError(f"{caller}: the layer has skip {s.skip}, expected 0")
        B = as_count(caller, "batch", batch, 1, 1 << 31)
        bf16 = uses_bf16(caller, s.kind, s.compute, s.dtype, cells[0].checked)
        sizes = (s.input_size, *[s.width] * (s.num_layers - 1))
        layers = [
            (np.empty((0, B, size), s.dtype), ("bf16" if bf16 else "", *c.weights(), c.checked))
            for size, c in zip(sizes, cells)
        ]
        added = [s.adds_input(k) for k in range(s.num_layers)]
        self._core = _core.stream(caller, s.kind, layers, added)
        self._shape, self._width, self._batch_first = (B, s.input_size), s.width, s.batch_first
        self._names, self.dtype = CELLS[s.kind].states, s.dtype
        # Of each layer, and each state.
        self._initial = [[*cell.initial.copy().arrays.values()] for cell in cells]
        if s.learn_state:
            self.reset()
        if state is not None:
            self.state = state

    def __repr__(self) -> str:
        (B, I), layers = self._shape, len(self._core.get_state()[0])
        return f"Stream(batch={B}, input_size={I}, num_layers={layers}, {self.dtype})"

    def step(self, x: ArrayLike, out: Array | None = None) -> Any:
        """Run one step.

        Parameters
        ----------
        x : array_like, shape (B, I), or (I,) if B is 1
        out : ndarray, optional
            An array for the result, of its shape. Nothing is allocated if it is C-contiguous, has
            the dtype of the stream and shares no memory with `x`.

        Returns
        -------
        ndarray, shape (B, H), or (H,) if x is (I,)
            `out` if it is given.

        Raises
        ------
        ValueError, TypeError
            If `x` has another shape or does not hold real numbers, or if `out` has another shape,
            is read-only or cannot hold the numbers.
        """
        y = self._core.step(x, None) if out is None else None
        return self._step_of_any(x, out) if y is None else y  # to be converted, or refused

    def _step_of_any(self, x: ArrayLike, out: Array | None) -> Any:
        array, (B, I) = as_float("stream.step", "x", x, self.dtype), self._shape
        one = array.shape == (I,) and B == 1
        if not one:
            self._check_x("step", array, x)
        rows = prepare(array[None] if one else array, self.dtype)
        if out is not None:
            symbols, shape = "(H,)" if one else "(B, H)", (*array.shape[:-1], self._width)
            check_out("stream.step", out, symbols, shape, self.dtype)
        target = for_core(out, self.dtype, rows)
        y = self._core.step(rows, target if target is None or not one else target[None])
        return finished(out, target, y[0] if one else y)

    def process(self, x: ArrayLike, out: Array | None = None) -> Any:
        """Run several steps.

        Parameters
        ----------
        x : array_like, shape (T, B, I), or (B, T, I) if the layer has `batch_first`
        out : ndarray, optional
            An array for the result, as for `step`.

        Returns
        -------
        ndarray, shape (T, B, H) or (B, T, H)
            `out` if it is given.

        Raises
        ------
        ValueError, TypeError
            As `step`.
        """
        y = self._core.process(x, None) if out is None and not self._batch_first else None
        return self._process_of_any(x, out) if y is None else y  # to be converted, or refused

    def _process_of_any(self, x: ArrayLike, out: Array | None) -> Any:
        array = as_float("stream.process", "x", x, self.dtype)
        self._check_x("process", array, x)
        if out is not None:
            symbols = "(B, T, H)" if self._batch_first else "(T, B, H)"
            check_out("stream.process", out, symbols, (*array.shape[:2], self._width), self.dtype)
        rows = out
        if self._batch_first:
            array, rows = array.swapaxes(0, 1), None if out is None else out.swapaxes(0, 1)
        steps = prepare(array, self.dtype)
        target = for_core(rows, self.dtype, steps)
        y = self._core.process(steps, target)
        return finished(out, target, y.swapaxes(0, 1) if self._batch_first else y)

    def _reset(self, chosen: Array) -> None:
        state = self._core.get_state()
        for q, part in enumerate(state):
            part[:, chosen] = 0
            for layer, initial in enumerate(self._initial):
                if initial:
                    part[layer, chosen] = initial[q]
        self._core.set_state(state)

    @property
    def state(self) -> State:
        """A copy of the current state, (num_layers, B, H); for `LSTM` a tuple (h, c), and so on.

        A state can be assigned.
        """
        parts = self._core.get_state()
        return parts if len(parts) > 1 else parts[0]

    @state.setter
    def state(self, value: Any) -> None:
        several = len(self._names) > 1
        now: Any = self.state if several else (self.state,)
        if several and not (isinstance(value, (tuple, list)) and len(value) == len(now)):
            names = ", ".join(self._names)
            raise TypeError(f"stream: state is {type(value).__name__}, expected a tuple ({names})")
        parts = []
        for part, old in zip(value if several else (value,), now):
            part = as_float("stream", "state", part, self.dtype)
            width = "H" if old.shape == now[-1].shape else "P"
            check_shape("stream", "state", part, f"(num_layers, B, {width})", old.shape)
            parts.append(np.array(part, order="C"))
        self._core.set_state(tuple(parts))
