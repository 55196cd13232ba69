# SPDX-License-Identifier: MIT
"""Single steps of a tape, run again in the core: the one way to its Jacobians."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import _core
from .._binding.call import backward
from .._grads import Grads
from .._types import Array
from .._validate import as_count

MOST_VALUES = 1 << 22  # of gates, in one call of the core: 100 MB or so with all that it keeps


class Steps:
    """The steps of a functional tape as rows of a batch: whichever (t, b), in any order.

    A tape keeps the arguments of its forward call and the states after every step. So each step
    can run again alone, from the state before it, as often as there are cotangents to pull back
    through it.
    """

    def __init__(self, caller: str, tape: _core.Tape) -> None:
        _check(caller, tape)
        self.caller, self.cell, self.given = caller, tape.cell, tape.arguments
        self.dtype: np.dtype[Any] = np.dtype(tape.dtype)
        self.T, self.B, _, self.H = tape.dims
        self.reverse: bool = self.given["reverse"]
        states = _core.cells()[tape.cell][1]
        # a tape's names end with those of its states, h last
        self.after: list[Array] = [getattr(tape, n) for n in ("h", *tape.names[-states:-1])]
        self.sizes = [a.shape[2] for a in self.after]
        lengths = tape.lengths
        self.lengths: Array = np.full(self.B, self.T) if lengths is None else lengths
        self.active = np.arange(self.T)[:, None] < self.lengths
        self.before = [self._before(q) for q in range(states)]

    def _before(self, q: int) -> Array:
        """State q before every step, (T, B, size)."""
        state = self.given["state"]
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
        """Every step from the last processed to the first, with the sequences that are inside
        it and have met their ``start``, which itself is inside."""
        on = np.zeros(self.B, bool)
        for t in reversed(self.order):
            on |= start == t
            on &= self.active[t]
            if on.any():
                yield t, np.flatnonzero(on)

    def time(self, name: str, t: Any) -> int:
        """A time index, counted from the end where it is negative."""
        return as_count(self.caller, name, t, -self.T, self.T - 1) % self.T

    def rows(self, count: int) -> int:
        """So many steps fit into one call, with ``count`` cotangents each."""
        return max(1, MOST_VALUES // (len(self.given["w_ih"]) * count))

    def pull(self, t: Array, b: Array, d: Array) -> Array:
        """d @ (d state after / d state before) of the steps (t[i], b[i]), for d (N, n, S)."""
        out = np.empty(d.shape, self.dtype)
        most = self.rows(d.shape[1])
        for at in range(0, len(t), most):
            part = slice(at, at + most)
            out[part] = self._pull(t[part], b[part], d[part])
        return out

    def _pull(self, t: Array, b: Array, d: Array) -> Array:
        grads = self.backward(t, b, d)
        states = grads.state if len(self.sizes) > 1 else (grads.state,)
        return np.concatenate(states, axis=1).reshape(d.shape)

    def backward(self, t: Array, b: Array, d: Array) -> Grads:
        """The gradients of sum(d * state after), all cotangents as rows of one batch."""
        N, n, S = d.shape
        tape = self._run(t, b, n)
        flat = d.reshape(N * n, S).astype(self.dtype, copy=False)
        parts = self.split(flat)
        final = parts if len(parts) > 1 else flat
        return backward(self.cell, tape, None, final, None, threads=self.given["threads"])

    def check(self) -> None:
        """Refuse a tape of a call one of whose arguments has changed since."""
        t, b = np.nonzero(self.active)
        most = self.rows(1)
        for at in range(0, len(t), most):
            self._run(t[at : at + most], b[at : at + most], 1)

    def split(self, state: Array) -> tuple[Array, ...]:
        """The last axis as the parts of the state."""
        return tuple(np.split(state, np.cumsum(self.sizes)[:-1], axis=-1))

    def _run(self, t: Array, b: Array, n: int) -> _core.Tape:
        """The tape of one step from N states, n copies of each."""
        g = self.given

        def rows(a: Array) -> Array:
            return np.repeat(a, n, axis=0)

        state = [rows(s[t, b]) for s in self.before]
        options = None
        if g["options"] is not None:
            options = {k: _of_rows(k, v, t, b, rows) for k, v in g["options"].items()}
        result = _core.forward(
            self.cell, rows(g["x"][t, b])[None], g["w_ih"], g["w_hh"], g["b_ih"], g["b_hh"],
            tuple(state) if len(state) > 1 else state[0], None, False, True, g["activation"],
            g["threads"], None, None, g["bf16"], options,
        )  # fmt: skip
        assert result is not None
        _, final, tape = result
        assert tape is not None
        for new, kept in zip(final if len(state) > 1 else (final,), self.after):
            # The core gives a row the same bits in any batch: other bits, other parameters.
            if not np.array_equal(new[::n], kept[t, b], equal_nan=True):
                raise ValueError(
                    f"{self.caller}: a step gives another state than the tape has: an argument of "
                    f"{self.cell}_forward has changed since, expected as it was"
                )
        return tape


def _of_rows(name: str, value: Any, t: Array, b: Array, rows: Any) -> Any:
    """An option of the whole call, for the rows of one step."""
    if name == "resets" or name.startswith("zoneout_of"):
        return rows(value[t, b])[None]
    return rows(value[b]) if name == "h_mask" else value


def _check(caller: str, tape: Any) -> None:
    if not isinstance(tape, _core.Tape):
        raise TypeError(
            f"{caller}: tape is {type(tape).__name__}, expected that of a *_forward function; "
            "of a layer, one of tape.cells"
        )
    if tape.cell == "lstm1997":
        raise ValueError(
            f"{caller}: tape is of lstm1997, whose gradient is cut short, expected another cell"
        )
    options = tape.options or {}
    for name, plain in (("dilation", 1), ("skip", 0)):
        if options.get(name, plain) != plain:
            raise ValueError(
                f"{caller}: tape has {name} = {options[name]}, expected {plain}: a step then "
                "depends on more than the state of the step before"
            )
