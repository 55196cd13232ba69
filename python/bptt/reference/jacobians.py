# SPDX-License-Identifier: MIT
"""Jacobians of single steps by the complex step: no line of a gradient takes part."""

from __future__ import annotations

import numpy as np

from .._types import Array
from .loop import Tape, before, is_reset, mixed
from .products import step

STEP = 1e-30


def step_jacobians(tape: Tape) -> Array:
    """d state_t / d state_{t-1} of every step; see `bptt.step_jacobians`.

    Each number of the state before the step gets an imaginary part of h = 1e-30 in turn, and
    f(s + ih) = f(s) + ih f'(s) (Squire & Trapp, 1998).
    """
    net, (T, B) = tape.net, tape.active.shape
    S = sum(net.sizes)
    jacobians = np.zeros((T, B, S, S))
    for n, t in enumerate(tape.times):
        on = tape.active[t][:, None]
        for j in range(S):
            moved = np.concatenate(before(net, tape.queues[n]), axis=1).astype(complex)
            moved[:, j] += 1j * STEP
            parts = np.split(moved, np.cumsum(net.sizes)[:-1], axis=1)
            new, _ = step(net, tape.x[t], tuple(parts))
            new = mixed(net, new, [part[None] for part in parts], t)
            passes = on & ~is_reset(net, t, on)
            jacobians[t, :, :, j] = np.where(passes, np.concatenate(new, axis=1).imag / STEP, 0)
    return jacobians
