# SPDX-License-Identifier: MIT
"""Derivatives along a direction by the complex step: of the forward pass, and of the backward pass.

Both passes are analytic in what they are given, so with z = p + i h v the real part of a result is
its value at p and the imaginary part, over h, its derivative along v, without any difference of
close numbers (Squire & Trapp, 1998, SIAM Review 40(1)). h * h is 0 in float64, so this is the
arithmetic of dual numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .._grads import Grads
from .._types import Array, State
from .loop import backward
from .products import StepClip

STEP = 1e-170
NAMES = ("x", "w_ih", "w_hh", "b_ih", "b_hh", "state")  # of the positional arguments

Primals = Mapping[str, Any] | tuple[Any, ...]


def by_name(given: Primals) -> dict[str, Any]:
    named = given if isinstance(given, Mapping) else zip(NAMES, given)
    return {name: value for name, value in dict(named).items() if value is not None}


def moved(value: Any, tangent: Any) -> Any:
    """value + i h tangent, of trees of arrays; what is left out is zero."""
    if isinstance(value, tuple) or isinstance(tangent, tuple):
        both = [t if isinstance(t, tuple) else None for t in (value, tangent)]
        n = len(next(t for t in both if t is not None))
        return tuple(map(moved, *(t or (None,) * n for t in both)))
    if value is None and tangent is None:
        return None
    v = np.zeros(np.shape(tangent)) if value is None else np.asarray(value)
    return v + 1j * STEP * np.asarray(0 if tangent is None else tangent)


def parts(tree: Any) -> tuple[Any, Any]:
    """The inverse of `moved`."""
    if isinstance(tree, tuple):
        pairs = [parts(branch) for branch in tree]
        return tuple(value for value, _ in pairs), tuple(tangent for _, tangent in pairs)
    return (None, None) if tree is None else (tree.real.copy(), tree.imag / STEP)


def arguments(primals: Primals, tangents: Primals) -> dict[str, Any]:
    values, along = by_name(primals), by_name(tangents)
    return {name: moved(values.get(name), along.get(name)) for name in {**values, **along}}


def jvp(
    forward: Callable[..., Any], primals: Primals, tangents: Primals, **options: Any
) -> tuple[Array, State, Array, State]:
    """Derivative of the outputs along the tangents; see `bptt.jvp`."""
    y, state, _ = forward(**arguments(primals, tangents), keep_tape=False, **options)
    (y, dy), (state, dstate) = parts(y), parts(state)
    return y, state, dy, dstate


def hvp(
    forward: Callable[..., Any],
    primals: Primals,
    tangents: Primals,
    dy: Any = None,
    dstate: Any = None,
    *,
    dy_tangent: Any = None,
    dstate_tangent: Any = None,
    step_clip: StepClip = None,
    cut: int | None = None,
    **options: Any,
) -> tuple[Grads, Grads]:
    """The gradients, and their derivative along the tangents; see `bptt.hvp`."""
    for name, option in options.items():
        if callable(option):
            raise ValueError(
                f"hvp: {name} is a function, expected a tuple of the function and its derivative: "
                "the second derivative is that of the latter"
            )
    y, state, tape = forward(**arguments(primals, tangents), **options)
    if callable(dy):
        dy, dy_tangent = dy(*parts(y))
    if callable(dstate):
        dstate, dstate_tangent = dstate(*parts(state))
    grads = backward(
        forward.__name__.removesuffix("_forward"),
        tape,
        moved(dy, dy_tangent),
        moved(dstate, dstate_tangent),
        step_clip=step_clip,
        cut=cut,
    )
    values, along = parts(tuple(grads))
    return Grads(*values), Grads(*along)
