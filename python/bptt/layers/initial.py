# SPDX-License-Identifier: MIT
"""The learnt initial state of one cell of a recurrent layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._types import Array, State


class Initial:
    """The parameters that are the initial state of each sequence; none without `learn_state`.

    Attributes
    ----------
    arrays : dict of str to ndarray
        By name, in the order of the cell's states; not copies.
    dilation : int
        The number of states that stand side by side.
    """

    def __init__(self, arrays: Mapping[str, Array], dilation: int = 1) -> None:
        self.arrays, self.dilation = dict(arrays), dilation

    def copy(self) -> Initial:
        """The same with copies of the arrays."""
        return Initial({name: array.copy() for name, array in self.arrays.items()}, self.dilation)

    def state(self, given: State, B: int, resets: bool) -> State:
        """The state of a call of the function: the given one, or for None the learnt one.

        With resets it has a row more, the state after each reset.
        """
        if not self.arrays or (given is not None and not resets):
            return given
        learnt = list(self.arrays.values())
        parts: list[Any]
        if given is None:
            shape = (self.dilation, B) if self.dilation > 1 else (B + resets,)
            parts = [np.resize(a, (*shape, *a.shape)).view(type(a)) for a in learnt]
        else:
            several = given if isinstance(given, tuple) else (given,)
            parts = [np.concatenate([part, a[None]]) for part, a in zip(several, learnt)]
        return tuple(parts) if len(parts) > 1 else parts[0]

    def gradients(self, dstate: State, B: int, given: bool) -> dict[str, Array]:
        """The gradients by name, from those of `state`; given: was a state given?"""
        parts = dstate if isinstance(dstate, tuple) else (dstate,)
        found = {}
        for (name, array), d in zip(self.arrays.items(), parts):
            rows = d[B:] if given and self.dilation == 1 else d[:0] if given else d
            found[name] = rows.reshape(-1, array.size).sum(0)
        return found

    def without_resets(self, dstate: State, B: int) -> State:
        """The gradient of the given state alone."""
        if not self.arrays or self.dilation > 1 or dstate is None:
            return dstate
        return tuple(d[:B] for d in dstate) if isinstance(dstate, tuple) else dstate[:B]
