# SPDX-License-Identifier: MIT
"""The gradients whose norms a trace holds."""

from __future__ import annotations

from typing import NamedTuple

from .._types import Array


class FullTrace(NamedTuple):
    """The gradients whose norms a trace holds, and the operands of the weights.

    All are zero beyond the lengths.

    Attributes
    ----------
    dh : ndarray, shape (T, B, H)
        Gradient of h after each step ((T, B, P) with a projection).
    dc : ndarray, shape (T, B, H), or None
        Gradient of c after each step, as the tape holds c; None for cells without c.
    gates : dict of str to ndarray, shape (T, B, H)
        Gradient of the argument of each gate, w_ih x + b_ih + w_hh h + b_hh.
    x, operand : ndarray, shapes (T, B, I) and (T, B, H)
        The arrays that w_ih and w_hh multiplied.
    second_operand : ndarray, shape (T, B, H), or None
        The array r h that w_hn multiplied, in a GRU with ``reset_after=False``.
    split_gate : ndarray, shape (T, B, H), or None
        Gradient of w_hn h + b_hn, for the gate n of GRU (with ``reset_after=True``) and MGU, which
        keeps it separate from w_in x + b_in.
    """

    dh: Array
    dc: Array | None
    gates: dict[str, Array]
    x: Array
    operand: Array
    second_operand: Array | None
    split_gate: Array | None
