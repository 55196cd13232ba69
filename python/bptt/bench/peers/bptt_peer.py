# SPDX-License-Identifier: MIT
"""bptt, also with weights packed before and with products in bfloat16; its NumPy reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ... import functional
from ... import reference as numpy_reference
from ..._types import Array
from ...layers.cells import LAYERS
from ..workloads import Problem
from .job import Job, as_tuple, named

Pair = tuple[Callable[..., Any], Callable[..., Any]]

CORE: dict[str, Pair] = {
    "rnn": (functional.rnn_forward, functional.rnn_backward),
    "lstm": (functional.lstm_forward, functional.lstm_backward),
    "gru": (functional.gru_forward, functional.gru_backward),
}
REFERENCE: dict[str, Pair] = {
    "rnn": (numpy_reference.rnn_forward, numpy_reference.rnn_backward),
    "lstm": (numpy_reference.lstm_forward, numpy_reference.lstm_backward),
    "gru": (numpy_reference.gru_forward, numpy_reference.gru_backward),
}


def core(cell: str, train: bool, p: Problem) -> Job:
    return _core(cell, train, p)


def bf16(cell: str, train: bool, p: Problem) -> Job:
    return _core(cell, train, p, compute="bf16")


def _core(cell: str, train: bool, p: Problem, **options: Any) -> Job:
    """A stream for a single step, else the functions."""
    if train or len(p.x) > 1:
        forward, backward = CORE[cell]
        return _functions(partial(forward, **options), backward, train, p)
    stream, x, start = _layer(cell, p, **options).stream(), p.x[0], _state(p)

    def run(state: Any) -> tuple[Any, ...]:
        if state is start:
            stream.state = start
        return stream.step(x), None

    def arrays(result: tuple[Any, ...]) -> dict[str, Array]:
        return named(result[0][None], [s[0] for s in as_tuple(stream.state)])

    return Job(run, start, arrays)


def prepared(cell: str, train: bool, p: Problem) -> Job:
    """Inference by `layer.prepare()`."""
    infer, x = _layer(cell, p).prepare(), p.x

    def arrays(result: tuple[Any, ...]) -> dict[str, Array]:
        return named(result[0], [s[0] for s in as_tuple(result[1])])

    return Job(lambda state: infer(x, state), _state(p), arrays)


def _layer(cell: str, p: Problem, **options: Any) -> Any:
    layer = LAYERS[cell](*p.weights[0].shape[1:], len(p.state[0][0]), **options)
    layer.load(dict(zip(layer.parameters, p.weights)))
    return layer


def _state(p: Problem) -> Any:
    """The initial state as layers have it."""
    return tuple(s[None] for s in p.state) if len(p.state) > 1 else p.state[0][None]


def reference(cell: str, train: bool, p: Problem) -> Job:
    """The NumPy reference."""
    return _functions(*REFERENCE[cell], train, p)


def _functions(
    forward: Callable[..., Any], backward: Callable[..., Any], train: bool, p: Problem
) -> Job:
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
