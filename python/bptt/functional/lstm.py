# SPDX-License-Identifier: MIT
"""LSTM and its variants."""

from __future__ import annotations

from numpy.typing import ArrayLike

from .. import _core
from .._binding.call import backward, forward
from .._cells import CELLS
from .._grads import Grads
from .._types import Activation, Array, State, StepClip, Wanted

__all__ = ["lstm_backward", "lstm_forward"]

DEFAULTS = CELLS["lstm"].defaults


def lstm_forward(
    x: ArrayLike,
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    state: State = None,
    *,
    peepholes: ArrayLike | None = None,
    w_hr: ArrayLike | None = None,
    forget_gate: str = "own",
    gate_activation: Activation = "sigmoid",
    activation: Activation = "tanh",
    output_activation: Activation = "tanh",
    cell_clip: float | None = None,
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
    """LSTM with forget gate over whole sequences.

    With i, f, g, o = w_ih x_t + b_ih + w_hh h_{t-1} + b_hh:
    c_t = sig(f) c_{t-1} + sig(i) tanh(g),   h_t = sig(o) tanh(c_t).

    Parameters
    ----------
    x : array_like, shape (T, B, I)
        T time steps of B sequences of I features. If it is C-contiguous and has the dtype of the
        computation, the tape refers to it: do not change it before the backward call, which raises
        an error if it finds `x` or `y` changed. In an array of up to 1 KiB it finds every change.
        In a larger one it compares 64 bytes in each of 16 equal parts: it finds any change of a
        whole eighth of the array, and can miss a change of single values.
    w_ih, w_hh : array_like, shapes (4*H, I) and (4*H, H)
        Weights of the input and of the previous state; gate order i, f, g, o (PyTorch's).
    b_ih, b_hh : array_like, shape (4*H,), optional
        Biases; none if omitted.
    state : tuple (h, c) of array_like, shape (B, H) each, optional
        Before the first step; zeros if omitted.
    peepholes : array_like, shape (3, H), optional
        p_i, p_f, p_o: p_i c_{t-1}, p_f c_{t-1} and p_o c_t are added to the arguments of i, f and o
        (Gers & Schmidhuber, 2000). Without an own forget gate (2, H): p_i and p_o.
    w_hr : array_like, shape (P, H), optional
        Projects h: h_t = w_hr (sig(o) tanh(c_t)) (Sak, Senior & Beaufays, 2014; PyTorch's
        ``proj_size``). h, `y`, `h_mask` and zoneout of h are then P wide, w_hh is (4*H, P). Not
        with `compute`.
    forget_gate : {"own", "coupled", "none"}
        "coupled": f = 1 - i (Greff et al., 2017); "none": f = 1. Gates are then i, g, o: 3*H rows.
    gate_activation : str or tuple, optional
        Of i, f and o: a name, or a tuple of a name and its parameters, as in `rnn_forward`.
        "hard_sigmoid" is that of PyTorch and Keras 3; ``("hard_sigmoid", 0.2)`` that of Keras 2.
    activation, output_activation : str or tuple, optional
        In place of the tanh of g, and of the tanh of c_t.
    cell_clip, preact_clip : float, optional
        c_t, or the arguments of all gates, are clipped to -bound..bound (forward; the gradient is
        zero where they were).
    lengths : array_like of int, shape (B,), optional
        Steps of each sequence, 0..T in any order; T if omitted. Steps beyond are never used.
    reverse : bool
        Process each sequence from its last step to its first. `y` stays aligned with `x`.
    resets : array_like of bool, shape (T, B), optional
        Where True, the state is zero before the step and no gradient passes, as if another
        sequence began. If each array in `state` has B + 1 rows, the last one takes the place of
        zeros, and so the gradient of the state has a row more. Not with `dilation`.
    dilation : int
        k > 1: each step continues from the state of k steps before, not of one step before (Chang
        et al., 2017). States are then (k, B, H) each, the oldest first.
    skip : int
        k > 0: h of k steps before is added to h (residual in time). Before the first step, the
        initial state is one step back, and nothing further. A multiple of `dilation`.
    zoneout : float or array_like, shape (T, B, H), or a pair of them for h and the rest, optional
        The part z, 0..1, of the old state that stays: h_t = z h_{t-1} + (1 - z) h (Krueger et al.,
        2017); random zeros and ones in training, their mean in inference. One value is for h only.
    h_mask : array_like, shape (B, H), optional
        Multiplies h_{t-1} in the product with w_hh: variational dropout (Gal & Ghahramani, 2016).
    layer_norm : tuple (g_ih, g_hh, g_c, b_c) of array_like, optional
        Layer normalisation (Ba, Kiros & Hinton, 2016), shapes (4*H,), (4*H,), (H,) and (H,): the
        sums are g_ih N(w_ih x_t) + b_ih + g_hh N(w_hh h_{t-1}) + b_hh, and h_t = sig(o) tanh(g_c
        N(c_t) + b_c), where N(a) = (a - mean) / sqrt(variance + 1e-5) over the units and gates of a
        sequence. Not with `compute`.
    keep_tape : bool
        Keep what `lstm_backward` needs; without it, inference takes less time and memory.
    threads : int, optional
        The most threads to use; `bptt.get_num_threads()` if omitted. Small calls take fewer.
        Results do not depend on it.
    checkpoint : "sqrt" or int, optional
        Keep the values of one segment of steps; `lstm_backward` computes the other segments again,
        with the same gradients to the last bit in about a third more time. "sqrt": about sqrt(T)
        segments. A number of bytes: the longest segments with which the tape and the workspace of
        `lstm_backward` fit into it.
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
        For `lstm_backward`. It refers to `x` and `y` and has its own copies of all other arrays;
        with `resets`, a dilation or different lengths, of `x` and `y` too. Its attributes are the
        gates after their activations, ``tape.i``, ``.f``, ``.g``, ``.o``, and the states ``.c`` and
        ``.h`` after every step, (T, B, H) each and 0 beyond the lengths; not with a checkpoint.
        ``.h`` is `y`, the others are copies. ``tape.arguments`` is a dict of the call's arguments,
        arrays as they are now.

    Raises
    ------
    ValueError
        If shapes disagree, a length is outside 0..T, or an option is unknown or impossible,
        such as a `checkpoint` of too few bytes.
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
    options = _core.given(DEFAULTS, (
        peepholes, w_hr, forget_gate, gate_activation, activation, output_activation, cell_clip,
        preact_clip, resets, dilation, skip, zoneout, h_mask, layer_norm,
    ))  # fmt: skip
    return forward(
        "lstm", (x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse), options, keep_tape,
        (threads, checkpoint, compute),
    )  # fmt: skip


def lstm_backward(
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
    """Gradients of an LSTM: exact backpropagation through time.

    For a scalar loss L with dL/dy = `dy` and dL/d(final state) = `dstate`. Each weight's gradient
    is a sum over time steps, dL/dw_hh = sum_t (dL/da_t) h_{t-1}^T, where a_t are the
    pre-activations.

    Parameters
    ----------
    tape : Tape
        From `lstm_forward`; it can be used again.
    dy : array_like, shape (T, B, H), optional
        Gradient of the loss with respect to `y`; zeros if omitted. Padding is never used.
    dstate : tuple (h, c) of array_like, shape (B, H) each, optional
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
        x, w_ih, w_hh, b_ih, b_hh and state, shaped like the arguments of `lstm_forward`;
        x is exactly 0 beyond the lengths; an omitted bias is None.

    Raises
    ------
    ValueError
        If a shape disagrees with the tape, step_clip is malformed, or `x` or `y` has visibly
        changed since the forward call (see `lstm_forward`).
    TypeError
        If tape is not one of `lstm_forward`, or an array is complex or holds objects.

    References
    ----------
    Werbos (1990), "Backpropagation through time: what it does and how to do it", Proc. IEEE 78(10).
    """
    return backward("lstm", tape, dy, dstate, (step_clip, cut, trace, threads, grads))
