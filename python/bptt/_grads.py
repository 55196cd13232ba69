# SPDX-License-Identifier: MIT
"""The gradients that one backward pass returns, and dicts of arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._types import Array, State
from .trace.trace import Trace


class Grads(NamedTuple):
    """Gradients of a scalar loss with respect to every input of a ``*_forward`` call.

    Each field has the shape of the argument it is named after.

    Attributes
    ----------
    x : ndarray, shape (T, B, I)
    w_ih : ndarray, shape (G*H, I)
    w_hh : ndarray, shape (G*H, H)
    b_ih, b_hh : ndarray, shape (G*H,), or None where the forward call had no bias
    state : ndarray, shape (B, H), or a tuple of them for cells with several, as (h, c) for LSTM
        Gradient with respect to the initial state (given also when the forward call used zeros).
    peepholes : ndarray, shape (3, H) or (2, H), or None
    w_hr : ndarray, shape (P, H), or None
    layer_norm : tuple of ndarrays, or None
    trace : Trace, or None
        How the gradient went, if the call had ``trace=True`` or ``trace="full"``.
    """

    x: Array
    w_ih: Array
    w_hh: Array
    b_ih: Array | None
    b_hh: Array | None
    state: State
    peepholes: Array | None = None
    w_hr: Array | None = None
    layer_norm: tuple[Array, ...] | None = None
    trace: Trace | None = None

    def __repr__(self) -> str:
        def shape(value: Any) -> str:
            if value is None:
                return "None"
            if isinstance(value, tuple):
                return "(" + ", ".join(shape(v) for v in value) + ")"
            return str(np.shape(value)) if isinstance(value, np.ndarray) else repr(value)

        given = {k: v for k, v in self._asdict().items() if k in Grads._fields[:6] or v is not None}
        return "Grads(" + ", ".join(f"{k}: {shape(v)}" for k, v in given.items()) + ")"


class AttentionGrads(NamedTuple):
    """Gradients of a scalar loss with respect to every input of a ``*_attention_forward`` call.

    Each field has the shape of the argument it is named after, or is None where there was none.

    Attributes
    ----------
    x : ndarray, shape (T, B, H)
    query : ndarray, shape (B, H), or (B, Q) for additive attention
    w_key, w_score, w_query, b : ndarray, shapes (A, H), (A,), (A, Q) and (A,)
    """

    x: Array
    query: Array | None
    w_key: Array | None = None
    w_score: Array | None = None
    w_query: Array | None = None
    b: Array | None = None
