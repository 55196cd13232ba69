# SPDX-License-Identifier: MIT
"""JAX: the equations under `jax.lax.scan`, compiled by XLA."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..._types import Array
from ..workloads import Problem
from .job import Job, named


def prepare(cell: str, train: bool, p: Problem) -> Job:
    jax = importlib.import_module("jax")
    sigmoid, tanh, split = jax.nn.sigmoid, jax.numpy.tanh, jax.numpy.split

    def rnn(state: Any, a: Any, r: Any) -> Any:
        return (tanh(a + r),)

    def lstm(state: Any, a: Any, r: Any) -> Any:
        i, f, g, o = split(a + r, 4, -1)
        c = sigmoid(f) * state[1] + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c

    def gru(state: Any, a: Any, r: Any) -> Any:
        (ar, az, an), (rr, rz, rn) = split(a, 3, -1), split(r, 3, -1)
        n, z = tanh(an + sigmoid(ar + rr) * rn), sigmoid(az + rz)
        return (n + z * (state[0] - n),)

    equations = {"rnn": rnn, "lstm": lstm, "gru": gru}[cell]

    def forward(x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, *state: Any) -> Any:
        def step(state: Any, a: Any) -> Any:
            state = equations(state, a, state[0] @ w_hh + b_hh)
            return state, state[0]

        final, y = jax.lax.scan(step, state, x @ w_ih + b_ih)
        return y, final

    def forward_backward(dy: Any, *arguments: Any) -> Any:
        y, pullback, final = jax.vjp(forward, *arguments, has_aux=True)
        return y, final, pullback(dy)

    # Weights are (I, G*H) and (H, G*H): XLA takes up to six times as long with their transposes.
    w_ih, w_hh, *biases = p.weights
    weights = np.ascontiguousarray(w_ih.T), np.ascontiguousarray(w_hh.T), *biases
    x, weights, state, dy = jax.tree.map(jax.numpy.asarray, (p.x, weights, p.state, p.dy))
    infer, train_step = jax.jit(forward), jax.jit(forward_backward)

    def run(state: Any) -> tuple[Any, ...]:
        out = train_step(dy, x, *weights, *state) if train else infer(x, *weights, *state)
        return jax.block_until_ready(out)  # type: ignore[no-any-return]

    def arrays(result: tuple[Any, ...]) -> dict[str, Array]:
        y, final, *rest = result
        grads = [g for grads in rest for g in grads]
        grads[1:3] = [g.T for g in grads[1:3]]
        return named(y, final, grads)

    return Job(run, state, arrays)
