# SPDX-License-Identifier: MIT
"""Elman RNN, and the leaky integrator."""

from __future__ import annotations

from numpy.typing import ArrayLike

from .. import _core
from .._binding.call import backward, forward
from .._cells import CELLS
from .._grads import Grads
from .._types import Activation, Array, State, StepClip, Wanted

__all__ = ["rnn_backward", "rnn_forward"]

DEFAULTS = CELLS["rnn"].defaults


def rnn_forward(
    x: ArrayLike,
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    state: State = None,
    *,
    activation: Activation = "tanh",
    leak: ArrayLike | None = None,
    preact_clip: float | None = None,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    dilation: int = 1,
    skip: int = 0,
    zoneout: ArrayLike | None = None,
    h_mask: ArrayLike | None = None,
    layer_norm: tuple[ArrayLike, ...] | None = None,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | int | None = None,
    compute: str | None = None,
) -> tuple[Array, State, _core.Tape | None]:
    """Elman RNN over whole sequences.

    h_t = activation(w_ih x_t + b_ih + w_hh h_{t-1} + b_hh)

    Parameters
    ----------
    x : array_like, shape (T, B, I)
        T time steps of B sequences of I features. The tape refers to it, as in `lstm_forward`.
    w_ih, w_hh : array_like, shapes (H, I) and (H, H)
        Weights of the input and of the previous state.
    b_ih, b_hh : array_like, shape (H,), optional
        Biases; none if omitted.
    state : array_like, shape (B, H), optional
        Before the first step; zeros if omitted.
    activation : str or tuple, optional
        "tanh", "relu", "sigmoid" or "identity"; "softsign", a / (1 + |a|); "softplus",
        log(1 + e^a); or a tuple of a name and its parameters, such as ``("leaky_relu", 0.2)``:

        - ("leaky_relu", slope): a, but slope a below 0; slope is 0.01 if left out;
        - ("elu", scale): a, but scale (e^a - 1) below 0; 1;
        - ("thresholded_relu", threshold): a above the threshold, else 0; 1;
        - ("hard_sigmoid", slope, offset): slope a + offset, clipped to 0..1; 1/6, 1/2;
        - ("scaled_tanh", scale, factor): scale tanh(factor a); 1, 1;
        - ("affine", slope, offset): slope a + offset; 1, 0.
    leak : float or array_like, shape (H,), optional
        a in (0, 1]: h_t = (1 - a) h_{t-1} + a activation(...), the leaky integrator (Jaeger et al.,
        2007); 1 if omitted. An array has one a for each unit.
    preact_clip : float, optional
        The argument of the activation is clipped to -bound..bound (forward; its gradient is zero
        where it was).
    lengths : array_like of int, shape (B,), optional
        Steps of each sequence, 0..T in any order; T if omitted. Steps beyond are never used.
    reverse : bool
        Process each sequence from its last step to its first. `y` stays aligned with `x`.
    resets, dilation, skip, zoneout, h_mask
        As in `lstm_forward`.
    layer_norm : tuple (g_ih, g_hh) of array_like, shape (H,) each, optional
        Normalises both products over all units and gates, as in `lstm_forward`.
    keep_tape : bool
        Keep what `rnn_backward` needs; without it, inference takes less time and memory.
    threads, checkpoint, compute
        How to compute it, as in `lstm_forward`.

    Returns
    -------
    y : ndarray, shape (T, B, H)
        h after each step, 0 beyond a sequence's length. Read-only when a tape is kept, since the
        tape refers to it: change a copy.
    state : ndarray, shape (B, H)
        After the last step of each sequence; the initial state where the length is 0.
    tape : Tape or None
        For `rnn_backward`. It has its own copies of the weights. By name, as in `lstm_forward`:
        ``tape.h``.

    Raises
    ------
    ValueError
        If shapes disagree, a length is outside 0..T, or an option is unknown or impossible.
    TypeError
        If an array is complex or holds objects, or lengths are not integers.

    Notes
    -----
    Precision and empty arrays: as in `lstm_forward`.

    References
    ----------
    Elman (1990), "Finding structure in time", Cognitive Science 14(2).
    """
    options = _core.given(DEFAULTS, (
        activation, leak, preact_clip, resets, dilation, skip, zoneout, h_mask, layer_norm,
    ))  # fmt: skip
    return forward(
        "rnn", (x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse), options, keep_tape,
        (threads, checkpoint, compute),
    )  # fmt: skip


def rnn_backward(
    tape: _core.Tape | None,
    dy: ArrayLike | None = None,
    dstate: State = None,
    *,
    step_clip: StepClip | None = None,
    cut: int | None = None,
    trace: bool | str | None = None,
    threads: int | None = None,
    grads: Wanted = None,
) -> Grads:
    """Gradients of an Elman RNN: exact backpropagation through time.

    For a scalar loss L with dL/dy = `dy` and dL/d(final state) = `dstate`. Each weight's gradient
    is a sum over time steps, dL/dw_hh = sum_t (dL/da_t) h_{t-1}^T, where a_t are the
    pre-activations.

    Parameters
    ----------
    tape : Tape
        From `rnn_forward`; it can be used again.
    dy : array_like, shape (T, B, H), optional
        Gradient of the loss with respect to `y`; zeros if omitted. Padding is never used.
    dstate : array_like, shape (B, H), optional
        Gradient of the loss with respect to the final state; zeros if omitted.
    step_clip : ("value" or "norm", bound), optional
        Clip dL/dh each time it is passed back one step, to the initial state as well: "value"
        limits every element to [-bound, bound], which turns the gradient's direction; "norm" scales
        each sequence's gradient down to Euclidean norm `bound`, which does not. What comes out is
        then no longer the gradient of L.
    cut : int, optional
        After every `cut` steps, counted from the end of each sequence's processing, no gradient
        goes back, as if the state were detached there. Not with a dilation.
    trace : bool or "full", optional
        True: return norms of the gradient at every step, as `Grads.trace`; "full": also the
        gradients themselves and `Trace.shares`. See `bptt.Trace`.
    threads : int, optional
        The most threads to use, as in the forward call.
    grads : collection of str, optional
        Names of the gradients to compute, as fields of `Grads`; all if omitted. The others are None
        and cost no time: without "x", a first layer trains in about five sixths of it.

    Returns
    -------
    Grads
        x, w_ih, w_hh, b_ih, b_hh and state, shaped like the arguments of `rnn_forward`;
        x is exactly 0 beyond the lengths; an omitted bias is None.

    Raises
    ------
    ValueError
        If a shape disagrees with the tape, step_clip is malformed, or `x` or `y` has visibly
        changed since the forward call (see `lstm_forward`).
    TypeError
        If tape is not one of `rnn_forward`, or an array is complex or holds objects.

    References
    ----------
    Werbos (1990), "Backpropagation through time: what it does and how to do it", Proc. IEEE 78(10).
    """
    return backward("rnn", tape, dy, dstate, (step_clip, cut, trace, threads, grads))
