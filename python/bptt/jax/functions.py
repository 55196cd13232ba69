# SPDX-License-Identifier: MIT
"""The public functions: each has the arguments of `bptt.lstm_forward`, or of its own cell."""

from __future__ import annotations

from typing import Any

import jax
from jax.typing import ArrayLike

from .._types import StepClip
from .call import recurrence

__all__ = ["gru", "lstm", "rnn"]

Result = tuple[jax.Array, Any]


def lstm(
    x: ArrayLike,
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    state: Any = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    step_clip: StepClip | None = None,
    cut: int | None = None,
    threads: int | None = None,
    checkpoint: str | int | None = None,
    compute: str | None = None,
    **options: Any,
) -> Result:
    """LSTM over whole sequences, for programs of JAX.

    With i, f, g, o = w_ih x_t + b_ih + w_hh h_{t-1} + b_hh:
    c_t = sig(f) c_{t-1} + sig(i) tanh(g),   h_t = sig(o) tanh(c_t).

    Arrays are NumPy's, JAX's or traced. All other arguments are constants of the compiled program.

    Parameters
    ----------
    x : array_like, shape (T, B, I) or (T, I)
        T time steps of B sequences of I features. Without B, x is one sequence, and neither the
        other arrays nor the results have the axis of B.
    w_ih, w_hh : array_like, shapes (4*H, I) and (4*H, H)
        Weights of the input and of the previous state; gate order i, f, g, o (PyTorch's).
    b_ih, b_hh : array_like, shape (4*H,), optional
        Biases; none if omitted.
    state : tuple (h, c) of array_like, shape (B, H) each, optional
        The state before the first step; zeros if omitted.
    lengths : array_like of int, shape (B,), optional
        The number of steps of each sequence, 0..T in any order; T if omitted.
    reverse : bool
        Process each sequence from its last step to its first. `y` stays aligned with `x`.
    step_clip, cut : optional
        Options of the backward pass, as in `bptt.lstm_backward`.
    threads, checkpoint, compute : optional
        As in `bptt.lstm_forward`.
    **options
        All other options of `bptt.lstm_forward`, such as `resets`. Parameters among them
        (`peepholes`, `w_hr`, `layer_norm`) have gradients.

    Returns
    -------
    y : jax.Array, shape (T, B, H)
        h after each step, 0 beyond a sequence's length.
    state : tuple (h, c) of jax.Array, shape (B, H) each
        The state after the last step of each sequence.

    Raises
    ------
    ValueError
        While JAX traces the call: if shapes disagree, or an option is unknown or impossible.
    TypeError
        While JAX traces the call: if an array is complex, or lengths are not integers. Also if JAX
        asks for a gradient of `h_mask`, `zoneout` or `leak`, or for a second derivative.
    jax.errors.JaxRuntimeError or ValueError
        While a compiled program runs: if a length is outside 0..T.

    Notes
    -----
    Computes in float64 if x, a weight or a bias is float64, else in float32. The
    backward pass computes the forward pass again, because a tape cannot pass through JAX. It
    computes only the gradients that JAX asks for. Forward-mode derivatives (`jax.jvp`,
    `jax.jacfwd`) raise an error of JAX.

    Under `jax.vmap`, the mapped axis becomes more sequences of one call. If weights are mapped, or
    gradients of weights are wanted, there is one call for each index instead.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> import bptt.jax
    >>> w_ih, w_hh = jnp.full((16, 3), 0.1), jnp.full((16, 4), 0.1)
    >>> @jax.jit
    ... def last(x, lengths):
    ...     y, (h, c) = bptt.jax.lstm(x, w_ih, w_hh, lengths=lengths)
    ...     return h
    >>> last(jnp.ones((10, 2, 3)), jnp.array([10, 4])).shape
    (2, 4)
    """
    arrays = {
        "x": x, "w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh, "state": state,
        "lengths": lengths,
    }  # fmt: skip
    how = (step_clip, cut, threads, checkpoint, compute)
    return recurrence("lstm", arrays, reverse, options, how)


