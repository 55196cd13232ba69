# SPDX-License-Identifier: MIT
"""The equations in plain NumPy: functions with the names and arguments of `bptt`, without speed.

The C++ core is measured against this package, which checks no values and never imports the core.
Complex input flows through (comparisons look at real parts only, nothing is cast to real), so the
complex-step derivative of a ``*_forward`` gives every gradient to machine precision
(Squire & Trapp, 1998, SIAM Review 40(1)); the tests hold each ``*_backward`` against it.

`cells` and `lstms` hold the equations of the cells, `products` the products that make their sums,
`loop` the loop over time that serves them all, `attention` the readouts, `jacobians` derivatives of
a step, `regularise` values of regularisers, `trace` the trace of a backward pass.

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

Results = tuple[Array, State, Tape | None]  # y, final state, tape


def rnn_forward(*inputs: Any, **options: Any) -> Results:
    """Elman RNN; arguments of `bptt.rnn_forward`."""
    return forward("rnn", *inputs, **options)


def rnn_backward(*gradients: Any, **control: Any) -> Grads:
    """Gradients of an Elman RNN; arguments of `bptt.rnn_backward`."""
    return backward("rnn", *gradients, **control)


def lstm_forward(*inputs: Any, **options: Any) -> Results:
    """LSTM; arguments of `bptt.lstm_forward`."""
    return forward("lstm", *inputs, **options)


def lstm_backward(*gradients: Any, **control: Any) -> Grads:
    """Gradients of an LSTM; arguments of `bptt.lstm_backward`."""
    return backward("lstm", *gradients, **control)


def gru_forward(*inputs: Any, **options: Any) -> Results:
    """GRU; arguments of `bptt.gru_forward`."""
    if options.get("layer_norm") is not None and not options.get("reset_after", True):
        raise ValueError(
            "gru_forward: layer_norm is given with reset_after=False, expected reset_after=True"
        )
    return forward("gru", *inputs, **options)


def gru_backward(*gradients: Any, **control: Any) -> Grads:
    """Gradients of a GRU; arguments of `bptt.gru_backward`."""
    return backward("gru", *gradients, **control)


def mgu_forward(*inputs: Any, **options: Any) -> Results:
    """Minimal gated unit; arguments of `bptt.mgu_forward`."""
    return forward("mgu", *inputs, **options)


def mgu_backward(*gradients: Any, **control: Any) -> Grads:
    """Gradients of a minimal gated unit; arguments of `bptt.mgu_backward`."""
    return backward("mgu", *gradients, **control)


def slstm_forward(*inputs: Any, **options: Any) -> Results:
    """sLSTM; arguments of `bptt.slstm_forward`."""
    return forward("slstm", *inputs, **options)


def slstm_backward(*gradients: Any, **control: Any) -> Grads:
    """Gradients of an sLSTM; arguments of `bptt.slstm_backward`."""
    return backward("slstm", *gradients, **control)


def lstm1997_forward(*inputs: Any, **options: Any) -> Results:
    """LSTM of 1997; arguments of `bptt.lstm1997_forward`."""
    return forward("lstm1997", *inputs, **options)


def lstm1997_backward(*gradients: Any, **control: Any) -> Grads:
    """Gradients of an LSTM of 1997; arguments of `bptt.lstm1997_backward`."""
    return backward("lstm1997", *gradients, **control)
