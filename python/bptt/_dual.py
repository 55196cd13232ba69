# SPDX-License-Identifier: MIT
"""Arrays of dual numbers, value + e tangent with e * e = 0, for derivatives along a direction.

The functions of the core accept them in place of arrays, and then return them too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._types import Array


class Dual(np.ndarray):
    """complex128, with the tangent as the imaginary part, since NumPy has no other pairs.

    Linear operations with real numbers are correct; products of two duals are not.
    """

    __array_priority__ = 1.0  # concatenated arrays are duals too


def dual(value: Array, tangent: Array | None = None) -> Dual:
    array = np.zeros(value.shape, np.complex128)
    array.real = value
    if tangent is not None:
        array.imag = tangent
    return array.view(Dual)


def as_duals(tree: Any) -> Any:
    """The results of the core, as duals."""
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
