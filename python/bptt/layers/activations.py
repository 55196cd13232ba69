# SPDX-License-Identifier: MIT
"""Activations of `Linear`: the value y, and the gradient of its argument from y and dy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._types import Array

__all__ = ["ACTIVATIONS"]


def _sigmoid(a: Array) -> Array:
    return np.exp(-np.logaddexp(0, -a))


def _elu(a: Array) -> Array:
    return np.where(a > 0, a, np.expm1(np.minimum(a, 0)))


def _softmax(a: Array) -> Array:
    exponentials = np.exp(a - a.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))


def _softmax_gradient(y: Array, dy: Array) -> Array:
    return np.asarray(y * (dy - (y * dy).sum(-1, keepdims=True)))


ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]] = {
    "tanh": (np.tanh, lambda y, dy: dy * (1 - y * y)),
    "relu": (lambda a: np.maximum(a, 0), lambda y, dy: dy * (y > 0)),
    "sigmoid": (_sigmoid, lambda y, dy: dy * (y * (1 - y))),
    "elu": (_elu, lambda y, dy: dy * np.where(y > 0, 1, y + 1)),
    "softmax": (_softmax, _softmax_gradient),
}
