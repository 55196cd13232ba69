# SPDX-License-Identifier: MIT
"""The equations in plain NumPy: the same functions, names and signatures as `bptt`, and no speed.

This package is what the C++ core is measured against. It checks nothing and never imports the core.
Complex input flows through (comparisons look at real parts only, nothing is cast to real), so the
complex-step derivative of a ``*_forward`` gives every gradient to machine precision
(Squire & Trapp, 1998, SIAM Review 40(1)); the tests hold each ``*_backward`` against it.

`cells` and `lstms` hold the equations of the cells, `products` what makes their sums, `loop` the
loop over time that serves them all, `attention` the readouts, `jacobians` derivatives of a step,
`regularise` values of regularisers, `trace` what a backward pass shows of itself.

Two pairs of options are not defined: resets with a dilation, which the core refuses, and layer_norm
with reset_after=False, which both refuse.
"""

from __future__ import annotations

from typing import Any

from .._grads import Grads
from .._types import Array, State
from .attention import (
    additive_attention_backward,
    additive_attention_forward,
    dot_attention_backward,
    dot_attention_forward,
)
from .cells import ACTIVATIONS as ACTIVATIONS
from .derivatives import hvp, jvp
from .jacobians import step_jacobians
from .loop import Tape, backward, forward
from .lstms import CELLS as CELLS
from .products import StepClip
from .products import clip_step as clip_step
from .real_time import rtrl
from .regularise import flossing, omega

__all__ = [
    "additive_attention_backward",
    "additive_attention_forward",
    "dot_attention_backward",
    "dot_attention_forward",
    "flossing",
    "gru_backward",
    "gru_forward",
    "hvp",
    "jvp",
    "lstm1997_backward",
    "lstm1997_forward",
    "lstm_backward",
    "lstm_forward",
    "mgu_backward",
    "mgu_forward",
    "omega",
    "rnn_backward",
    "rnn_forward",
    "rtrl",
    "slstm_backward",
    "slstm_forward",
    "step_jacobians",
]

# threads, checkpoint, max_bytes and compute are about how the core computes, and mean nothing here


def rnn_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: State = None,
    *,
    activation: str = "tanh",
    leak: float | None = None,
    preact_clip: float | None = None,
    lengths: Any = None,
    resets: Any = None,
    reverse: bool = False,
    dilation: int = 1,
    skip: int = 0,
    zoneout: Any = None,
    h_mask: Any = None,
    layer_norm: tuple[Any, ...] | None = None,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | None = None,
    max_bytes: int | None = None,
    compute: str | None = None,
) -> tuple[Array, State, Tape | None]:
    """Elman RNN; see `bptt.rnn_forward`."""
    return forward(
        "rnn", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape,
        activation=activation, leak=leak, preact_clip=preact_clip, resets=resets, dilation=dilation,
        skip=skip, zoneout=zoneout, h_mask=h_mask, layer_norm=layer_norm,
    )  # fmt: skip


def rnn_backward(
    tape: Tape,
    dy: Array | None = None,
    dstate: State = None,
    *,
    step_clip: StepClip = None,
    cut: int | None = None,
    trace: bool | str | None = None,
    threads: int | None = None,
) -> Grads:
    """Gradients of an Elman RNN; see `bptt.rnn_backward`."""
    return backward("rnn", tape, dy, dstate, step_clip, cut, trace)


def lstm_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: State = None,
    *,
    peepholes: Any = None,
    w_hr: Any = None,
    forget_gate: str = "own",
    gate_activation: str = "sigmoid",
    activation: str = "tanh",
    output_activation: str = "tanh",
    cell_clip: float | None = None,
    preact_clip: float | None = None,
    lengths: Any = None,
    resets: Any = None,
    reverse: bool = False,
    dilation: int = 1,
    skip: int = 0,
    zoneout: Any = None,
    h_mask: Any = None,
    layer_norm: tuple[Any, ...] | None = None,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | None = None,
    max_bytes: int | None = None,
    compute: str | None = None,
) -> tuple[Array, State, Tape | None]:
    """LSTM; see `bptt.lstm_forward`."""
    return forward(
        "lstm", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape,
        peepholes=peepholes, w_hr=w_hr, forget_gate=forget_gate, gate_activation=gate_activation,
        activation=activation, output_activation=output_activation, cell_clip=cell_clip,
        preact_clip=preact_clip, resets=resets, dilation=dilation, skip=skip, zoneout=zoneout,
        h_mask=h_mask, layer_norm=layer_norm,
    )  # fmt: skip


def lstm_backward(
    tape: Tape,
    dy: Array | None = None,
    dstate: State = None,
    *,
    step_clip: StepClip = None,
    cut: int | None = None,
    trace: bool | str | None = None,
    threads: int | None = None,
) -> Grads:
    """Gradients of an LSTM; see `bptt.lstm_backward`."""
    return backward("lstm", tape, dy, dstate, step_clip, cut, trace)


