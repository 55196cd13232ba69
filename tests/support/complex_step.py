# SPDX-License-Identifier: MIT
"""Gradients of any `bptt.reference` forward to machine precision, without a line of its backward.

For a real analytic f, f(x + ih) = f(x) + ih f'(x) - O(h^2): Im f(x + ih) / h is f'(x) with no
difference of close numbers, so h can be 1e-30 (Squire & Trapp, 1998).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bptt import reference
from support.problems import Problem, flat, forward, named, state_of

STEP = 1e-30


def _loss(p: Problem) -> Any:
    y, state, _ = forward(reference, p, keep_tape=False)
    return (y * p.dy).sum() + sum((s * d).sum() for s, d in zip(flat(state), flat(p.dstate)))


def _derivative(p: Problem, name: str, part: int) -> Any:
    """dL/d(one array of an argument), one element at a time."""
    parts = flat(p.arrays[name])
    gradient = np.empty(parts[part].shape)
    for index in np.ndindex(gradient.shape):
        moved = parts[part].astype(complex)
        moved[index] += 1j * STEP
        value = state_of([moved if i == part else a for i, a in enumerate(parts)])
        gradient[index] = _loss(p._replace(arrays={**p.arrays, name: value})).imag / STEP
    return gradient


def gradients(p: Problem) -> dict[str, Any]:
    """Named as in `problems.results`."""
    found = {
        name: state_of([_derivative(p, name, part) for part in range(len(flat(value)))])
        for name, value in p.arrays.items()
        if value is not None
    }
    return {name: value for name, value in named(None, None, found).items() if name[:2] == "d "}
