# SPDX-License-Identifier: MIT
"""The regulariser of Pascanu, Mikolov and Bengio, and the result of all regularisers."""

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
    """A penalty, and its gradients.

    Attributes
    ----------
    value : float
        The penalty.
    params : dict of str to ndarray
        Gradient with respect to each parameter. Add it, times a factor, to the gradient of the
        loss.
    x, state : ndarray
        Gradients with respect to the layer's input and initial state.
    dy, dstate : ndarray or None
        Gradients with respect to the arguments `dy` and `dstate`; None if there are none.
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

    With the total gradient d_t = dL/dh_t, and p_{t-1} = d_t dh_t/dh_{t-1}, its part that step t
    passes back::

        Omega = mean of (|p_{t-1}|^2 / |d_t|^2 - 1)^2

    over steps and sequences. It is 0 if every step preserves the norm of the gradient of L. Steps
    with |d_t| < 1e-10, where the gradient has vanished, do not count.

    Parameters
    ----------
    tape : RecurrentTape
        Third result of the `forward` of an `RNN` with one layer and one direction. Its parameters
        must not have changed since.
    dy, dstate : array_like, optional
        As in the layer's `backward`: the gradients of L with respect to the output (T, B, H), or
        (B, T, H) with `batch_first`, and to the final state (1, B, H); zeros if omitted.
    immediate : bool, optional
        True: the gradient of the paper, in which d_t and h_t are constants, so that Omega depends
        only on the w_hh in dh_t/dh_{t-1}; all other gradients are 0. False: the exact gradient.

    Returns
    -------
    Penalty
        The exact gradient treats `dy` and `dstate` as constants. If they depend on the parameters,
        as for every loss that is not linear in y, continue the chain rule from ``.dy``, the
        gradient with respect to `dy`.

    Raises
    ------
    ValueError
        If the layer is no plain RNN, a shape disagrees with its results, or a parameter or `x` has
        changed since.
    TypeError
        If `tape` is not the tape of a layer.

    Notes
    -----
    The squared norms, the mean and the factor of 4 follow the authors' program. Equation (9) of the
    paper has a sum over t, and norms that are not squared.

    With u_t = dOmega/dd_t + dOmega/dp_t, the exact gradient is the derivative of dL/dw along a
    shift of all h_t by u_t: one pass forward in time for the tangent of the shift, and one ordinary
    backward pass for the change of the activation's slopes.

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
    # Only the exact gradient sums tangents over the steps, which needs float64.
    dtype = layer.dtype if immediate else np.float64
    w = layer.parameters["weight_hh_l0"].astype(dtype)
    every = ("x", "state", *layer.parameters)  # the frozen ones too
    grads = layer.backward(tape, dy, dstate, trace="full", grads=every)
    full = grads.trace.cells[0].full if grads.trace else None
    assert full is not None
    d, delta = (a.astype(dtype, copy=False) for a in (full.dh, full.gates["h"]))
    passed = delta @ w

    norm, kept = (np.einsum("tbi,tbi->tb", a, a, dtype=np.float64) for a in (d, passed))
    counts = norm >= LEAST
    terms = max(int(counts.sum()), 1)
    ratio = np.divide(kept, norm, out=np.ones_like(norm), where=counts)
    value = float(((ratio - 1) ** 2).sum() / terms)

    # dOmega/dp_{t-1}, and the part of dOmega/dd_t that does not go through p.
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
        grads = layer.backward(tape, _swapped(layer, bends), grads=every)
    grads.params["weight_hh_l0"] += np.tensordot(delta, to_passed, ((0, 1), (0, 1)))
    to_final = np.zeros((1, *d.shape[1:]), layer.dtype)
    lengths = np.full(d.shape[1], len(d)) if tape.lengths is None else tape.lengths
    rows = np.flatnonzero(lengths)
    to_final[0, rows] = to_d[lengths[rows] - 1, rows]
    to_dy = _swapped(layer, to_d).astype(layer.dtype, copy=False)
    learn = {name: g for name, g in grads.params.items() if name not in layer.frozen}
    return Penalty(value, learn, grads.x, grads.state, to_dy, to_final)


def _add_tangents(
    layer: RNN, tape: RecurrentTape, w: Array, d: Array, to_passed: Array, to_d: Array
) -> Array:
    """Add the gradients through d_t to both, forward in time; return the gradient of h_t."""
    slope, bend = SLOPES[str(layer.activation)](tape.cells[0].h.astype(np.float64))
    to_delta, tangent = np.empty_like(d), np.zeros(d.shape[1:])
    for t in range(len(d)):
        to_passed[t] += tangent
        np.matmul(to_passed[t], w.T, out=to_delta[t])
        to_d[t] += slope[t] * to_delta[t]
        tangent = to_d[t]
    return bend * d * to_delta


def _swapped(layer: RNN, a: Array) -> Array:
    """The array in the layer's order of axes, from (T, B, H); or back."""
    return a.swapaxes(0, 1) if layer.batch_first else a


def _plain_rnn(caller: str, tape: RecurrentTape) -> RNN:
    if not isinstance(tape, RecurrentTape):
        raise TypeError(f"{caller}: tape is {shown(tape)}, expected that of a layer's forward")
    layer = tape.layer
    plain = len(tape.cells) == 1 and set(tape.cells[0].options or ()) <= {"activation"}
    if not isinstance(layer, RNN) or not plain or layer.residual or layer.reverse:
        raise ValueError(
            f"{caller}: tape is that of {str(layer).splitlines()[0]}, expected an RNN of one layer "
            "and direction without resets and options but activation and lengths"
        )
    if layer.activation not in SLOPES:
        raise ValueError(
            f"{caller}: tape is that of activation {layer.activation!r}, expected one of "
            f"{(*SLOPES,)}"
        )
    return layer


# phi' and phi''/phi' from h. A gradient g of phi' is the gradient phi''/phi' g of h.
SLOPES: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "tanh": lambda h: (1 - h * h, -2 * h),
    "sigmoid": lambda h: (h * (1 - h), 1 - 2 * h),
    "relu": lambda h: (np.where(h > 0, 1.0, 0.0), np.zeros_like(h)),
    "leaky_relu": lambda h: (np.where(h > 0, 1.0, 0.01), np.zeros_like(h)),
    "identity": lambda h: (np.ones_like(h), np.zeros_like(h)),
}
