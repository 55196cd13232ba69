# SPDX-License-Identifier: MIT
"""The equations in plain NumPy: the same functions, names and signatures as `bptt`, and no speed.

This module is what the C++ core is measured against. It checks nothing and never imports the core.
Complex input flows through (comparisons look at real parts only, nothing is cast to real), so the
complex-step derivative of a ``*_forward`` gives every gradient to machine precision
(Squire & Trapp, 1998, SIAM Review 40(1)); the tests hold each ``*_backward`` against it.

A cell is a pair of functions::

    step(x_gates, h_gates, state, activation) -> (new_state, saved)
    grad(d_new_state, saved, state, activation) -> (d_x_gates, d_h_gates, d_state)

on lists of (B, H) arrays, one per gate in PyTorch's order; the loops below serve them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .grads import Array, Grads, State
from .reference_attention import (
    additive_attention_backward,
    additive_attention_forward,
    dot_attention_backward,
    dot_attention_forward,
)
from .rtrl import gradients as gradients_by_rtrl

__all__ = [
    "additive_attention_backward",
    "additive_attention_forward",
    "dot_attention_backward",
    "dot_attention_forward",
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "rnn_backward",
    "rnn_forward",
    "rtrl",
]


# --- activations: value from the pre-activation, derivative from the value

LEAKY_SLOPE = 0.01


def sigmoid(a: Array) -> Array:
    return np.asarray(0.5 * np.tanh(0.5 * a) + 0.5)


ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda y: 1 - y * y),
    "relu": (
        lambda a: np.where(a.real < 0, 0, a),
        lambda y: np.where(y.real <= 0, 0.0, 1.0),
    ),
    "leaky_relu": (
        lambda a: np.where(a.real < 0, LEAKY_SLOPE * a, a),
        lambda y: np.where(y.real <= 0, LEAKY_SLOPE, 1.0),
    ),
    "sigmoid": (sigmoid, lambda y: y * (1 - y)),
    "identity": (lambda a: a, lambda y: np.ones_like(y)),
}


# --- cells


def rnn_step(x, h, s, activation):  # type: ignore[no-untyped-def]
    """Elman (1990): h' = activation(x + h)."""
    y = ACTIVATIONS[activation][0](x[0] + h[0])
    return (y,), (y,)


def rnn_grad(ds, saved, s, activation):  # type: ignore[no-untyped-def]
    (y,) = saved
    d = ds[0] * ACTIVATIONS[activation][1](y)
    return (d,), (d,), (np.zeros_like(d),)


def lstm_step(x, h, s, activation):  # type: ignore[no-untyped-def]
    """Hochreiter & Schmidhuber (1997), forget gate of Gers et al. (2000); gates i f g o.

    c' = sig(f) c + sig(i) tanh(g),   h' = sig(o) tanh(c').
    """
    i, f, g, o = (x[k] + h[k] for k in range(4))
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c = f * s[1] + i * g
    tanh_c = np.tanh(c)
    return (o * tanh_c, c), (i, f, g, o, tanh_c)


def lstm_grad(ds, saved, s, activation):  # type: ignore[no-untyped-def]
    i, f, g, o, tanh_c = saved
    dc = ds[1] + ds[0] * o * (1 - tanh_c * tanh_c)
    di = dc * g * i * (1 - i)
    df = dc * s[1] * f * (1 - f)
    dg = dc * i * (1 - g * g)
    do = ds[0] * tanh_c * o * (1 - o)
    return (di, df, dg, do), (di, df, dg, do), (np.zeros_like(dc), dc * f)


def gru_step(x, h, s, activation):  # type: ignore[no-untyped-def]
    """Cho et al. (2014), reset applied after the recurrent product (PyTorch, cuDNN); gates r z n.

    n = tanh(x_n + sig(r) h_n),   h' = (1 - sig(z)) n + sig(z) h.
    """
    r, z = sigmoid(x[0] + h[0]), sigmoid(x[1] + h[1])
    n = np.tanh(x[2] + r * h[2])
    return (n + z * (s[0] - n),), (r, z, n, h[2])


