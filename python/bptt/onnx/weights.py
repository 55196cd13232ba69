# SPDX-License-Identifier: MIT
"""Weights in ONNX's arrangement, and in the core's.

ONNX has W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H) and P (D, 3*H) for D directions. Its gates are
i o f c, and i o f in P; z r h in a GRU. Ours are i f g o, and r z n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._types import Array
from .._validate import check_shape
from .attributes import Attributes

__all__ = ["Weights", "cells_of", "onnx_arrays"]

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
# The places of our gates among ONNX's; with a coupled forget gate, there is no row for it here.
ORDER = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}
COUPLED = (0, 3, 1)
PEEPHOLES = (0, 2, 1)
COUPLED_PEEPHOLES = (0, 1)


class Weights(NamedTuple):
    """The arrays of one direction, as the functions take them."""

    w_ih: Array
    w_hh: Array
    b_ih: Array | None = None
    b_hh: Array | None = None
    peepholes: Array | None = None


def cells_of(
    caller: str, a: Attributes, arrays: dict[str, Array | None], dtype: np.dtype[Any]
) -> list[Weights]:
    """The weights of each direction, from W, R, B and P."""
    W, R, B, P = (arrays.get(name) for name in "WRBP")
    G, D = GATES[a.op], len(a.reverse)
    for name, array in (("W", W), ("R", R)):
        if array is None or array.ndim != 3:
            has = "missing" if array is None else f"of shape {array.shape}"
            raise ValueError(f"{caller}: {name} is {has}, expected 3 axes: (D, G*H, ...)")
    assert W is not None
    assert R is not None
    H = R.shape[2] if a.hidden_size is None else a.hidden_size
    if not H:
        raise ValueError(f"{caller}: R has shape {R.shape}, expected one unit or more")
    check_shape(caller, "W", W, "(D, G*H, I)", (D, G * H, W.shape[2]))
    check_shape(caller, "R", R, "(D, G*H, H)", (D, G * H, H))
    if B is not None:
        check_shape(caller, "B", B, "(D, 2*G*H)", (D, 2 * G * H))
    if P is not None:
        check_shape(caller, "P", P, "(D, 3*H)", (D, 3 * H))
    order, of_p = _orders(a)
    cells = []
    for d in range(D):
        cell = Weights(_pick(W[d], order, G, dtype), _pick(R[d], order, G, dtype))
        if B is not None:
            b_ih, b_hh = (_pick(b, order, G, dtype) for b in np.split(B[d], 2))
            cell = cell._replace(b_ih=b_ih, b_hh=b_hh)
        if P is not None:
            cell = cell._replace(peepholes=_pick(P[d], of_p, 3, dtype).reshape(len(of_p), H))
        cells.append(cell)
    return cells


def onnx_arrays(a: Attributes, cells: Sequence[Weights]) -> dict[str, Array]:
    """W, R, B and P of all directions: the inverse of `cells_of`, with 0 in rows of no use."""
    G, (order, of_p) = GATES[a.op], _orders(a)
    found = {
        "W": np.stack([_place(c.w_ih, order, G) for c in cells]),
        "R": np.stack([_place(c.w_hh, order, G) for c in cells]),
    }
    if cells[0].b_ih is not None and cells[0].b_hh is not None:
        biases = [[_place(b, order, G) for b in (c.b_ih, c.b_hh)] for c in cells]  # type: ignore[arg-type]
        found["B"] = np.stack([np.concatenate(pair) for pair in biases])
    if cells[0].peepholes is not None:
        rows = [np.ravel(c.peepholes) for c in cells]  # type: ignore[arg-type]
        found["P"] = np.stack([_place(p, of_p, 3) for p in rows])
    return found


def _orders(a: Attributes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The places of our gates among ONNX's, and of our peepholes."""
    if a.op == "LSTM" and a.coupled:
        return COUPLED, COUPLED_PEEPHOLES
    return ORDER[a.op], PEEPHOLES


def _pick(array: Array, order: tuple[int, ...], count: int, dtype: np.dtype[Any]) -> Array:
    """The blocks at the places `order` of `count` blocks of rows."""
    blocks = array.reshape(count, -1, *array.shape[1:])[list(order)]
    return np.ascontiguousarray(blocks.reshape(-1, *array.shape[1:]), dtype)


def _place(array: Array, order: tuple[int, ...], count: int) -> Array:
    """The inverse of `_pick`."""
    rows = len(array) // len(order)
    blocks = np.zeros((count, rows, *array.shape[1:]), array.dtype)
    blocks[list(order)] = array.reshape(len(order), rows, *array.shape[1:])
    return blocks.reshape(count * rows, *array.shape[1:])
