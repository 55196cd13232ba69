# SPDX-License-Identifier: MIT
"""Terms to add to a loss that keep gradients alive, with their own gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ._convert import as_count
from ._sequences import without_padding
from ._tape import RecurrentTape
from .dense import Seed
from .grads import Array, State
from .layers import RNN

__all__ = ["Penalty", "flossing", "omega"]

LEAST = 1e-20  # squared norm


class Penalty(NamedTuple):
    """A regulariser's value, and its gradient with respect to all that it depends on.

    Attributes
    ----------
    value : float
    params : dict of str to ndarray
        By parameter name: what to add, times a factor, to the loss's gradient.
    x, state : ndarray
        With respect to the layer's input and initial state.
    dy, dstate : ndarray or None
        With respect to the `dy` and `dstate` that were given; None if there are none.
    """

    value: float
    params: dict[str, Array]
    x: Array
    state: Array
    dy: Array | None = None
    dstate: Array | None = None


def omega(
    tape: RecurrentTape,
    dy: ArrayLike | None = None,
    dstate: State = None,
    *,
    immediate: bool = False,
) -> Penalty:
    """Penalty on a gradient that shrinks or grows on its way back through an RNN.

    With d_t = dL/dh_t, all that reaches h_t, and p_{t-1} = d_t dh_t/dh_{t-1}, what step t passes
    back:

        Omega = mean of (|p_{t-1}|^2 / |d_t|^2 - 1)^2

    over steps and sequences. It is 0 where every step keeps the length of the gradient of L. Steps
    with |d_t| < 1e-10, such as those before a gradient that has vanished, do not count.

    Parameters
    ----------
    tape : RecurrentTape
        Third result of an `RNN`'s `forward`: one layer, one direction, its parameters as they were
        then.
    dy, dstate : array_like, optional
        Those of the layer's `backward`: the gradient of L with respect to the output (T, B, H), or
        (B, T, H) with `batch_first`, and to the final state (1, B, H); zeros if omitted.
    immediate : bool, optional
        The gradient of the paper: d_t and h_t are taken as constants, so that Omega depends on
        nothing but the w_hh in dh_t/dh_{t-1}; all gradients but that are 0. False: the exact one.

    Returns
    -------
    Penalty
        The exact gradient holds `dy` and `dstate` constant. Where they depend on the parameters, as
        with every loss that is not linear in y, its part by way of them is that of a loss with
        gradient ``.dy`` with respect to `dy`.

    Raises
    ------
    ValueError
        If the layer is another than a plain RNN, or a shape disagrees with its results.
    TypeError
        If `tape` is not that of a layer.

    Notes
    -----
    Squared norms and the mean are those of the authors' program, to which their factor of 4
    belongs; the paper writes a sum over t, of norms that are not squared in its equation (9).

    Exact gradient: with u_t = dOmega/dd_t + dOmega/dp_t it is the derivative of dL/d(w) along a
    shift of all h_t by u_t: one pass forward in time for the tangent of that shift, and one
    ordinary backward pass for what the slopes of the activation change.

    References
    ----------
    Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks",
    section 3.3, arXiv:1211.5063; github.com/pascanur/trainingRNNs.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> rnn = bptt.RNN(2, 8, seed=0)
    >>> x = np.random.default_rng(0).standard_normal((20, 4, 2))
    >>> y, h, tape = rnn.forward(x)
    >>> dh = np.ones_like(h)
    >>> grads = rnn.backward(tape, dstate=dh).params
    >>> penalty = bptt.regularise.omega(tape, dstate=dh)
    >>> round(penalty.value, 3)
    0.615
    >>> for name, g in grads.items():
    ...     g += 4 * penalty.params[name]
    """
    layer = _plain_rnn("omega", tape)
    w = layer.parameters["weight_hh_l0"].astype(np.float64)
    trace = layer.backward(tape, dy, dstate, trace="full").trace
    full = trace.cells[0].full if trace else None
    assert full is not None
    d, delta = full.dh.astype(np.float64), full.gates["h"].astype(np.float64)
    passed = delta @ w

    norm, kept = (np.einsum("tbi,tbi->tb", a, a) for a in (d, passed))
    counts = norm >= LEAST
    terms = max(int(counts.sum()), 1)
    ratio = np.divide(kept, norm, out=np.ones_like(norm), where=counts)
    value = float(((ratio - 1) ** 2).sum() / terms)

    # dOmega/dp_{t-1}, and the part of dOmega/dd_t that is not by way of p.
    factor = np.divide(4 * (ratio - 1) / terms, norm, out=np.zeros_like(norm), where=counts)
    to_passed = factor[:, :, None] * passed
    to_d, to_argument = np.zeros_like(d), np.zeros_like(d)
    if not immediate:
        slope, bend = SLOPES[layer.activation](tape.cells[0].h.astype(np.float64))
        to_d -= (factor * ratio)[:, :, None] * d
        to_delta, tangent = np.empty_like(d), np.zeros(d.shape[1:])
        for t in range(len(d)):
            to_passed[t] += tangent
            np.matmul(to_passed[t], w.T, out=to_delta[t])
            to_d[t] += slope[t] * to_delta[t]
            tangent = to_d[t]
        to_argument = bend * d * to_delta
        to_d = without_padding(to_d, tape.lengths)

    swap = (1, 0, 2) if layer.batch_first else (0, 1, 2)
    grads = layer.backward(tape, to_argument.transpose(swap))
    grads.params["weight_hh_l0"] += np.tensordot(delta, to_passed, ((0, 1), (0, 1)))
    to_final = np.zeros((1, *d.shape[1:]), layer.dtype)
    lengths = np.full(d.shape[1], len(d)) if tape.lengths is None else tape.lengths
    rows = np.flatnonzero(lengths)
    to_final[0, rows] = to_d[lengths[rows] - 1, rows]
    to_dy = to_d.transpose(swap).astype(layer.dtype)
    return Penalty(value, *grads[:3], to_dy, to_final)


def flossing(tape: RecurrentTape, n: int, *, rng: Seed = 0) -> Penalty:
    """Penalty on Lyapunov exponents away from 0: sum of the squares of the first n, exact gradient.

    n orthonormal directions Q go through the Jacobians J_t = dh_t/dh_{t-1}, made orthonormal again
    at each step: J_t Q_{t-1} = Q_t R_t. With lambda_i the mean of log R_t,ii over the T steps of a
    sequence, in nats a step:

        flossing = mean over sequences of sum_i lambda_i^2

    A direction with lambda > 0 explodes, one with lambda < 0 vanishes, at the rate exp(lambda) a
    step. The paper lowers this before the training, and again at times during it.

    Parameters
    ----------
    tape : RecurrentTape
        As in `omega`.
    n : int
        How many exponents, 1..H; the time grows with it. The first are the largest.
    rng : int or numpy.random.Generator, optional
        Draws Q_0. From step to step it turns towards the directions that grow most.

    Returns
    -------
    Penalty
        Without ``dy`` and ``dstate``: it does not depend on the loss. Sequences of length 0 do not
        count.

    Raises
    ------
    ValueError
        If the layer is another than a plain RNN, or `n` is out of range.
    TypeError
        If `tape` is not that of a layer, or `n` is no whole number.
    FloatingPointError
        If a Jacobian has no n directions left, as with ReLU where most units are off: their
        exponent is -inf.

    References
    ----------
    Engelken (2023), "Gradient flossing: improving gradient descent through dynamic control of
    Jacobians", NeurIPS 36, arXiv:2312.17306. Derivative of QR: Walter & Lehmann (2010),
    arXiv:1001.1654.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> rnn = bptt.RNN(2, 16, seed=0)
    >>> optimiser = bptt.Adam(rnn.parameters, lr=3e-3)
    >>> x = np.random.default_rng(0).standard_normal((50, 8, 2))
    >>> values = []
    >>> for step in range(100):
    ...     _, _, tape = rnn.forward(x)
    ...     penalty = bptt.regularise.flossing(tape, 4)
    ...     optimiser.step(penalty.params)
    ...     values.append(penalty.value)
    >>> values[-1] < 0.1 * values[0]
    True
    """
    layer = _plain_rnn("flossing", tape)
    n = as_count("flossing", "n", n, 1, layer.hidden_size)
    T, B = tape.shape
    w = layer.parameters["weight_hh_l0"].astype(np.float64)
    slope, bend = SLOPES[layer.activation](tape.cells[0].h.astype(np.float64))
    lengths = np.full(B, T) if tape.lengths is None else np.asarray(tape.lengths)
    inside = np.arange(T)[:, None] < lengths

    start = np.linalg.qr(np.random.default_rng(rng).standard_normal((layer.hidden_size, n)))[0]
    Q, R = _through_time(start, slope, w, inside)
    stretch = np.diagonal(R, axis1=2, axis2=3)
    if not np.all(stretch > 0):
        t = int(np.argmin(np.all(stretch > 0, axis=(1, 2))))
        raise FloatingPointError(
            f"flossing: dh_t/dh_(t-1) at step {t} keeps less than n = {n} directions, expected "
            "fewer exponents"
        )
    steps = np.maximum(lengths, 1)
    exponents = np.log(stretch).sum(axis=0) / steps[:, None]
    sequences = max(int(np.sum(lengths > 0)), 1)
    value = float(np.sum(exponents**2) / sequences)

    # Backward through the QR decompositions, then through the slopes as in `omega`.
    rate = 2 * exponents / steps[:, None] / sequences
    to_q = np.zeros_like(Q[0])
    to_w, to_argument = np.zeros_like(w), np.zeros_like(slope)
    for t in reversed(range(T)):
        to_through = _qr_backward(Q[t + 1], R[t], to_q, rate / stretch[t])
        on = inside[t, :, None, None]
        to_product = np.where(on, slope[t, :, :, None] * to_through, 0)
        to_slope = np.where(on, to_through * (w @ Q[t]), 0).sum(axis=2)
        to_argument[t] = bend[t] * to_slope
        to_w += np.tensordot(to_product, Q[t], ((0, 2), (0, 2)))
        to_q = np.where(on, w.T @ to_product, to_q)
    swap = (1, 0, 2) if layer.batch_first else (0, 1, 2)
    grads = layer.backward(tape, to_argument.transpose(swap))
    grads.params["weight_hh_l0"] += to_w.astype(layer.dtype)
    return Penalty(value, *grads[:3])


def _through_time(start: Array, slope: Array, w: Array, inside: Array) -> tuple[Array, Array]:
    """Q_0, Q_1, ... and R_1, R_2, ... of directions that go through all Jacobians."""
    T, B = inside.shape
    n = start.shape[1]
    Q, R = np.empty((T + 1, B, *start.shape)), np.empty((T, B, n, n))
    Q[0] = start
    for t in range(T):
        through = slope[t, :, :, None] * (w @ Q[t])
        Q[t + 1], R[t] = _positive_qr(np.where(inside[t, :, None, None], through, Q[t]))
    return Q, R


def _positive_qr(a: Array) -> tuple[Array, Array]:
    """Of stacks of matrices, with a positive diagonal of R."""
    q, r = np.linalg.qr(a)
    sign = np.copysign(1, np.diagonal(r, axis1=1, axis2=2))
    return q * sign[:, None, :], r * sign[:, :, None]


def _qr_backward(q: Array, r: Array, to_q: Array, to_diagonal: Array) -> Array:
    """Gradient of a = q r from that of q and of the diagonal of r."""
    m = r * 0
    k = np.arange(r.shape[-1])
    m[:, k, k] = np.diagonal(r, axis1=1, axis2=2) * to_diagonal
    m -= to_q.swapaxes(1, 2) @ q
    lower = np.tril(m)
    symmetric = lower + np.tril(m, -1).swapaxes(1, 2)
    inner = to_q + q @ symmetric
    return np.asarray(np.linalg.solve(r, inner.swapaxes(1, 2)).swapaxes(1, 2))


def _plain_rnn(where: str, tape: RecurrentTape) -> RNN:
    if not isinstance(tape, RecurrentTape):
        raise TypeError(f"{where}: tape is {tape!r}, expected that of a layer's forward")
    layer = tape.layer
    # Options of the function are leak, preact_clip, resets, dilation, skip, zoneout and h_mask.
    plain = len(tape.cells) == 1 and tape.cells[0].options is None
    if not isinstance(layer, RNN) or not plain or layer.residual:
        raise ValueError(
            f"{where}: tape is that of {str(layer).splitlines()[0]}, expected an RNN of one layer "
            "and direction without resets and options but activation and lengths"
        )
    return layer


# phi' and phi''/phi' from h: a gradient g of phi' is one of phi''/phi' g with respect to h.
SLOPES: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "tanh": lambda h: (1 - h * h, -2 * h),
    "sigmoid": lambda h: (h * (1 - h), 1 - 2 * h),
    "relu": lambda h: (np.where(h > 0, 1.0, 0.0), np.zeros_like(h)),
    "leaky_relu": lambda h: (np.where(h > 0, 1.0, 0.01), np.zeros_like(h)),
    "identity": lambda h: (np.ones_like(h), np.zeros_like(h)),
}
