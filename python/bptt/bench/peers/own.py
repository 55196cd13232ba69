# SPDX-License-Identifier: MIT
"""bptt and its NumPy reference."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from ...grads import Array
from ..points import Problem
from .job import Job, as_tuple, named


def functional(module_name: str) -> Callable[[str, bool, Problem], Job]:
    def prepare(cell: str, train: bool, p: Problem) -> Job:
        module = importlib.import_module(module_name)
        forward = getattr(module, f"{cell}_forward")
        backward = getattr(module, f"{cell}_backward")
        x, weights, dy = p.x, p.weights, p.dy

        def infer(state: Any) -> tuple[Any, ...]:
            y, state, _ = forward(x, *weights, state, keep_tape=False)
            return y, state

        def step(state: Any) -> tuple[Any, ...]:
            y, state, tape = forward(x, *weights, state)
            return y, state, backward(tape, dy)

        def arrays(result: tuple[Any, ...]) -> dict[str, Array]:
            y, state, *rest = result
            grads = [g for grads in rest for g in (*grads[:5], *as_tuple(grads[5]))]
            return named(y, as_tuple(state), grads)

        state = p.state if len(p.state) > 1 else p.state[0]
        return Job(step if train else infer, state, arrays)

    return prepare
