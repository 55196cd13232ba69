# SPDX-License-Identifier: MIT
"""Recurrences over whole sequences, forward and backward, in the C++ core; attention in NumPy.

Every function here has a twin of the same name and signature in `bptt.reference`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._grads import Grads
from .._types import Array, State
from .attention import (
    additive_attention_backward,
    additive_attention_forward,
    dot_attention_backward,
    dot_attention_forward,
)
from .gru import gru_backward, gru_forward
from .lstm import lstm_backward, lstm_forward
from .lstm1997 import lstm1997_backward, lstm1997_forward
from .mgu import mgu_backward, mgu_forward
from .rnn import rnn_backward, rnn_forward
from .slstm import slstm_backward, slstm_forward

# The functions of the recurrences, by kind of cell.
FORWARD: dict[str, Callable[..., tuple[Array, State, Any]]] = {
    "rnn": rnn_forward,
    "lstm": lstm_forward,
    "gru": gru_forward,
    "mgu": mgu_forward,
    "slstm": slstm_forward,
    "lstm1997": lstm1997_forward,
}
BACKWARD: dict[str, Callable[..., Grads]] = {
    "rnn": rnn_backward,
    "lstm": lstm_backward,
    "gru": gru_backward,
    "mgu": mgu_backward,
    "slstm": slstm_backward,
    "lstm1997": lstm1997_backward,
}

__all__ = [
    "additive_attention_backward",
    "additive_attention_forward",
    "dot_attention_backward",
    "dot_attention_forward",
    "gru_backward",
    "gru_forward",
    "lstm1997_backward",
    "lstm1997_forward",
    "lstm_backward",
    "lstm_forward",
    "mgu_backward",
    "mgu_forward",
    "rnn_backward",
    "rnn_forward",
    "slstm_backward",
    "slstm_forward",
]
