# SPDX-License-Identifier: MIT
"""The regulariser of Pascanu, Mikolov and Bengio, and what all regularisers return."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._types import Array, State
from .._validate import as_flag
from .._words import shown
from ..jacobians.steps import Steps
from ..layers.cells import RNN
from ..layers.sequences import without_padding
from ..layers.tape import RecurrentTape

__all__ = ["Penalty", "omega"]

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
        If the layer is another than a plain RNN, a shape disagrees with its results, or a parameter
        or `x` has changed since.
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
    layer, immediate = _plain_rnn("omega", tape), as_flag("omega", "immediate", immediate)
    Steps("omega", tape.cells[0]).check()
    # The tangents of the exact gradient add up over the steps; else nothing does.
    dtype = layer.dtype if immediate else np.float64
    w = layer.parameters["weight_hh_l0"].astype(dtype)
    grads = layer.backward(tape, dy, dstate, trace="full")
    full = grads.trace.cells[0].full if grads.trace else None
    assert full is not None
    d, delta = (a.astype(dtype, copy=False) for a in (full.dh, full.gates["h"]))
    passed = delta @ w

    norm, kept = (np.einsum("tbi,tbi->tb", a, a, dtype=np.float64) for a in (d, passed))
    counts = norm >= LEAST
    terms = max(int(counts.sum()), 1)
    ratio = np.divide(kept, norm, out=np.ones_like(norm), where=counts)
    value = float(((ratio - 1) ** 2).sum() / terms)

    # dOmega/dp_{t-1}, and the part of dOmega/dd_t that is not by way of p.
    factor = np.divide(4 * (ratio - 1) / terms, norm, out=np.zeros_like(norm), where=counts)
    to_passed = factor[:, :, None].astype(dtype) * passed
    if immediate:
        to_d = np.zeros_like(d, layer.dtype)
        for gradient in (*grads.params.values(), grads.x, grads.state):
            gradient.fill(0)
    else:
        to_d = -(factor * ratio)[:, :, None] * d
        bends = _add_tangents(layer, tape, w, d, to_passed, to_d)
        to_d = without_padding(to_d, tape.lengths)
        grads = layer.backward(tape, _swapped(layer, bends))
    grads.params["weight_hh_l0"] += np.tensordot(delta, to_passed, ((0, 1), (0, 1)))
    to_final = np.zeros((1, *d.shape[1:]), layer.dtype)
    lengths = np.full(d.shape[1], len(d)) if tape.lengths is None else tape.lengths
    rows = np.flatnonzero(lengths)
    to_final[0, rows] = to_d[lengths[rows] - 1, rows]
    to_dy = _swapped(layer, to_d).astype(layer.dtype, copy=False)
    return Penalty(value, *grads[:3], to_dy, to_final)


def _add_tangents(
    layer: RNN, tape: RecurrentTape, w: Array, d: Array, to_passed: Array, to_d: Array
) -> Array:
    """What comes by way of d_t, added to both in a pass forward in time; the gradient by h_t."""
    slope, bend = SLOPES[layer.activation](tape.cells[0].h.astype(np.float64))
    to_delta, tangent = np.empty_like(d), np.zeros(d.shape[1:])
    for t in range(len(d)):
        to_passed[t] += tangent
        np.matmul(to_passed[t], w.T, out=to_delta[t])
        to_d[t] += slope[t] * to_delta[t]
        tangent = to_d[t]
    return bend * d * to_delta


def _swapped(layer: RNN, a: Array) -> Array:
    """Between the layer's order of axes and (T, B, H)."""
    return a.swapaxes(0, 1) if layer.batch_first else a


def _plain_rnn(caller: str, tape: RecurrentTape) -> RNN:
    if not isinstance(tape, RecurrentTape):
        raise TypeError(f"{caller}: tape is {shown(tape)}, expected that of a layer's forward")
    layer = tape.layer
    # Options of the function are leak, preact_clip, resets, dilation, skip, zoneout and h_mask.
    plain = len(tape.cells) == 1 and tape.cells[0].options is None
    if not isinstance(layer, RNN) or not plain or layer.residual:
        raise ValueError(
            f"{caller}: tape is that of {str(layer).splitlines()[0]}, expected an RNN of one layer "
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
