# SPDX-License-Identifier: MIT
"""Real-time recurrent learning: the gradient of BPTT, carried forward instead of back.

Part of `bptt.reference`: plain NumPy, no checks, never the core. All that it knows of a cell is the
`grad` of its pair, so that it shares the recurrence of `reference.backward`, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .grads import Array, Grads, State

__all__ = ["gradients"]


def jacobians(grad: Callable[..., Any], saved: Any, s: Any, activation: Any) -> tuple[Array, ...]:
    """Of the new state, by the sums from x, the sums from h, and the state.

    Row i is `grad` of the i-th unit vector. With S numbers in a state (h, for an LSTM h and c):
    shapes (B, S, G*H) twice and (B, S, S).
    """
    B, H = s[0].shape
    S = len(s) * H
    units = np.split(np.broadcast_to(np.eye(S)[:, None], (S, B, S)), len(s), axis=-1)
    return tuple(np.concatenate(d, -1).swapaxes(0, 1) for d in grad(units, saved, s, activation))


def influence(grad: Callable[..., Any], tape: Any) -> Iterator[dict[str, Array]]:
    """P_t by the names of `Grads`, before the first step and after each; see `gradients`."""
    x, w_hh, states = tape.x, tape.w_hh, tape.states
    (T, B, I), (GH, H) = x.shape, w_hh.shape
    S = len(states[0]) * H
    shapes = {"x": (T, I), "w_ih": (GH, I), "w_hh": (GH, H), "b_ih": (GH,), "b_hh": (GH,)}
    P = {name: np.zeros((B, S, *shape)) for name, shape in shapes.items()}
    P["state"] = np.tile(np.eye(S), (B, 1, 1))
    yield P
    for n, t in enumerate(tape.times):
        Jx, Jh, D = jacobians(grad, tape.saved[n], states[n], tape.activation)
        D[..., :H] += Jh @ w_hh
        new = {name: np.einsum("bij,bj...->bi...", D, p) for name, p in P.items()}
        new["x"][:, :, t] += Jx @ tape.w_ih
        new["w_ih"] += np.einsum("big,bk->bigk", Jx, x[t])
        new["w_hh"] += np.einsum("big,bk->bigk", Jh, states[n][0])
        new["b_ih"] += Jx
        new["b_hh"] += Jh
        for name, p in P.items():
            on = tape.active[t].reshape(B, *[1] * (p.ndim - 1))
            P[name] = np.where(on, new[name], p)
        yield P


def gradients(grad: Callable[..., Any], tape: Any, dy: Array | None, dstate: State) -> Grads:
    """Gradients by the influence matrix P_t = ds_t/dp of all parameters p on the state.

    With s_t = cell(a^x_t, a^h_t, s_{t-1}), a^x = w_ih x + b_ih and a^h = w_hh h + b_hh::

        D_t = ds_t/ds_{t-1} + ds_t/da^h_t w_hh dh_{t-1}/ds_{t-1}
        P_t = D_t P_{t-1} + ds_t/da^x_t da^x_t/dp + ds_t/da^h_t da^h_t/dp
        dL/dp = sum_t dL/dy_t dh_t/dp + dL/ds_T P_T,    dh_t/dp the rows of h in P_t

    (Williams & Zipser, 1989, Neural Computation 1(2)). x and the initial state count as parameters
    of each sequence, so that `Grads` is complete.
    """
    states, H = len(tape.states[0]), tape.w_hh.shape[1]
    carried = influence(grad, tape)
    P = next(carried)
    d = {name: np.zeros_like(p[:, 0]) for name, p in P.items()}  # of each sequence
    for t, P in zip(tape.times, carried):
        if dy is not None:
            dh = np.where(tape.active[t][:, None], np.asarray(dy)[t], 0)
            for name, p in P.items():
                d[name] += np.einsum("bi,bi...->b...", dh, p[:, :H])
    if dstate is not None:
        given = dstate if states > 1 else (dstate,)
        zeros = np.zeros_like(tape.states[0][0])
        ds = np.concatenate([zeros if a is None else a for a in given], -1)
        for name, p in P.items():
            d[name] += np.einsum("bi,bi...->b...", ds, p)
    state = tuple(np.split(d["state"], states, axis=-1))
    b_ih, b_hh = (d[b].sum(0) if has else None for b, has in zip(("b_ih", "b_hh"), tape.has_bias))
    return Grads(
        d["x"].swapaxes(0, 1), d["w_ih"].sum(0), d["w_hh"].sum(0), b_ih, b_hh,
        state if states > 1 else state[0],
    )  # fmt: skip