def gru(
    x: ArrayLike,
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    state: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    step_clip: StepClip | None = None,
    cut: int | None = None,
    threads: int | None = None,
    checkpoint: str | int | None = None,
    compute: str | None = None,
    **options: Any,
) -> Result:
    """GRU over whole sequences, for programs of JAX.

    r = sig(w_ir x_t + b_ir + w_hr h_{t-1} + b_hr),
    z = sig(w_iz x_t + b_iz + w_hz h_{t-1} + b_hz),
    n = tanh(w_in x_t + b_in + r (w_hn h_{t-1} + b_hn)),   h_t = (1 - z) n + z h_{t-1}.

    Parameters
    ----------
    x : array_like, shape (T, B, I) or (T, I)
        T time steps of B sequences, or of one, as in `lstm`.
    w_ih, w_hh : array_like, shapes (3*H, I) and (3*H, H)
        Weights of the input and of the previous state; gate order r, z, n (PyTorch's).
    b_ih, b_hh : array_like, shape (3*H,), optional
        Biases; none if omitted.
    state : array_like, shape (B, H), optional
        Before the first step; zeros if omitted.
    lengths, reverse, step_clip, cut, threads, checkpoint, compute : optional
        As in `lstm`.
    **options
        All other options of `bptt.gru_forward`, such as `reset_after`.

    Returns
    -------
    y : jax.Array, shape (T, B, H)
        h after each step, 0 beyond a sequence's length.
    state : jax.Array, shape (B, H)
        After the last step of each sequence.

    Raises
    ------
    ValueError, TypeError
        As in `lstm`.

    Notes
    -----
    Precision, derivatives and `jax.vmap`: as in `lstm`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> import bptt.jax
    >>> w_ih, w_hh = jnp.full((12, 3), 0.1), jnp.full((12, 4), 0.1)
    >>> one = lambda x: bptt.jax.gru(x, w_ih, w_hh)[1]          # of one sequence, (T, I)
    >>> jax.vmap(one)(jnp.ones((8, 10, 3))).shape               # of eight, in one call
    (8, 4)
    """
    arrays = {
        "x": x, "w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh, "state": state,
        "lengths": lengths,
    }  # fmt: skip
    how = (step_clip, cut, threads, checkpoint, compute)
    return recurrence("gru", arrays, reverse, options, how)


def rnn(
    x: ArrayLike,
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    state: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    step_clip: StepClip | None = None,
    cut: int | None = None,
    threads: int | None = None,
    checkpoint: str | int | None = None,
    compute: str | None = None,
    **options: Any,
) -> Result:
    """Elman RNN over whole sequences, for programs of JAX.

    h_t = activation(w_ih x_t + b_ih + w_hh h_{t-1} + b_hh)

    Parameters
    ----------
    x : array_like, shape (T, B, I) or (T, I)
        T time steps of B sequences, or of one, as in `lstm`.
    w_ih, w_hh : array_like, shapes (H, I) and (H, H)
        Weights of the input and of the previous state.
    b_ih, b_hh : array_like, shape (H,), optional
        Biases; none if omitted.
    state : array_like, shape (B, H), optional
        Before the first step; zeros if omitted.
    lengths, reverse, step_clip, cut, threads, checkpoint, compute : optional
        As in `lstm`.
    **options
        All other options of `bptt.rnn_forward`, such as `activation`.

    Returns
    -------
    y : jax.Array, shape (T, B, H)
        h after each step, 0 beyond a sequence's length.
    state : jax.Array, shape (B, H)
        After the last step of each sequence.

    Raises
    ------
    ValueError, TypeError
        As in `lstm`.

    Notes
    -----
    Precision, derivatives and `jax.vmap`: as in `lstm`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> import bptt.jax
    >>> x, w_ih, w_hh = jnp.ones((10, 2, 3)), jnp.full((4, 3), 0.1), jnp.full((4, 4), 0.1)
    >>> loss = lambda w_hh: (bptt.jax.rnn(x, w_ih, w_hh, activation="relu")[0] ** 2).sum()
    >>> jax.jit(jax.grad(loss))(w_hh).shape
    (4, 4)
    """
    arrays = {
        "x": x, "w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh, "state": state,
        "lengths": lengths,
    }  # fmt: skip
    how = (step_clip, cut, threads, checkpoint, compute)
    return recurrence("rnn", arrays, reverse, options, how)
