# SPDX-License-Identifier: MIT
"""Directions for `jvp` and `hvp` of a call, and their results by name."""

from __future__ import annotations

from typing import Any

import numpy as np

import bptt
from support.problems import Problem, named


def each(f: Any, *trees: Any) -> Any:
    """f of the arrays of some trees."""
    if isinstance(trees[0], tuple):
        return tuple(each(f, *branches) for branches in zip(*trees))
    return None if trees[0] is None else f(*trees)


class Directions:
    """Random tangents of all that a call takes."""

    def __init__(self, c: Problem, seed: int = 7) -> None:
        rng = np.random.default_rng(seed)

        def normal(a: Any) -> Any:
            return rng.standard_normal(np.shape(a))

        self.arrays = {name: each(normal, value) for name, value in c.arrays.items()}
        self.dy, self.dstate = normal(c.dy), each(normal, c.dstate)


def jvp(c: Problem, v: Directions, module: Any = bptt, **how: Any) -> tuple[dict[str, Any], ...]:
    """Values and tangents, named as in `results`."""
    forward = getattr(module, f"{c.cell}_forward")
    y, state, dy, dstate = module.jvp(forward, c.arrays, v.arrays, **c.options, **how)
    return named(y, state, {}), named(dy, dstate, {})


def hvp(
    c: Problem, v: Directions, module: Any = bptt, along: bool = True, **how: Any
) -> tuple[dict[str, Any], ...]:
    """The same of the gradients; `along`: their arguments have tangents too."""
    forward = getattr(module, f"{c.cell}_forward")
    tangents = {"dy_tangent": v.dy, "dstate_tangent": v.dstate} if along else {}
    pair = module.hvp(forward, c.arrays, v.arrays, c.dy, c.dstate, **tangents, **c.options, **how)
    return tuple({k: a for k, a in named(None, None, g).items() if k[0] == "d"} for g in pair)
