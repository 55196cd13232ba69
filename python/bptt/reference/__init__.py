# SPDX-License-Identifier: MIT
"""The equations in plain NumPy: functions with the names and arguments of `bptt`, without speed.

The C++ core is measured against this package, which checks no values and never imports the core.
Complex input flows through (comparisons look at real parts only, nothing is cast to real), so the
complex-step derivative of a ``*_forward`` gives every gradient to machine precision
(Squire & Trapp, 1998, SIAM Review 40(1)); the tests hold each ``*_backward`` against it.

NumPy keeps subnormal numbers, which the core takes for zero. Below the smallest normal number,
1.2e-38 in float32 and 2.2e-308 in float64, a gradient of the core is exactly zero, and a gradient
of this package not yet.

`cells` has the equations of the cells, made of `activations`; `products` the products that make
their pre-activations; `loop` the loop over time that serves them all; `attention` the readouts;
`jacobians` derivatives of a step; `regularise` values of regularisers; `rounding` weights of 8
bits; `trace` the trace of a backward pass.

Two pairs of options are not defined: resets with a dilation, which the core refuses, and layer_norm
with reset_after=False, which both refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._grads import Grads
from .._types import Array, State
from .activations import ACTIVATIONS as ACTIVATIONS
from .attention import (
    additive_attention_backward,
    additive_attention_forward,
    dot_attention_backward,
    dot_attention_forward,
)
from .cells import CELLS as CELLS
from .derivatives import hvp, jvp
from .jacobians import step_jacobians
from .loop import Tape, backward, forward
from .products import clip_step as clip_step
from .real_time import rtrl
from .regularise import flossing, omega
from .rounding import dequantise, quantise

__all__ = [
    "additive_attention_backward",
    "additive_attention_forward",
    "dequantise",
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
    "quantise",
    "rnn_backward",
    "rnn_forward",
    "rtrl",
    "slstm_backward",
    "slstm_forward",
    "step_jacobians",
]


def _twins(cell: str) -> tuple[Callable[..., Any], Callable[..., Grads]]:
    def cell_forward(*inputs: Any, **options: Any) -> tuple[Array, State, Tape | None]:
        return forward(cell, *inputs, **options)

    def cell_backward(*gradients: Any, **control: Any) -> Grads:
        return backward(cell, *gradients, **control)

    for direction, function in (("forward", cell_forward), ("backward", cell_backward)):
        function.__name__ = function.__qualname__ = f"{cell}_{direction}"
        function.__doc__ = f"The equations of `bptt.{cell}_{direction}`, with its arguments."
    return cell_forward, cell_backward


rnn_forward, rnn_backward = _twins("rnn")
lstm_forward, lstm_backward = _twins("lstm")
gru_forward, gru_backward = _twins("gru")
mgu_forward, mgu_backward = _twins("mgu")
slstm_forward, slstm_backward = _twins("slstm")
lstm1997_forward, lstm1997_backward = _twins("lstm1997")
