# SPDX-License-Identifier: MIT
"""RNN, LSTM and GRU as equations under `jax.lax.scan`, with arguments as those of `bptt.jax`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def rnn(h: Any, a: Any, r: Any) -> Any:
    return (jnp.tanh(a + r),)


def lstm(h: Any, c: Any, a: Any, r: Any) -> Any:
    i, f, g, o = jnp.split(a + r, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def gru(h: Any, a: Any, r: Any) -> Any:
    (ar, az, an), (rr, rz, rn) = jnp.split(a, 3, -1), jnp.split(r, 3, -1)
    z = jax.nn.sigmoid(az + rz)
    return ((1 - z) * jnp.tanh(an + jax.nn.sigmoid(ar + rr) * rn) + z * h,)


CELLS = {"rnn": rnn, "lstm": lstm, "gru": gru}


def recurrence(
    cell: str, x: Any, w_ih: Any, w_hh: Any, b_ih: Any = 0.0, b_hh: Any = 0.0, state: Any = None,
    lengths: Any = None, resets: Any = None, reverse: bool = False,
) -> Any:  # fmt: skip
    T, B, _ = x.shape
    if state is None:
        state = (jnp.zeros((B, w_hh.shape[1]), x.dtype),) * (2 if cell == "lstm" else 1)
    state = state if isinstance(state, tuple) else (state,)
    lengths = jnp.full(B, T) if lengths is None else lengths
    resets = jnp.zeros((T, B), bool) if resets is None else resets

    def step(state: Any, given: Any) -> Any:
        t, a, reset = given
        old = tuple(jnp.where(reset[:, None], 0, s) for s in state)
        new = CELLS[cell](*old, a, old[0] @ w_hh.T + b_hh)
        runs = (t < lengths)[:, None]
        return tuple(jnp.where(runs, n, s) for n, s in zip(new, state)), jnp.where(runs, new[0], 0)

    a = x @ w_ih.T + b_ih
    final, y = jax.lax.scan(step, state, (jnp.arange(T), a, resets), reverse=reverse)
    return y, (final if cell == "lstm" else final[0])
