# SPDX-License-Identifier: MIT
"""Derivatives along a direction, by the core's dual numbers: forward mode, and second derivatives.

Let p be all arguments, y(p) all results, and g(d, p) the gradient of <d, y(p)> with respect to p.
The product of a vector v with the Jacobian of g has two parts. For d it is the tangent of y along
v. For p it is the tangent of g along v, because second derivatives commute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .._dual import dual
from .._types import Array
from .call import Call
from .layout import array_of
from .stack import pull, run


def tangents(
    call: Call,
    inputs: Sequence[Any],
    directions: Sequence[Tensor | None],
    cotangents: Sequence[Tensor | None] | None = None,
) -> list[Any]:
    """The tangents of all results along `directions`, one for each of `inputs` or None.

    With `cotangents`, gradients of the results, also the tangents of the gradients of `inputs`.
    """
    s, layout = call.stack.structure, call.layout
    if call.stack.how[0] != "none" or call.stack.how[3]:
        raise NotImplementedError(
            f"{s.caller}: step_clip or cut is given, expected None: such a gradient is not that of "
            "the loss, and has no second derivative"
        )
    stack = replace(
        call.stack, structure=s._replace(compute=None), how=("none", 0, "h", 0, 0, 0, 0)
    )
    first, threads = 1 + call.stack.states, torch.get_num_threads()
    places = [layout.inward, *[layout.state_inward] * call.stack.states]
    x, *others = map(_dual, places + [array_of] * (len(inputs) - first), inputs, directions)
    initial, cells = others[: first - 1], stack.cells(others[first - 1 :])
    keep = cotangents is not None
    results, tapes = run(stack, call.sequences, x, initial, cells, keep, threads)
    found = call.outward([_tangent(r) for r in results])
    if cotangents is not None:
        dy, *dstate = map(_dual, places, cotangents, [None] * len(cotangents))
        needs = (True,) * len(inputs)
        grads, _ = pull(stack, call.sequences, tapes, dy, dstate, needs, threads)
        found += call.outward([g if g is None else _tangent(g) for g in grads])
        found = [f if a is not None else None for f, a in zip(found, (*cotangents, *inputs))]
    return [f if f is None else f.to(inputs[0].dtype) for f in found]


def _dual(place: Any, value: Tensor | None, direction: Tensor | None) -> Any:
    if value is None:
        return None
    return dual(place(value), None if direction is None else place(direction))


def _tangent(array: Any) -> Array:
    tangent: Array = array.imag.copy()
    return tangent
