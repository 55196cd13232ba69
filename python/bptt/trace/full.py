# SPDX-License-Identifier: MIT
"""The gradients behind the norms of a trace."""

from __future__ import annotations

from typing import NamedTuple

from .._types import Array


class FullTrace(NamedTuple):
    """The gradients behind the norms, zero beyond the lengths.

    Attributes
    ----------
    dh : ndarray, shape (T, B, H)
        Of h after each step ((T, B, P) with a projection).
    dc : ndarray, shape (T, B, H), or None
        Of c after each step, as the tape holds it; of cells that have it.
    gates : dict of str to ndarray, shape (T, B, H)
        Of the argument of each gate, w_ih x + b_ih + w_hh h + b_hh.
    x, operand : ndarray, shapes (T, B, I) and (T, B, H)
        What w_ih and w_hh multiplied.
    inner : ndarray, shape (T, B, H), or None
        What w_hn of a GRU with ``reset_after=False`` multiplied: r h.
    apart : ndarray, shape (T, B, H), or None
        The gradient of what w_hh gives to a gate that takes it apart from the input: n of GRU (with
        ``reset_after=True``) and MGU.
    """

    dh: Array
    dc: Array | None
    gates: dict[str, Array]
    x: Array
    operand: Array
    inner: Array | None
    apart: Array | None
