# SPDX-License-Identifier: MIT
"""Single steps of a tape, run again in the core to compute their Jacobians."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import _core
from .._binding.call import backward
from .._cells import CELLS
from .._grads import Grads
from .._types import Array, Wanted
from .._validate import as_count

MOST_VALUES = 1 << 22  # of gates in one call of the core, which takes about 100 MB


class Steps:
    """The steps (t, b) of a functional tape as rows of a batch, in any order.

    A tape keeps the arguments of its forward call and the states after every step. So each step can
    run again alone, from the state before it, once for each cotangent.
    """

    def __init__(self, caller: str, tape: _core.Tape) -> None:
        _check(caller, tape)
        self.caller, self.kind, self.arguments = caller, tape.cell, tape.arguments
        self.dtype: np.dtype[Any] = np.dtype(tape.dtype)
        self.T, self.B, _, self.H = tape.dims
        self.reverse: bool = self.arguments["reverse"]
        self.after: list[Array] = [getattr(tape, name) for name in CELLS[tape.cell].states]
        self.sizes = [a.shape[2] for a in self.after]
        lengths = tape.lengths
        self.lengths: Array = np.full(self.B, self.T) if lengths is None else lengths
        self.active = np.arange(self.T)[:, None] < self.lengths
        self.before = [self._before(q) for q in range(len(self.after))]

    def _before(self, q: int) -> Array:
        """State q before every step, (T, B, size)."""
        state = self.arguments["state"]
        parts = state if isinstance(state, tuple) else (state,)
        first, after = parts[q] if state is not None else None, self.after[q]
        if first is None:
            first = np.zeros(after.shape[1:], self.dtype)
        before = np.empty_like(after)
        if not self.reverse:
            before[1:], before[:1] = after[:-1], first
            return before
        before[:-1] = after[1:]
        inside = np.flatnonzero(self.lengths)
        before[self.lengths[inside] - 1, inside] = first[inside]
        return before

    @property
    def order(self) -> range:
        """Time indices in the order of processing."""
        return range(self.T)[::-1] if self.reverse else range(self.T)

    def last(self) -> Array:
        """The last processed step of every sequence."""
        return np.zeros(self.B, int) if self.reverse else self.lengths - 1

    def back(self, start: Array) -> Iterator[tuple[int, Array]]:
        """Each step on the way back, with the sequences that have it and have met their start."""
        on = np.zeros(self.B, bool)
        for t in reversed(self.order):
            on |= start == t
            on &= self.active[t]
            if on.any():
                yield t, np.flatnonzero(on)

    def time(self, name: str, t: Any) -> int:
        """A time index from 0 on; a negative argument counts from the end."""
        return as_count(self.caller, name, t, -self.T, self.T - 1) % self.T

    def rows(self, count: int) -> int:
        """The number of steps that fit into one call, with ``count`` cotangents each."""
        return max(1, MOST_VALUES // (len(self.arguments["w_ih"]) * count))

    def pull(self, t: Array, b: Array, d: Array) -> Array:
        """d @ (d state after / d state before) for the steps (t[i], b[i]) and d (N, n, S)."""
        out = np.empty(d.shape, self.dtype)
        most = self.rows(d.shape[1])
        for first in range(0, len(t), most):
            rows = slice(first, first + most)
            out[rows] = self._pull(t[rows], b[rows], d[rows])
        return out

    def _pull(self, t: Array, b: Array, d: Array) -> Array:
        grads = self.backward(t, b, d, ("state",))
        states = grads.state if len(self.sizes) > 1 else (grads.state,)
        return np.concatenate(states, axis=1).reshape(d.shape)

    def backward(self, t: Array, b: Array, d: Array, wanted: Wanted = None) -> Grads:
        """The gradients of sum(d * state after), all cotangents as rows of one batch."""
        N, n, S = d.shape
        tape = self._run(t, b, n)
        flat = d.reshape(N * n, S).astype(self.dtype, copy=False)
        parts = self.split(flat)
        final = parts if len(parts) > 1 else flat
        control = (None, None, None, self.arguments["threads"], wanted)
        return backward(self.kind, tape, None, final, control)

    def check(self) -> None:
        """Raise if an argument of the forward call has changed since."""
        t, b = np.nonzero(self.active)
        most = self.rows(1)
        for first in range(0, len(t), most):
            self._run(t[first : first + most], b[first : first + most], 1)

    def split(self, state: Array) -> tuple[Array, ...]:
        """The last axis as the parts of the state."""
        return tuple(np.split(state, np.cumsum(self.sizes)[:-1], axis=-1))

    def _run(self, t: Array, b: Array, n: int) -> _core.Tape:
        """The tape of one step from N states, n copies of each."""
        g = self.arguments

        def rows(a: Array) -> Array:
            return np.repeat(a, n, axis=0)

        state = [rows(s[t, b]) for s in self.before]
        options = None
        if g["options"] is not None:
            options = {k: _of_rows(k, v, t, b, rows) for k, v in g["options"].items()}
        inputs = (
            rows(g["x"][t, b])[None], g["w_ih"], g["w_hh"], g["b_ih"], g["b_hh"],
            tuple(state) if len(state) > 1 else state[0], None, False,
        )  # fmt: skip
        how = (g["threads"], None, g["bf16"])
        result = _core.forward(self.kind, inputs, options, True, how)
        assert result is not None
        _, final, tape = result
        assert tape is not None
        for new, kept in zip(final if len(state) > 1 else (final,), self.after):
            # A row has the same bits in any batch, so other bits mean other arguments.
            if not np.array_equal(new[::n], kept[t, b], equal_nan=True):
                raise ValueError(
                    f"{self.caller}: a step gives another state than the tape has: an argument of "
                    f"{self.kind}_forward has changed since, expected as it was"
                )
        return tape


def _of_rows(name: str, value: Any, t: Array, b: Array, rows: Any) -> Any:
    """An option of the whole call, for the rows of one step."""
    if name == "zoneout":
        return tuple(rows(z[t, b])[None] if isinstance(z, np.ndarray) else z for z in value)
    if name == "resets":
        return rows(value[t, b])[None]
    return rows(value[b]) if name == "h_mask" else value


def _check(caller: str, tape: Any) -> None:
    if not isinstance(tape, _core.Tape):
        raise TypeError(
            f"{caller}: tape is {type(tape).__name__}, expected that of a *_forward function; "
            "of a layer, one of tape.cells"
        )
    if CELLS[tape.cell].truncated:
        raise ValueError(
            f"{caller}: tape is of {tape.cell}, whose gradient is cut short, expected another cell"
        )
    options = tape.options or {}
    for name, plain in (("dilation", 1), ("skip", 0)):
        if options.get(name, plain) != plain:
            raise ValueError(
                f"{caller}: tape has {name} = {options[name]}, expected {plain}: a step then "
                "depends on more than the state of the step before"
            )