def gru_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: State = None,
    *,
    reset_after: bool = True,
    gate_activation: str = "sigmoid",
    activation: str = "tanh",
    preact_clip: float | None = None,
    lengths: Any = None,
    resets: Any = None,
    reverse: bool = False,
    dilation: int = 1,
    skip: int = 0,
    zoneout: Any = None,
    h_mask: Any = None,
    layer_norm: tuple[Any, ...] | None = None,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | None = None,
    max_bytes: int | None = None,
    compute: str | None = None,
) -> tuple[Array, State, Tape | None]:
    """GRU; see `bptt.gru_forward`."""
    if layer_norm is not None and not reset_after:
        raise ValueError(
            "gru_forward: layer_norm is given with reset_after=False, expected reset_after=True"
        )
    return forward(
        "gru", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape,
        reset_after=reset_after, gate_activation=gate_activation, activation=activation,
        preact_clip=preact_clip, resets=resets, dilation=dilation, skip=skip, zoneout=zoneout,
        h_mask=h_mask, layer_norm=layer_norm,
    )  # fmt: skip


def gru_backward(
    tape: Tape,
    dy: Array | None = None,
    dstate: State = None,
    *,
    step_clip: StepClip = None,
    cut: int | None = None,
    trace: bool | str | None = None,
    threads: int | None = None,
) -> Grads:
    """Gradients of a GRU; see `bptt.gru_backward`."""
    return backward("gru", tape, dy, dstate, step_clip, cut, trace)


def mgu_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: State = None,
    *,
    preact_clip: float | None = None,
    lengths: Any = None,
    resets: Any = None,
    reverse: bool = False,
    dilation: int = 1,
    skip: int = 0,
    zoneout: Any = None,
    h_mask: Any = None,
    layer_norm: tuple[Any, ...] | None = None,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | None = None,
    max_bytes: int | None = None,
    compute: str | None = None,
) -> tuple[Array, State, Tape | None]:
    """Minimal gated unit; see `bptt.mgu_forward`."""
    return forward(
        "mgu", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape,
        preact_clip=preact_clip, resets=resets, dilation=dilation, skip=skip, zoneout=zoneout,
        h_mask=h_mask, layer_norm=layer_norm,
    )  # fmt: skip


def mgu_backward(
    tape: Tape,
    dy: Array | None = None,
    dstate: State = None,
    *,
    step_clip: StepClip = None,
    cut: int | None = None,
    trace: bool | str | None = None,
    threads: int | None = None,
) -> Grads:
    """Gradients of a minimal gated unit; see `bptt.mgu_backward`."""
    return backward("mgu", tape, dy, dstate, step_clip, cut, trace)


def slstm_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: State = None,
    *,
    heads: int = 1,
    lengths: Any = None,
    resets: Any = None,
    reverse: bool = False,
    dilation: int = 1,
    skip: int = 0,
    zoneout: Any = None,
    h_mask: Any = None,
    layer_norm: tuple[Any, ...] | None = None,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | None = None,
    max_bytes: int | None = None,
    compute: str | None = None,
) -> tuple[Array, State, Tape | None]:
    """sLSTM; see `bptt.slstm_forward`."""
    return forward(
        "slstm", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape,
        heads=heads, resets=resets, dilation=dilation, skip=skip, zoneout=zoneout, h_mask=h_mask,
        layer_norm=layer_norm,
    )  # fmt: skip


def slstm_backward(
    tape: Tape,
    dy: Array | None = None,
    dstate: State = None,
    *,
    step_clip: StepClip = None,
    cut: int | None = None,
    trace: bool | str | None = None,
    threads: int | None = None,
) -> Grads:
    """Gradients of an sLSTM; see `bptt.slstm_backward`."""
    return backward("slstm", tape, dy, dstate, step_clip, cut, trace)


def lstm1997_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: State = None,
    *,
    lengths: Any = None,
    resets: Any = None,
    reverse: bool = False,
    dilation: int = 1,
    skip: int = 0,
    zoneout: Any = None,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | None = None,
    max_bytes: int | None = None,
    compute: str | None = None,
) -> tuple[Array, State, Tape | None]:
    """LSTM of 1997; see `bptt.lstm1997_forward`."""
    return forward(
        "lstm1997", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape,
        resets=resets, dilation=dilation, skip=skip, zoneout=zoneout,
    )  # fmt: skip


def lstm1997_backward(
    tape: Tape,
    dy: Array | None = None,
    dstate: State = None,
    *,
    step_clip: StepClip = None,
    cut: int | None = None,
    trace: bool | str | None = None,
    threads: int | None = None,
) -> Grads:
    """Gradients of an LSTM of 1997; see `bptt.lstm1997_backward`."""
    return backward("lstm1997", tape, dy, dstate, step_clip, cut, trace)