def gru_grad(ds, saved, s, activation):  # type: ignore[no-untyped-def]
    r, z, n, h_n = saved
    dn = ds[0] * (1 - z) * (1 - n * n)
    dr = dn * h_n * r * (1 - r)
    dz = ds[0] * (s[0] - n) * z * (1 - z)
    return (dr, dz, dn), (dr, dz, dn * r), (ds[0] * z,)


class Cell(NamedTuple):
    step: Callable[..., Any]
    grad: Callable[..., Any]
    gates: int
    states: int


CELLS = {
    "rnn": Cell(rnn_step, rnn_grad, gates=1, states=1),
    "lstm": Cell(lstm_step, lstm_grad, gates=4, states=2),
    "gru": Cell(gru_step, gru_grad, gates=3, states=1),
}


# --- one loop for all cells


class Tape(NamedTuple):
    """What `backward` needs of one forward call."""

    activation: str | None
    x: Array  # (T, B, I), zero in the padding
    w_ih: Array
    w_hh: Array
    has_bias: tuple[bool, bool]
    times: list[int]  # time indices in the order of processing
    active: Array  # (T, B): is step t inside sequence b?
    states: list[tuple[Array, ...]]  # before each processed step, and the final one
    saved: list[tuple[Array, ...]]  # per processed step


def forward(
    cell: str,
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    state: State,
    lengths: Any,
    reverse: bool,
    keep_tape: bool,
    activation: str | None = None,
) -> tuple[Array, State, Tape | None]:
    step, _, gates, n_states = CELLS[cell]
    arrays = [w_ih, w_hh, *(b for b in (b_ih, b_hh) if b is not None)]
    if state is None:
        state = (np.zeros((np.shape(x)[1], np.shape(w_hh)[1])),) * n_states
    elif n_states == 1:
        state = (state,)
    dtype = np.result_type(x, *arrays, *(s for s in state if np.iscomplexobj(s)))
    x, w_ih, w_hh = (np.array(a) for a in (x, w_ih, w_hh))  # the tape's own
    T, B, _ = x.shape
    lengths = np.full(B, T) if lengths is None else np.asarray(lengths)
    active = np.arange(T)[:, None] < lengths
    x = np.where(active[:, :, None], x, 0)
    bx = 0 if b_ih is None else np.asarray(b_ih)
    bh = 0 if b_hh is None else np.asarray(b_hh)

    times = list(range(T))[::-1] if reverse else list(range(T))
    s = tuple(np.asarray(a, dtype) for a in state)
    y = np.zeros((T, B, w_hh.shape[1]), dtype)
    states, saved = [s], []
    for t in times:
        x_gates = np.split(x[t] @ w_ih.T + bx, gates, axis=-1)
        h_gates = np.split(s[0] @ w_hh.T + bh, gates, axis=-1)
        new, kept = step(x_gates, h_gates, s, activation)
        on = active[t][:, None]
        s = tuple(np.where(on, a, b) for a, b in zip(new, s))
        y[t] = np.where(on, new[0], 0)
        states.append(s)
        saved.append(kept)
    final = s if n_states > 1 else s[0]
    if not keep_tape:
        return y, final, None
    has_bias = (b_ih is not None, b_hh is not None)
    return y, final, Tape(activation, x, w_ih, w_hh, has_bias, times, active, states, saved)


def clip_step(dh: Array, step_clip: tuple[str, float] | None) -> Array:
    """Bound the gradient passed back one step: each element, or each sequence's Euclidean norm.

    By norm, a gradient that is not finite stays as it is.
    """
    if step_clip is None:
        return dh
    kind, bound = step_clip
    if kind == "value":
        return np.clip(dh, -bound, bound)
    # Relative to the largest element, as squares could overflow.
    largest = np.fmax(np.abs(dh).max(axis=-1, keepdims=True), np.finfo(dh.dtype).tiny)
    scaled = dh / largest
    norm = largest * np.sqrt((scaled * scaled).sum(axis=-1, keepdims=True))
    return np.asarray(dh / np.fmax(norm / bound, 1))


