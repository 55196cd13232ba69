# SPDX-License-Identifier: MIT
"""The gradients of the weights, split by the lag between a loss and a step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _core
from .._binding.call import backward
from .._cells import CELLS
from .._types import Array, State
from .._validate import as_count, as_real, as_states, prepare
from ..trace.shares import Share
from .steps import Steps

NAMES = ("w_ih", "w_hh", "b_ih")


class Lags(NamedTuple):
    """The contribution of each lag to the gradients.

    Attributes
    ----------
    dh : ndarray, shape (L,)
        Norm of the gradients of h that come from losses k steps later: the Euclidean norm of
        dL_{t+k}/dh_t over all t, sequences and units.
    w_ih, w_hh, b_ih : Share
        For the term dW_k of each lag k, `norm` ||dW_k|| and `share` <dW_k, dW> / ||dW||^2, (L,)
        each. Over all lags the shares sum to 1. `b_ih` is None if the call had no bias.
    """

    dh: Array
    w_ih: Share
    w_hh: Share
    b_ih: Share | None


def by_lag(
    tape: _core.Tape, dy: Any = None, dstate: State = None, *, max_lag: int | None = None
) -> Lags:
    """Split the gradients of the weights by the lag from the loss to the step.

    With a loss at many steps, L = sum_s L_s(h_s), the weights at step t affect the losses of all
    later steps. Then dL/dW = sum_k dW_k, where dW_k is the sum over t of dL_{t+k}/dW through the
    weights at step t, k steps before the loss. (`Trace.shares` splits by step instead. For a loss
    on the last step only, the two agree.)

    Parameters
    ----------
    tape : Tape
        As in `step_jacobians`.
    dy, dstate
        As in the ``*_backward`` function; `dstate` counts as a loss on the last step.
    max_lag : int, optional
        The largest lag k; T - 1 if omitted.

    Returns
    -------
    Lags
        The contributions of the lags 0..max_lag.

    Raises
    ------
    TypeError, ValueError
        As in `step_jacobians`, and for an sLSTM with heads.

    Notes
    -----
    The gradients of all steps go back together, one step at a time: each lag is one call of the
    core on T * B sequences of one step. All lags take the time of T / 2 backward passes.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> x, w_ih, w_hh = np.ones((4, 1, 1)), np.ones((1, 1)), np.full((1, 1), 0.5)
    >>> y, h, tape = bptt.rnn_forward(x, w_ih, w_hh, activation="identity")
    >>> bptt.by_lag(tape, np.ones_like(y)).w_ih.norm     # 4, then 3 * 0.5, 2 * 0.25, 0.125
    array([4.   , 1.5  , 0.5  , 0.125])
    """
    steps = Steps("by_lag", tape)
    if (tape.options or {}).get("heads", 1) != 1:
        raise ValueError("by_lag: tape has heads, expected an sLSTM without")
    most = steps.T - 1 if max_lag is None else as_count("by_lag", "max_lag", max_lag, 0)
    d = None if dy is None else prepare(as_real("by_lag", "dy", dy), steps.dtype)
    final = as_states("by_lag", "dstate", dstate, CELLS[tape.cell].states, steps.dtype)
    whole = backward(tape.cell, tape, d, final if len(steps.sizes) > 1 else final[0])
    names = [name for name in NAMES if getattr(whole, name) is not None]
    rows, parts, norms = _losses(steps, d, final), [], []
    for _ in range(min(most + 1, steps.T)):
        t, b, D = rows
        norms.append(float(np.linalg.norm(D[:, : steps.sizes[0]].astype(np.float64))))
        part, before = _one_back(steps, t, b, D, {name: getattr(whole, name) for name in names})
        parts.append(part)
        t = t + 1 if steps.reverse else t - 1
        on = (t >= 0) & (t < steps.T)
        on[on] = steps.active[t[on], b[on]]
        rows = t[on], b[on], before[on]
    shares = {name: _share([p[name] for p in parts], getattr(whole, name)) for name in names}
    return Lags(np.array(norms), shares["w_ih"], shares["w_hh"], shares.get("b_ih"))


def _losses(steps: Steps, dy: Array | None, final: Any) -> tuple[Array, Array, Array]:
    """All steps, as times and sequences, and the gradients of the whole state that enter there."""
    D = np.zeros((steps.T, steps.B, sum(steps.sizes)), steps.dtype)
    if dy is not None:
        D[:, :, : steps.sizes[0]] = dy
    inside = np.flatnonzero(steps.lengths)
    first = 0
    for size, part in zip(steps.sizes, final):
        if part is not None:
            D[steps.last()[inside], inside, first : first + size] += part[inside]
        first += size
    t, b = np.nonzero(steps.active)
    return t, b, D[t, b]


def _one_back(
    steps: Steps, t: Array, b: Array, D: Array, like: dict[str, Array]
) -> tuple[dict[str, Array], Array]:
    """Gradients of the weights from these steps, and of the state before each step."""
    part = {name: np.zeros(a.shape) for name, a in like.items()}
    before, most = np.empty_like(D), steps.rows(1)
    for first in range(0, len(t), most):
        rows = slice(first, first + most)
        grads = steps.backward(t[rows], b[rows], D[rows, None], (*part, "state"))
        for name, total in part.items():
            total += getattr(grads, name)
        states = grads.state if len(steps.sizes) > 1 else (grads.state,)
        before[rows] = np.concatenate(states, axis=1)
    return part, before


def _share(parts: list[Array], whole: Array) -> Share:
    """Norms and shares of the parts; the scale keeps squares of small gradients from underflow."""
    scale = float(np.abs(whole).max(initial=0)) or 1.0
    unit = whole.astype(np.float64) / scale
    square = float((unit**2).sum()) or 1.0
    norms = [float(np.linalg.norm(p / scale)) * scale for p in parts]
    shares = [float((p / scale * unit).sum()) / square for p in parts]
    return Share(np.array(norms), np.array(shares))
