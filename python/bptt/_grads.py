# SPDX-License-Identifier: MIT
"""The results of backward functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ._types import Array, State
from .trace.trace import Trace


class Grads(NamedTuple):
    """Gradients of a scalar loss with respect to all arguments of a ``*_forward`` call.

    Each field has the name and shape of an argument. It is None if the backward call was given
    `grads` without its name.

    Attributes
    ----------
    x : ndarray, shape (T, B, I)
        Gradient of the input.
    w_ih, w_hh : ndarray, shapes (G*H, I) and (G*H, H)
        Gradients of the weights.
    b_ih, b_hh : ndarray, shape (G*H,), or None
        Gradients of the biases; None if the call had none.
    state : ndarray, shape (B, H), or tuple of ndarray, as (h, c) for LSTM
        Gradient of the initial state, even if it was omitted.
    peepholes : ndarray, shape (3, H) or (2, H), or None
        Gradient of the peephole weights.
    w_hr : ndarray, shape (P, H), or None
        Gradient of the projection.
    layer_norm : tuple of ndarray, or None
        Gradients of the gains and offsets.
    trace : Trace or None
        The gradient at each step, if the call had ``trace=True`` or ``trace="full"``.
    """

    x: Any
    w_ih: Any
    w_hh: Any
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

        always = Grads._fields[:6]
        fields = {k: v for k, v in self._asdict().items() if k in always or v is not None}
        return "Grads(" + ", ".join(f"{k}: {shape(v)}" for k, v in fields.items()) + ")"


# Names of gradients as the core takes them: a bit for each field of `Grads`.
BITS = {name: 1 << k for k, name in enumerate(Grads._fields[:-1])}
ALL = sum(BITS.values())


def bits_of(names: Iterable[str]) -> int:
    return sum(BITS[name] for name in names)


class AttentionGrads(NamedTuple):
    """Gradients of a scalar loss with respect to all arguments of a ``*_attention_forward`` call.

    Each field has the name and shape of an argument, or is None if the call had none or `grads`
    leaves it out.

    Attributes
    ----------
    x : ndarray, shape (T, B, H)
        Gradient of the input.
    query : ndarray, shape (B, H), or (B, Q) for additive attention
        Gradient of the query.
    w_key, w_score, w_query, b : ndarray, shapes (A, H), (A,), (A, Q) and (A,)
        Gradients of the parameters of additive attention.
    """

    x: Any
    query: Array | None
    w_key: Array | None = None
    w_score: Array | None = None
    w_query: Array | None = None
    b: Array | None = None
