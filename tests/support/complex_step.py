# SPDX-License-Identifier: MIT
"""Gradients of any `bptt.reference` forward to machine precision, without a line of its backward.

For a real analytic f, f(x + ih) = f(x) + ih f'(x) - O(h^2): Im f(x + ih) / h is f'(x) with no
difference of close numbers, so h can be 1e-30 (Squire & Trapp, 1998).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bptt import reference
from support.cases import Problem, flat, forward

STEP = 1e-30


def _loss(p: Problem, arrays: dict[str, Any]) -> Any:
    y, state, _ = forward(reference, p._replace(arrays=arrays), keep_tape=False)
    return (y * p.dy).sum() + sum((s * d).sum() for s, d in zip(flat(state), flat(p.dstate)))


def _derivative(p: Problem, name: str, part: int | None) -> Any:
    """dL/d(argument), one element at a time."""
    array = p.arrays[name] if part is None else p.arrays[name][part]
    gradient = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        moved = array.astype(complex)
        moved[index] += 1j * STEP
        value = (
            moved
            if part is None
            else tuple(moved if i == part else a for i, a in enumerate(p.arrays[name]))
        )
        gradient[index] = _loss(p, {**p.arrays, name: value}).imag / STEP
    return gradient


def gradients(p: Problem) -> dict[str, Any]:
    """Named as in `cases.results`."""
    named = {}
    for name, value in p.arrays.items():
        if value is None:
            continue
        if name != "state":
            named[f"d {name}"] = _derivative(p, name, None)
        elif isinstance(value, tuple):
            named |= {f"d state[{i}]": _derivative(p, name, i) for i in range(len(value))}
        else:
            named["d state[0]"] = _derivative(p, name, None)
    return named
