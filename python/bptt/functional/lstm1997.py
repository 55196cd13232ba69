# SPDX-License-Identifier: MIT
"""The LSTM of 1997."""

from __future__ import annotations

from numpy.typing import ArrayLike

from .. import _core
from .._binding.call import backward, forward
from .._cells import CELLS
from .._grads import Grads
from .._types import Array, State, StepClip, Wanted

__all__ = ["lstm1997_backward", "lstm1997_forward"]

DEFAULTS = CELLS["lstm1997"].defaults


def lstm1997_forward(
    x: ArrayLike,
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    state: State = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    dilation: int = 1,
    skip: int = 0,
    zoneout: ArrayLike | None = None,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | int | None = None,
    compute: str | None = None,
) -> tuple[Array, State, _core.Tape | None]:
    """The LSTM as it was published, without a forget gate, over whole sequences.

    With i, o, g = w_ih x_t + b_ih + w_hh (h, i, o)_{t-1} + b_hh, where w_hh sees the values of both
    gates as well: c_t = c_{t-1} + sig(i) (4 sig(g) - 2),   h_t = sig(o) (2 sig(c_t) - 1).

    Parameters
    ----------
    x : array_like, shape (T, B, I)
        T time steps of B sequences of I features. The tape refers to it, as in `lstm_forward`.
    w_ih, w_hh : array_like, shapes (3*H, I) and (3*H, 3*H)
        Weights of the input, and of the previous h, i and o side by side; gate order i, o, g.
    b_ih, b_hh : array_like, shape (3*H,), optional
        Biases; none if omitted.
    state : tuple (h, c, i, o) of array_like, shape (B, H) each, optional
        Before the first step; zeros if omitted.
    lengths : array_like of int, shape (B,), optional
        Steps of each sequence, 0..T in any order; T if omitted. Steps beyond are never used.
    reverse : bool
        Process each sequence from its last step to its first. `y` stays aligned with `x`.
    resets, dilation, skip, zoneout
        As in `lstm_forward`; i and o take no part in zoneout.
    keep_tape : bool
        Keep what `lstm1997_backward` needs; without it, inference takes less time and memory.
    threads, checkpoint, compute
        How to compute it, as in `lstm_forward`.

    Returns
    -------
    y : ndarray, shape (T, B, H)
        h after each step, 0 beyond a sequence's length. Read-only when a tape is kept, since the
        tape refers to it: change a copy.
    state : tuple (h, c, i, o) of ndarray, shape (B, H) each
        After the last step of each sequence; the initial state where the length is 0.
    tape : Tape or None
        For `lstm1997_backward`. It has its own copies of the weights. By name, as in
        `lstm_forward`: ``tape.i``, ``.o``, ``.g``, ``.h``, ``.c``.

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
    Hochreiter & Schmidhuber (1997), "Long short-term memory", Neural Computation 9(8).
    """
    options = _core.given(DEFAULTS, (resets, dilation, skip, zoneout))
    return forward(
        "lstm1997", (x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse), options, keep_tape,
        (threads, checkpoint, compute),
    )  # fmt: skip


def lstm1997_backward(
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
    """Gradients of an LSTM of 1997, truncated as in the paper: nothing passes back through w_hh.

    For a scalar loss L with dL/dy = `dy` and dL/d(final state) = `dstate`. Only c (and h, by way of
    skips and zoneout) carries a gradient from step to step; the gradient of one step is exact.

    Parameters
    ----------
    tape : Tape
        From `lstm1997_forward`; it can be used again.
    dy : array_like, shape (T, B, H), optional
        Gradient of the loss with respect to `y`; zeros if omitted. Padding is never used.
    dstate : tuple (h, c, i, o) of array_like, shape (B, H) each, optional
        Gradient of the loss with respect to the final state; zeros if omitted.
    step_clip : ("value" or "norm", bound), optional
        Clip dL/dh each time it is passed back one step, as in `rnn_backward`.
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
        x, w_ih, w_hh, b_ih, b_hh and state, shaped like the arguments of `lstm1997_forward`;
        x is exactly 0 beyond the lengths; an omitted bias is None.

    Raises
    ------
    ValueError
        If a shape disagrees with the tape, step_clip is malformed, or `x` or `y` has visibly
        changed since the forward call (see `lstm_forward`).
    TypeError
        If tape is not one of `lstm1997_forward`, or an array is complex or holds objects.

    References
    ----------
    Hochreiter & Schmidhuber (1997), "Long short-term memory", Neural Computation 9(8).
    """
    return backward("lstm1997", tape, dy, dstate, (step_clip, cut, trace, threads, grads))
