# SPDX-License-Identifier: MIT
"""The gradients that one backward pass returns, and dicts of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .trace import Trace

Array = NDArray[Any]
State = Any  # h for cells with no other, the tuple (h, c) for LSTM, (h, c, n, m) for sLSTM


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


MOST_SHOWN = 80  # letters of a value in a message


def shown(value: object) -> str:
    """A value in a message: its repr, on one line and cut."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # of an int with more digits than Python prints, and what users define
        text = f"of type {type(value).__name__}"
    if len(text) <= MOST_SHOWN:
        return text
    return f"{text[:MOST_SHOWN]}... ({len(text)} letters)"


def check_mapping(where: str, label: str, value: object, tensors: bool = False) -> None:
    """Refuse what holds the arrays instead of them, and names that are no text.

    Where tensors are taken too, a module of PyTorch is told what to give.
    """
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"{where}: {label} has the name {shown(name)}, expected text")
        return
    if hasattr(value, "named_parameters"):  # a module of PyTorch
        hint = ": pass .state_dict()" if tensors else ""
    else:
        hint = next((f": pass .{f}" for f in ("params", "parameters") if hasattr(value, f)), "")
    raise TypeError(
        f"{where}: {label} is of type {type(value).__name__}, expected a dict of arrays{hint}"
    )
