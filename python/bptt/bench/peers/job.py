# SPDX-License-Identifier: MIT
"""The work of a library on a problem."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..._types import Array


class Job(NamedTuple):
    """A call of a library, in its own types."""

    run: Callable[[Any], tuple[Any, ...]]  # initial state -> (y, final state[, gradients])
    state: Any
    arrays: Callable[[tuple[Any, ...]], dict[str, Array]]  # the results of `run`, as NumPy arrays
    context: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext


def threads() -> int:
    """Number of threads of a call, for libraries that do not read it from the environment."""
    return int(os.environ.get("BPTT_NUM_THREADS", "1"))


def named(y: Any, states: Sequence[Any], grads: Sequence[Any] = ()) -> dict[str, Array]:
    """One dict of all arrays; `grads` are in the order of the arguments."""
    values = (y, *states, *grads)
    names = ["y", "final h", "final c"][: 1 + len(states)]
    if grads:
        arguments = ["x", "w_ih", "w_hh", "b_ih", "b_hh", "h0", "c0"][: 5 + len(states)]
        names += [f"gradient of {name}" for name in arguments]
    return {name: np.asarray(value) for name, value in zip(names, values)}


def as_tuple(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)
