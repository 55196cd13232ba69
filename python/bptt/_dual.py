# SPDX-License-Identifier: MIT
"""Arrays of dual numbers, value + e tangent with e * e = 0: what derivatives along a direction
are computed with. The functions take them where they take arrays, and give them where they do."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._types import Array


class Dual(np.ndarray):
    """complex128, the tangent in place of the imaginary part: NumPy has no other pairs.

    Linear operations with real numbers are right as they are; products of two duals are not.
    """

    __array_priority__ = 1.0  # joined arrays are duals too


def dual(value: Array, tangent: Array | None = None) -> Dual:
    array = np.zeros(value.shape, np.complex128)
    array.real = value
    if tangent is not None:
        array.imag = tangent
    return array.view(Dual)


def as_duals(tree: Any) -> Any:
    """What the core returns, marked as what it is."""
    if isinstance(tree, tuple):
        return tuple(map(as_duals, tree))
    return tree.view(Dual) if isinstance(tree, np.ndarray) else tree


def parts(tree: Any) -> tuple[Any, Any]:
    """Values and tangents."""
    if isinstance(tree, dict):
        split = {name: parts(branch) for name, branch in tree.items()}
        values, tangents = ({name: pair[k] for name, pair in split.items()} for k in range(2))
        return values, tangents
    if isinstance(tree, (tuple, list)):
        pairs = [parts(branch) for branch in tree]
        return tuple(value for value, _ in pairs), tuple(tangent for _, tangent in pairs)
    if tree is None:
        return None, None
    array = np.asarray(tree)
    return array.real.copy(), array.imag.copy()
