# SPDX-License-Identifier: MIT
"""Real-time recurrent learning: the gradient of BPTT, carried forward instead of back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .._grads import Grads
from .._types import Array, State
from .loop import Queues, Tape, filled, forward, newest, retreat


def of_sequence(state: State, b: int) -> State:
    """Sequence b of a state, still with an axis for it."""
    if isinstance(state, (tuple, list)):
        return tuple(of_sequence(s, b) for s in state)
    return None if state is None else np.asarray(state)[..., b : b + 1, :]


def numbers(queues: Queues) -> Array:
    return np.concatenate([q.ravel() for q in queues])


def queues_of(vector: Array, like: Queues) -> Queues:
    """The inverse of `numbers`."""
    parts = np.split(vector, np.cumsum([q.size for q in like])[:-1])
    return [part.reshape(q.shape) for part, q in zip(parts, like)]


def influence(tape: Tape) -> Iterator[dict[str, Array]]:
    """P_t = ds_t/dp, (S, *shape of p), after each step of one sequence; first that before them.

    Row i of both Jacobians of a step is the gradient of number i of the state after it.
    """
    net, queues = tape.net, tape.queues[0]
    eye = np.eye(numbers(queues).size)
    P = {name: np.zeros((len(eye), *a.shape)) for name, a in net.parameters.items()}
    P |= {"x": np.zeros((len(eye), *tape.x.shape)), "state": eye}
    yield P
    for n, t in enumerate(tape.times):
        if tape.active[t].all():
            rows = [retreat(tape, n, queues_of(unit, queues), None, None) for unit in eye]
            D = np.stack([numbers(older) for older, _ in rows])
            P = {name: np.tensordot(D, p, 1) for name, p in P.items()}
            for name in net.parameters:
                P[name] += np.stack([grads[name] for _, grads in rows])
            P["x"][:, t] += np.stack([grads["x"] for _, grads in rows])
        yield P


def rtrl(
    cell: str,
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    state: State,
    dy: Array | None,
    dstate: State = None,
    *,
    lengths: Any = None,
    reverse: bool = False,
    **options: Any,
) -> Grads:
    """Gradients by the influence P_t of all parameters p on the state s_t, of any cell::

        P_t = ds_t/ds_{t-1} P_{t-1} + ds_t/dp,   dL/dp = sum_t dL/dy_t dh_t/dp + dL/ds_T P_T

    with dh_t/dp the rows of h in P_t (Williams & Zipser, 1989, Neural Computation 1(2)). Never
    truncated, and without a backward pass through time: what `bptt.tbptt` approximates. x and the
    initial state count as parameters of each sequence, so that `Grads` is complete. The other
    arguments are as in the cell's ``*_forward`` and ``*_backward``.
    """
    B = x.shape[1]
    total: dict[str, Any] = {}
    dx, dinitial = np.zeros_like(x), []
    for b in range(B):
        n = None if lengths is None else np.asarray(lengths)[b : b + 1]
        _, _, tape = forward(
            cell, x[:, b : b + 1], w_ih, w_hh, b_ih, b_hh, of_sequence(state, b), lengths=n,
            reverse=reverse, **options,
        )  # fmt: skip
        assert tape is not None
        first = tape.queues[0]
        H = first[0].shape[-1]
        carried = influence(tape)
        P = next(carried)
        d = {name: np.zeros_like(p[0]) for name, p in P.items()}
        for t, P in zip(tape.times, carried):
            if dy is not None and tape.active[t].all():
                h = slice(first[0].size - H, first[0].size)  # the newest entry of its queue
                for name, p in P.items():
                    d[name] += np.tensordot(dy[t, b], p[h], 1)
        end = filled(tape.net, of_sequence(dstate, b), len(first[0]), 1, x.dtype)
        for name, p in P.items():
            d[name] += np.tensordot(numbers(end), p, 1)
        dx[:, b : b + 1] = d.pop("x")
        dinitial.append(newest(tape.net, queues_of(d.pop("state"), first)))
        total = {name: total.get(name, 0) + v for name, v in d.items()}
    several = isinstance(dinitial[0], tuple)
    parts = zip(*dinitial) if several else [dinitial]
    joined = tuple(np.concatenate(part, axis=-2) for part in parts)
    named = {"b_ih": None, "b_hh": None} | total
    return Grads(x=dx, state=joined if several else joined[0], **named)
