# SPDX-License-Identifier: MIT
"""Jacobians of the state along a sequence, and their norms and singular values."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._types import Array
from .._validate import as_choice, as_flag
from .products import Graded, logs
from .steps import Steps

__all__ = ["jacobian", "jacobian_norms", "singular_values", "step_jacobians"]


def step_jacobians(tape: _core.Tape) -> Array:
    """Jacobian of every step, of the whole state with respect to the one before it.

    J_t = d s_t / d s_{t-1}, where s is h or, for cells with more states, all of them after each
    other: (h, c) for LSTM, (h, c, n, m) for sLSTM. Of RNN, J_t = diag(phi'(a_t)) w_hh.

    Parameters
    ----------
    tape : Tape
        From a ``*_forward`` function, or one of ``tape.cells`` of a layer's tape. Not of
        `lstm1997_forward`, and without dilation or skip. Only an RNN's, GRU's or MGU's may be kept
        with a checkpoint.

    Returns
    -------
    ndarray, shape (T, B, S, S)
        S = H times the number of states (P + H for a projected LSTM), in the dtype of the tape.
        At the first step, with respect to the initial state; with ``reverse``, "before" is t + 1.
        Zero beyond the lengths, and where `resets` starts the sequence again.

    Raises
    ------
    TypeError
        If `tape` is not such a tape.
    ValueError
        If the tape is of a call that is excluded above, or an argument of that call (a weight, say)
        has changed since. The tape refers to them, so take Jacobians before the update.

    Notes
    -----
    All steps of all sequences run again as a batch of sequences of one step, S copies of each, and
    the backward pass of that takes the identity as gradient of the state. A change of an argument
    is noticed where it changes a bit of a state.

    References
    ----------
    Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks",
    ICML.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> w_hh = np.array([[0.0, 2.0], [-0.5, 0.0]])
    >>> y, _, tape = bptt.rnn_forward(np.ones((3, 1, 1)), np.ones((2, 1)), w_hh)
    >>> J = bptt.step_jacobians(tape)
    >>> np.allclose(J[2, 0], np.diag(1 - y[2, 0] ** 2) @ w_hh)
    True
    """
    steps = Steps("step_jacobians", tape)
    S = sum(steps.sizes)
    out = np.zeros((steps.T, steps.B, S, S), steps.dtype)
    t, b = np.nonzero(steps.active)
    most = steps.rows(S)
    for at in range(0, len(t), most):
        part = t[at : at + most], b[at : at + most]
        out[part] = steps.pull(*part, np.broadcast_to(np.eye(S), (len(part[0]), S, S)))
    return out


def jacobian(tape: _core.Tape, t: int, k: int, *, of: str = "h") -> Array:
    """How the output of step t depends on that of step k: dh_t / dh_k.

    The product J_t J_{t-1} ... J_{k+1} of `step_jacobians`, or its block of h.

    Parameters
    ----------
    tape : Tape
        As in `step_jacobians`.
    t, k : int
        Indices of time, negative ones from the end. k is processed before t or is t: k <= t, or
        k >= t with ``reverse``.
    of : {"h", "state"}
        "h": of h with respect to h, as the total gradient that reaches h_k in backpropagation; the
        other states at k are held, the path through them between k and t is not. "state": of the
        whole state.

    Returns
    -------
    ndarray, shape (B, H, H), or (B, S, S) of the state
        The identity for k = t, zero where t or k is beyond a sequence's length.

    Raises
    ------
    TypeError, ValueError
        As in `step_jacobians`; or if t or k is no index, or k is processed after t.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> lstm = bptt.LSTM(3, 5, seed=0)
    >>> y, state, tape = lstm.forward(np.ones((8, 2, 3)))
    >>> bptt.jacobian(tape.cells[0], -1, 2).shape
    (2, 5, 5)
    """
    steps = Steps("jacobian", tape)
    rows, width = _rows(steps, of)
    end, begin = _ends(steps, t, k)
    d = np.repeat(rows[None], steps.B, axis=0).astype(steps.dtype)
    for step, b in steps.back(np.full(steps.B, end)):
        if step == begin:
            break
        d[b] = steps.pull(np.full(len(b), step), b, d[b])
    d[~(steps.active[end] & steps.active[begin])] = 0
    return np.ascontiguousarray(d[:, :, :width])


def jacobian_norms(
    tape: _core.Tape, t: int | None = None, *, of: str = "h", log: bool = False
) -> Array:
    """How much of a gradient at step t can reach each step k: the spectral norm of dh_t / dh_k.

    ||dh_t/dh_k||_2, the largest singular value, is the factor by which the longest of all
    gradients at h_t arrives at h_k.

    Parameters
    ----------
    tape : Tape
        As in `step_jacobians`.
    t : int, optional
        Index of time, negative ones from the end; the last processed step of every sequence if
        omitted.
    of : {"h", "state"}
        As in `jacobian`.
    log : bool
        Natural logarithms, which neither vanish nor overflow; -inf for 0.

    Returns
    -------
    ndarray, shape (T, B), float64
        By k. 1 for k = t; 0 where k is processed after t, where t or k is beyond a sequence's
        length, and across `resets`. NaN once a Jacobian is not finite.

    Raises
    ------
    TypeError, ValueError
        As in `jacobian`.

    See Also
    --------
    decay_bound : what it can be at most, of an RNN.
    memory_horizon : how many steps back it takes to lose 99 %.

    Notes
    -----
    The product is brought to size 1 at every step and its size kept as a logarithm, so norms of
    1e-400 or 1e400 do not disturb those that follow. The norm is exact for any H: the square root
    of the largest eigenvalue of the product with its transpose.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> w_hh = 0.9 * np.eye(2)
    >>> _, _, tape = bptt.rnn_forward(np.ones((51, 1, 1)), np.ones((2, 1)), w_hh,
    ...                               activation="identity")
    >>> norms = bptt.jacobian_norms(tape)
    >>> print(f"{norms[-1, 0]:.0f}, {norms[40, 0]:.6f} ... {norms[0, 0]:.6f}")
    1, 0.348678 ... 0.005154
    """
    steps = Steps("jacobian_norms", tape)
    rows, width = _rows(steps, of)
    start = steps.last() if t is None else np.full(steps.B, steps.time("t", t))
    norms = np.full((steps.T, steps.B), -np.inf)
    d = np.repeat(rows[None], steps.B, axis=0)
    size = np.zeros(steps.B)
    for k, b in steps.back(start):
        norms[k, b] = _log_norms(d[b, :, :width]) + size[b]
        pulled = steps.pull(np.full(len(b), k), b, d[b]).astype(float)
        largest = np.abs(pulled).max(axis=(1, 2))
        d[b] = pulled / np.where(largest == 0, 1, largest)[:, None, None]
        size[b] += logs(largest)
    return norms if as_flag("jacobian_norms", "log", log) else _exp(norms)


def singular_values(tape: _core.Tape, t: int, k: int, *, of: str = "h", log: bool = False) -> Array:
    """All singular values of dh_t / dh_k, the small ones as exact as the large ones.

    Parameters
    ----------
    tape, t, k, of
        As in `jacobian`.
    log : bool
        Natural logarithms, which neither vanish nor overflow; -inf for 0.

    Returns
    -------
    ndarray, shape (B, H), or (B, S) of the state, float64
        The largest first. 0 where t or k is beyond a sequence's length, NaN where a Jacobian is not
        finite.

    Raises
    ------
    TypeError, ValueError
        As in `jacobian`.

    Notes
    -----
    In a product of many matrices, all columns soon lie along the leading direction, and what is
    left of the others is rounding error. So the product is kept as an orthogonal matrix times
    triangular ones, by a QR decomposition at every step (Benettin et al., 1980), and these with
    the sizes of their rows as logarithms. One-sided Jacobi rotations then give the singular values
    with an error relative to each (Demmel & Veselic, 1992).

    References
    ----------
    Benettin, Galgani, Giorgilli & Strelcyn (1980), "Lyapunov characteristic exponents for smooth
    dynamical systems and for Hamiltonian systems", Meccanica 15.
    Demmel & Veselic (1992), "Jacobi's method is more accurate than QR", SIAM J. Matrix Anal. Appl.
    13(4).

    Examples
    --------
    >>> import numpy as np, bptt
    >>> w_hh = np.diag([0.9, 0.1])
    >>> _, _, tape = bptt.rnn_forward(np.zeros((501, 1, 1)), np.ones((2, 1)), w_hh)
    >>> bptt.singular_values(tape, 500, 0, log=True) / np.log(10)      # 0.9^500 and 0.1^500
    array([[ -22.87874528, -500.        ]])
    """
    steps = Steps("singular_values", tape)
    rows, width = _rows(steps, of)
    end, begin = _ends(steps, t, k)
    alive = np.flatnonzero(steps.active[end] & steps.active[begin])
    # The transposed product, J_{k+1}^T ... J_t^T rows^T = Q R, acts on columns.
    Q = np.repeat(rows.T[None], steps.B, axis=0)
    product = Graded(len(rows), steps.B)
    with np.errstate(invalid="ignore", over="ignore"):
        for step, b in steps.back(np.full(steps.B, end)):
            if step == begin:
                break
            pulled = steps.pull(np.full(len(b), step), b, Q[b].swapaxes(1, 2)).astype(float)
            Q[b], R = np.linalg.qr(pulled.swapaxes(1, 2))
            product.multiply(R, b)
        product.multiply(np.linalg.qr(Q[alive, :width])[1], alive)
    result = np.full((steps.B, len(rows)), -np.inf)
    result[alive] = product.log_singular_values()[alive]
    return result if as_flag("singular_values", "log", log) else _exp(result)


def _exp(a: Array) -> Array:
    with np.errstate(over="ignore"):  # to inf, which it is in float64
        return np.exp(a)


def _rows(steps: Steps, of: Any) -> tuple[Array, int]:
    """The rows of the identity that belong to what is differentiated, and their number."""
    as_choice(steps.caller, "of", of, ("h", "state"))
    width = steps.sizes[0] if of == "h" else sum(steps.sizes)
    return np.eye(sum(steps.sizes))[:width], width


def _ends(steps: Steps, t: Any, k: Any) -> tuple[int, int]:
    end, begin = steps.time("t", t), steps.time("k", k)
    if begin < end if steps.reverse else begin > end:
        order = "k >= t: the tape is of a reverse call" if steps.reverse else "k <= t"
        raise ValueError(f"{steps.caller}: k is {begin} and t is {end}, expected {order}")
    return end, begin


def _log_norms(a: Array) -> Array:
    """log ||a||_2 of each matrix: its square is the largest eigenvalue of a a^T."""
    result = np.full(len(a), np.nan)
    finite = np.isfinite(a).all(axis=(1, 2))
    largest = np.abs(a[finite]).max(axis=(1, 2))
    unit = a[finite] / np.where(largest == 0, 1, largest)[:, None, None]
    squares = np.linalg.eigvalsh(unit @ unit.swapaxes(1, 2))[:, -1]
    result[finite] = logs(largest) + logs(np.maximum(squares, 0)) / 2
    return result
