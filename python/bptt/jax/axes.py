# SPDX-License-Identifier: MIT
"""The leading axes that `jax.vmap` adds: computed as more sequences, or index by index."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .._types import Array

Given = dict[str, Any]  # arrays by name, or tuples of arrays; None: omitted

# The axis of the sequences, counted from the end, in the arrays that have one for each sequence.
SEQUENCES = {
    "x": -2, "y": -2, "state": -2, "dy": -2, "dstate": -2, "h_mask": -2, "zoneout": -2,
    "lengths": -1, "resets": -1,
}  # fmt: skip


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """A function of every array; None stays None."""
    if isinstance(tree, dict):
        return {name: tree_map(function, branch) for name, branch in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(tree_map(function, branch) for branch in tree)
    return None if tree is None else function(tree)


def leaves(tree: Any) -> list[Any]:
    """Every array."""
    found: list[Any] = []
    tree_map(found.append, tree)
    return found


def leading(given: Given, axes: int) -> tuple[int, ...]:
    """The sizes of the first `axes` axes; 1 where no array is mapped."""
    return np.broadcast_shapes((1,) * axes, *(a.shape[:axes] for a in leaves(given)))


def shared(given: Given) -> Given:
    """The arrays that all sequences have in common."""
    return {name: value for name, value in given.items() if name not in SEQUENCES}


def pick(tree: Any, index: tuple[int, ...]) -> Any:
    """The part at one index of the leading axes."""
    return tree_map(lambda a: a[tuple(i if n > 1 else 0 for i, n in zip(index, a.shape))], tree)


def fold(given: Given, sizes: tuple[int, ...]) -> Given:
    """One call's arrays: the leading axes go into the axis of the sequences."""
    axes = len(sizes)

    def sequences(a: Array, axis: int) -> Array:
        own = a.shape[axes:]
        at = len(own) + axis
        a = np.broadcast_to(a, (*sizes, *own))
        a = np.moveaxis(a, range(axes), range(at, at + axes))
        return a.reshape(*own[:at], -1 if a.size else 0, *own[at + 1 :])

    def one(name: str, value: Any) -> Any:
        if name not in SEQUENCES:
            return pick(value, (0,) * axes)
        return tree_map(lambda a: sequences(a, SEQUENCES[name]), value)

    return {name: one(name, value) for name, value in given.items()}


def unfold(results: Given, sizes: tuple[int, ...]) -> Given:
    """The inverse of `fold`, of results."""
    axes = len(sizes)

    def one(name: str, a: Array) -> Array:
        if name not in SEQUENCES:  # of no call at all
            return np.broadcast_to(a, (*sizes, *a.shape))
        at = a.ndim + SEQUENCES[name]
        each = a.shape[at] // max(1, int(np.prod(sizes)))
        a = a.reshape(*a.shape[:at], *sizes, each, *a.shape[at + 1 :])
        return np.moveaxis(a, range(at, at + axes), range(axes))

    return {name: tree_map(partial(one, name), value) for name, value in results.items()}
