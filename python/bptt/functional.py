# SPDX-License-Identifier: MIT
"""RNN, LSTM and GRU over whole sequences, forward and backward, in the C++ core.

Every function here has a twin of the same name and signature in `bptt.reference`.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from . import _core
from ._call import StepClip, backward, forward
from .grads import Array, Grads, State

__all__ = [
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "rnn_backward",
    "rnn_forward",
]


def rnn_forward(
    x: ArrayLike,
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    state: State = None,
    *,
    activation: str = "tanh",
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | None = None,
    max_bytes: int | None = None,
    compute: str | None = None,
) -> tuple[Array, State, _core.Tape | None]:
    """Elman RNN over whole sequences.

    h_t = activation(w_ih x_t + b_ih + w_hh h_{t-1} + b_hh)

    Parameters
    ----------
    x : array_like, shape (T, B, I)
        T time steps of B sequences of I features; the tape refers to it, as in `lstm_forward`.
    w_ih, w_hh : array_like, shapes (H, I) and (H, H)
        Weights of the input and of the previous state.
    b_ih, b_hh : array_like, shape (H,), optional
        Biases; none if omitted.
    state : array_like, shape (B, H), optional
        Before the first step; zeros if omitted.
    activation : {"tanh", "relu", "leaky_relu", "sigmoid", "identity"}
        leaky_relu has slope 0.01.
    lengths : array_like of int, shape (B,), optional
        Of each sequence, 0..T in any order; T if omitted. Steps beyond are never used.
    reverse : bool
        Process each sequence from its last step to its first; `y` stays aligned with `x`.
    keep_tape : bool
        Keep what `rnn_backward` needs; inference without it takes less time and memory.
    threads, checkpoint, max_bytes, compute
        How to compute it, as in `lstm_forward`.

    Returns
    -------
    y : ndarray, shape (T, B, H)
        h after each step, 0 beyond a sequence's length. Read-only when a tape is kept, since the
        tape refers to it: change a copy.
    state : ndarray, shape (B, H)
        After the last step of each sequence; the initial state where the length is 0.
    tape : Tape or None
        For `rnn_backward`. It keeps what it needs of the weights.

    Raises
    ------
    ValueError
        If shapes disagree, or a length is outside 0..T, or an option is unknown or impossible.
    TypeError
        If an array is complex or holds objects, or lengths are not integers.

    Notes
    -----
    Precision and empty arrays: as in `lstm_forward`.

    References
    ----------
    Elman (1990), "Finding structure in time", Cognitive Science 14(2).
    """
    return forward(
        "rnn", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape, activation,
        threads, checkpoint, max_bytes, compute,
    )  # fmt: skip


def rnn_backward(
    tape: _core.Tape | None,
    dy: ArrayLike | None = None,
    dstate: State = None,
    *,
    step_clip: StepClip | None = None,
    threads: int | None = None,
) -> Grads:
    """Gradients of an Elman RNN: exact backpropagation through time.

    Of a scalar loss L with dL/dy = `dy` and dL/d(final state) = `dstate`. Each weight's gradient is
    a sum over time steps, dL/dw_hh = sum_t (dL/da_t) h_{t-1}^T, where a_t are the gates' sums.

    Parameters
    ----------
    tape : Tape
        From `rnn_forward`; not changed, so it can serve again.
    dy : array_like, shape (T, B, H), optional
        Loss per unit of each output; zeros if omitted. Padding is never used.
    dstate : array_like, shape (B, H), optional
        Loss per unit of the final state; zeros if omitted.
    step_clip : ("value" or "norm", bound), optional
        Clip dL/dh each time it is passed back one step, to the initial state as well: "value"
        limits every element to [-bound, bound], which turns the gradient's direction; "norm" scales
        each sequence's gradient down to Euclidean norm `bound`, which does not. What comes out is
        then no longer the gradient of L.
    threads : int, optional
        At most so many, as in the forward call.

    Returns
    -------
    Grads
        x, w_ih, w_hh, b_ih, b_hh and state, shaped like the arguments of `rnn_forward`;
        x is exactly 0 beyond the lengths, a bias that was omitted is None.

    Raises
    ------
    ValueError
        If a shape disagrees with the tape's, or step_clip is malformed.
    TypeError
        If tape is not one of `rnn_forward`, or an array is complex or holds objects.

    References
    ----------
    Werbos (1990), "Backpropagation through time: what it does and how to do it", Proc. IEEE 78(10).
    """
    return backward("rnn", tape, dy, dstate, step_clip, threads)


def lstm_forward(
    x: ArrayLike,
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    state: State = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | None = None,
    max_bytes: int | None = None,
    compute: str | None = None,
) -> tuple[Array, State, _core.Tape | None]:
    """LSTM with forget gate over whole sequences.

    With i, f, g, o = w_ih x_t + b_ih + w_hh h_{t-1} + b_hh:
    c_t = sig(f) c_{t-1} + sig(i) tanh(g),   h_t = sig(o) tanh(c_t).

    Parameters
    ----------
    x : array_like, shape (T, B, I)
        T time steps of B sequences of I features. Where it is C-contiguous and of the dtype of the
        computation, the tape refers to it: do not change it before the backward call.
    w_ih, w_hh : array_like, shapes (4*H, I) and (4*H, H)
        Weights of the input and of the previous state; gate order i, f, g, o (PyTorch's).
    b_ih, b_hh : array_like, shape (4*H,), optional
        Biases; none if omitted.
    state : tuple (h, c) of array_like, shape (B, H) each, optional
        Before the first step; zeros if omitted.
    lengths : array_like of int, shape (B,), optional
        Of each sequence, 0..T in any order; T if omitted. Steps beyond are never used.
    reverse : bool
        Process each sequence from its last step to its first; `y` stays aligned with `x`.
    keep_tape : bool
        Keep what `lstm_backward` needs; without it, inference takes less time and memory.
    threads : int, optional
        At most so many; `bptt.get_num_threads()` if omitted. Small calls take fewer. Results do
        not depend on it.
    checkpoint : {"sqrt"}, optional
        Keep the values of one of about sqrt(T) segments of steps; `lstm_backward` computes the
        others again: the same gradients to the last bit in about a third more time.
    max_bytes : int, optional
        As `checkpoint`, with segments so long that the tape and the workspace of `lstm_backward`
        take at most so many bytes.
    compute : {"bf16", "bf16_if_available"}, optional
        Take the products of float32 arrays in bfloat16 (8 significant bits), with sums, gates,
        states and gradients in float32: errors of about 5e-3 of the largest value with weights of
        usual size. `bptt.show_config` tells whether this CPU can.

    Returns
    -------
    y : ndarray, shape (T, B, H)
        h after each step, 0 beyond a sequence's length. Read-only when a tape is kept, since the
        tape refers to it: change a copy.
    state : tuple (h, c) of ndarray, shape (B, H) each
        After the last step of each sequence; the initial state where the length is 0.
    tape : Tape or None
        For `lstm_backward`. It keeps what it needs of the weights.

    Raises
    ------
    ValueError
        If shapes disagree, or a length is outside 0..T, or an option is unknown or impossible,
        such as `max_bytes` too few.
    TypeError
        If an array is complex or holds objects, or lengths are not integers.

    Notes
    -----
    Computes in float64 if x, a weight or a bias is float64, else in float32; other arrays are
    converted to that. T = 0 and B = 0 give an empty `y`; the state passes through.

    References
    ----------
    Hochreiter & Schmidhuber (1997), "Long short-term memory", Neural Computation 9(8);
    Gers, Schmidhuber & Cummins (2000), "Learning to forget", Neural Computation 12(10).
    """
    return forward(
        "lstm", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape, "tanh",
        threads, checkpoint, max_bytes, compute,
    )  # fmt: skip


def lstm_backward(
    tape: _core.Tape | None,
    dy: ArrayLike | None = None,
    dstate: State = None,
    *,
    step_clip: StepClip | None = None,
    threads: int | None = None,
) -> Grads:
    """Gradients of an LSTM: exact backpropagation through time.

    Of a scalar loss L with dL/dy = `dy` and dL/d(final state) = `dstate`. Each weight's gradient is
    a sum over time steps, dL/dw_hh = sum_t (dL/da_t) h_{t-1}^T, where a_t are the gates' sums.

    Parameters
    ----------
    tape : Tape
        From `lstm_forward`; not changed, so it can serve again.
    dy : array_like, shape (T, B, H), optional
        Loss per unit of each output; zeros if omitted. Padding is never used.
    dstate : tuple (h, c) of array_like, shape (B, H) each, optional
        Loss per unit of the final state; zeros if omitted.
    step_clip : ("value" or "norm", bound), optional
        Clip dL/dh each time it is passed back one step, as in `rnn_backward`.
    threads : int, optional
        At most so many, as in the forward call.

    Returns
    -------
    Grads
        x, w_ih, w_hh, b_ih, b_hh and state, shaped like the arguments of `lstm_forward`;
        x is exactly 0 beyond the lengths, a bias that was omitted is None.

    Raises
    ------
    ValueError
        If a shape disagrees with the tape's, or step_clip is malformed.
    TypeError
        If tape is not one of `lstm_forward`, or an array is complex or holds objects.

    References
    ----------
    Werbos (1990), "Backpropagation through time: what it does and how to do it", Proc. IEEE 78(10).
    """
    return backward("lstm", tape, dy, dstate, step_clip, threads)


def gru_forward(
    x: ArrayLike,
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    state: State = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | None = None,
    max_bytes: int | None = None,
    compute: str | None = None,
) -> tuple[Array, State, _core.Tape | None]:
    """GRU over whole sequences, reset gate applied after the recurrent product.

    r = sig(w_ir x_t + b_ir + w_hr h_{t-1} + b_hr),
    z = sig(w_iz x_t + b_iz + w_hz h_{t-1} + b_hz),
    n = tanh(w_in x_t + b_in + r (w_hn h_{t-1} + b_hn)),   h_t = (1 - z) n + z h_{t-1}.
    This is the form of PyTorch, cuDNN and Keras (there ``reset_after=True``).

    Parameters
    ----------
    x : array_like, shape (T, B, I)
        T time steps of B sequences of I features; the tape refers to it, as in `lstm_forward`.
    w_ih, w_hh : array_like, shapes (3*H, I) and (3*H, H)
        Weights of the input and of the previous state; gate order r, z, n (PyTorch's).
    b_ih, b_hh : array_like, shape (3*H,), optional
        Biases; none if omitted.
    state : array_like, shape (B, H), optional
        Before the first step; zeros if omitted.
    lengths : array_like of int, shape (B,), optional
        Of each sequence, 0..T in any order; T if omitted. Steps beyond are never used.
    reverse : bool
        Process each sequence from its last step to its first; `y` stays aligned with `x`.
    keep_tape : bool
        Keep what `gru_backward` needs; inference without it takes less time and memory.
    threads, checkpoint, max_bytes, compute
        How to compute it, as in `lstm_forward`.

    Returns
    -------
    y : ndarray, shape (T, B, H)
        h after each step, 0 beyond a sequence's length. Read-only when a tape is kept, since the
        tape refers to it: change a copy.
    state : ndarray, shape (B, H)
        After the last step of each sequence; the initial state where the length is 0.
    tape : Tape or None
        For `gru_backward`. It keeps what it needs of the weights.

    Raises
    ------
    ValueError
        If shapes disagree, or a length is outside 0..T, or an option is unknown or impossible.
    TypeError
        If an array is complex or holds objects, or lengths are not integers.

    Notes
    -----
    Precision and empty arrays: as in `lstm_forward`.

    References
    ----------
    Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder",
    EMNLP; https://arxiv.org/abs/1406.1078.
    """
    return forward(
        "gru", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape, "tanh",
        threads, checkpoint, max_bytes, compute,
    )  # fmt: skip


def gru_backward(
    tape: _core.Tape | None,
    dy: ArrayLike | None = None,
    dstate: State = None,
    *,
    step_clip: StepClip | None = None,
    threads: int | None = None,
) -> Grads:
    """Gradients of a GRU: exact backpropagation through time.

    Of a scalar loss L with dL/dy = `dy` and dL/d(final state) = `dstate`. Each weight's gradient is
    a sum over time steps, dL/dw_hh = sum_t (dL/da_t) h_{t-1}^T, where a_t are the gates' sums.

    Parameters
    ----------
    tape : Tape
        From `gru_forward`; not changed, so it can serve again.
    dy : array_like, shape (T, B, H), optional
        Loss per unit of each output; zeros if omitted. Padding is never used.
    dstate : array_like, shape (B, H), optional
        Loss per unit of the final state; zeros if omitted.
    step_clip : ("value" or "norm", bound), optional
        Clip dL/dh each time it is passed back one step, as in `rnn_backward`.
    threads : int, optional
        At most so many, as in the forward call.

    Returns
    -------
    Grads
        x, w_ih, w_hh, b_ih, b_hh and state, shaped like the arguments of `gru_forward`;
        x is exactly 0 beyond the lengths, a bias that was omitted is None.

    Raises
    ------
    ValueError
        If a shape disagrees with the tape's, or step_clip is malformed.
    TypeError
        If tape is not one of `gru_forward`, or an array is complex or holds objects.

    References
    ----------
    Werbos (1990), "Backpropagation through time: what it does and how to do it", Proc. IEEE 78(10).
    """
    return backward("gru", tape, dy, dstate, step_clip, threads)