def backward(
    cell: str,
    tape: Tape,
    dy: Array | None,
    dstate: State,
    step_clip: tuple[str, float] | None,
) -> Grads:
    _, grad, _, n_states = CELLS[cell]
    x, w_ih, w_hh = tape.x, tape.w_ih, tape.w_hh
    *_, final = tape.states
    if dstate is None:
        ds = [np.zeros_like(a) for a in final]
    else:
        given = dstate if n_states > 1 else (dstate,)
        ds = [np.zeros_like(a) if d is None else np.asarray(d) for a, d in zip(final, given)]
    dx, dw, dr = np.zeros_like(x), np.zeros_like(w_ih), np.zeros_like(w_hh)
    dbx, dbh = np.zeros(len(w_ih), x.dtype), np.zeros(len(w_ih), x.dtype)
    for n in reversed(range(len(tape.times))):
        t = tape.times[n]
        on = tape.active[t][:, None]
        total = [ds[0] if dy is None else ds[0] + np.asarray(dy)[t], *ds[1:]]
        gx, gh, prev = grad(total, tape.saved[n], tape.states[n], tape.activation)
        gx = np.where(on, np.concatenate(gx, -1), 0)
        gh = np.where(on, np.concatenate(gh, -1), 0)
        dx[t] = gx @ w_ih
        dw += gx.T @ x[t]
        dr += gh.T @ tape.states[n][0]
        dbx += gx.sum(0)
        dbh += gh.sum(0)
        passed = [clip_step(prev[0] + gh @ w_hh, step_clip), *prev[1:]]
        ds = [np.where(on, new, old) for new, old in zip(passed, ds)]
    state = tuple(ds) if n_states > 1 else ds[0]
    has_ih, has_hh = tape.has_bias
    return Grads(dx, dw, dr, dbx if has_ih else None, dbh if has_hh else None, state)


# --- the same gradients without going back


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
    activation: str = "tanh",
    lengths: Any = None,
    reverse: bool = False,
) -> Grads:
    """Real-time recurrent learning (Williams & Zipser, 1989): BPTT's gradients.

    `cell` is "rnn", "lstm" or "gru"; the other arguments are those of its ``*_forward`` and
    ``*_backward``. Never truncated, and without a backward pass: what `bptt.tbptt` approximates.
    """
    arguments = (x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, True, activation)
    _, _, tape = forward(cell, *arguments)
    return gradients_by_rtrl(CELLS[cell].grad, tape, dy, dstate)


# --- the public functions; threads, checkpoint, max_bytes and compute are about how the core
# computes, and mean nothing here


def rnn_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: State = None,
    *,
    activation: str = "tanh",
    lengths: Any = None,
    reverse: bool = False,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | None = None,
    max_bytes: int | None = None,
    compute: str | None = None,
) -> tuple[Array, State, Tape | None]:
    """Elman RNN; see `bptt.rnn_forward`."""
    return forward("rnn", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape, activation)


def rnn_backward(
    tape: Tape,
    dy: Array | None = None,
    dstate: State = None,
    *,
    step_clip: tuple[str, float] | None = None,
    threads: int | None = None,
) -> Grads:
    """Gradients of an Elman RNN; see `bptt.rnn_backward`."""
    return backward("rnn", tape, dy, dstate, step_clip)


def lstm_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: State = None,
    *,
    lengths: Any = None,
    reverse: bool = False,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | None = None,
    max_bytes: int | None = None,
    compute: str | None = None,
) -> tuple[Array, State, Tape | None]:
    """LSTM; see `bptt.lstm_forward`."""
    return forward("lstm", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape)


def lstm_backward(
    tape: Tape,
    dy: Array | None = None,
    dstate: State = None,
    *,
    step_clip: tuple[str, float] | None = None,
    threads: int | None = None,
) -> Grads:
    """Gradients of an LSTM; see `bptt.lstm_backward`."""
    return backward("lstm", tape, dy, dstate, step_clip)


def gru_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: State = None,
    *,
    lengths: Any = None,
    reverse: bool = False,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | None = None,
    max_bytes: int | None = None,
    compute: str | None = None,
) -> tuple[Array, State, Tape | None]:
    """GRU; see `bptt.gru_forward`."""
    return forward("gru", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape)


def gru_backward(
    tape: Tape,
    dy: Array | None = None,
    dstate: State = None,
    *,
    step_clip: tuple[str, float] | None = None,
    threads: int | None = None,
) -> Grads:
    """Gradients of a GRU; see `bptt.gru_backward`."""
    return backward("gru", tape, dy, dstate, step_clip)
