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
    """Jacobian of every step: of the whole state, with respect to the state before the step.

    J_t = d s_t / d s_{t-1}, where s is h or, for cells with more states, their concatenation:
    (h, c) for LSTM, (h, c, n, m) for sLSTM. For an RNN, J_t = diag(phi'(a_t)) w_hh.

    Parameters
    ----------
    tape : Tape
        The tape of a ``*_forward`` function, or one of ``tape.cells`` of a layer's tape; not of
        `lstm1997_forward`, and without dilation and skip. With a checkpoint, the tape must be of an
        RNN, GRU or MGU.

    Returns
    -------
    ndarray, shape (T, B, S, S)
        J_t by t and sequence, in the dtype of the tape. S is H times the number of states (P + H
        for a projected LSTM). The first step has the Jacobian with respect to the initial state;
        with ``reverse``, the step before t is t + 1. Zero beyond the lengths, and where `resets`
        starts the sequence again.

    Raises
    ------
    TypeError
        If `tape` is no such tape.
    ValueError
        If the tape is of an excluded call, or an argument of the call, such as a weight, has
        changed since. The tape refers to its arguments: compute Jacobians before the update.

    Notes
    -----
    All steps of all sequences run again as one batch of sequences of length one, S copies of each.
    Its backward pass has the identity as the gradient of the state. A changed argument is noticed
    if it changes a bit of a state.

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
    """Derivative of the output of step t with respect to the output of step k: dh_t / dh_k.

    The product J_t J_{t-1} ... J_{k+1} of `step_jacobians`, or its block of h.

    Parameters
    ----------
    tape : Tape
        As in `step_jacobians`.
    t, k : int
        Indices of time; negative ones count from the end. k <= t, or k >= t with ``reverse``.
    of : {"h", "state"}
        "h": the derivative of h with respect to h. The other states at step k are held constant;
        between k and t they change with h. "state": the derivative of the whole state.

    Returns
    -------
    ndarray, shape (B, H, H), or (B, S, S) for the state
        The identity for k = t; zero if t or k is beyond a sequence's length.

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
    """The spectral norm of dh_t / dh_k for every step k: how much of a gradient can reach it.

    ||dh_t/dh_k||_2, the largest singular value, is the largest factor by which the norm of a
    gradient can change on its way from h_t to h_k.

    Parameters
    ----------
    tape : Tape
        As in `step_jacobians`.
    t : int, optional
        Index of time; a negative one counts from the end. If omitted, the last processed step of
        every sequence.
    of : {"h", "state"}
        As in `jacobian`.
    log : bool
        True: return natural logarithms, which neither underflow nor overflow; -inf for 0.

    Returns
    -------
    ndarray, shape (T, B), float64
        The norm for each k: 1 for k = t; 0 if k is processed after t, if t or k is beyond a
        sequence's length, and across `resets`. NaN from the first Jacobian on that is not finite.

    Raises
    ------
    TypeError, ValueError
        As in `jacobian`.

    See Also
    --------
    decay_bound : an upper bound for an RNN.
    memory_horizon : the number of steps back after which 99 % of the norm is lost.

    Notes
    -----
    The product is scaled to size 1 at every step and its scale kept as a logarithm, so that the
    norms may pass 1e-400 or 1e400. The norm is exact for any H: the square root of the largest
    eigenvalue of the product with its transpose.

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
    """All singular values of dh_t / dh_k, small ones as exact as large ones.

    Parameters
    ----------
    tape, t, k, of
        As in `jacobian`.
    log : bool
        True: return natural logarithms, which neither underflow nor overflow; -inf for 0.

    Returns
    -------
    ndarray, shape (B, H), or (B, S) for the state, float64
        The singular values, largest first. 0 if t or k is beyond a sequence's length, NaN if a
        Jacobian is not finite.

    Raises
    ------
    TypeError, ValueError
        As in `jacobian`.

    Notes
    -----
    In a product of many matrices, all columns soon align with the leading direction, and the other
    directions drown in rounding error. Therefore a QR decomposition at every step keeps the product
    as an orthogonal matrix times triangular ones (Benettin et al., 1980), whose row sizes are kept
    as logarithms. One-sided Jacobi rotations then compute each singular value with a small relative
    error (Demmel & Veselic, 1992).

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
    with np.errstate(over="ignore"):  # becomes inf
        return np.exp(a)


def _rows(steps: Steps, of: Any) -> tuple[Array, int]:
    """The rows of the identity for the differentiated states, and their number."""
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
