# SPDX-License-Identifier: MIT
"""What cells are made of: activations with their slopes, exponentials, normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._types import Array

# --- activations: value from the pre-activation, derivative from the value

LEAKY_SLOPE = 0.01


def sigmoid(a: Array) -> Array:
    """By an exponential that does not overflow; to its own last digits where it is nearly 0."""
    e = np.exp(np.where(a.real < 0, a, -a))
    return np.asarray(np.where(a.real < 0, e, 1) / (1 + e))


def clipped(a: Array, bound: float | None) -> tuple[Array, Array]:
    """``a`` within [-bound, bound], and whether it was inside: the derivative."""
    if bound is None:
        return a, np.ones(a.shape)
    inside = np.abs(a.real) < bound
    return np.where(inside, a, np.clip(a.real, -bound, bound)), inside.astype(float)


def hard_sigmoid(a: Array) -> Array:
    return clipped(a / 3, 1)[0] / 2 + 0.5


ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda y: 1 - y * y),
    "relu": (
        lambda a: np.where(a.real <= 0, 0, a),
        lambda y: np.where(y.real <= 0, 0.0, 1.0),
    ),
    "leaky_relu": (
        lambda a: np.where(a.real <= 0, LEAKY_SLOPE * a, a),
        lambda y: np.where(y.real <= 0, LEAKY_SLOPE, 1.0),
    ),
    "sigmoid": (sigmoid, lambda y: y * (1 - y)),
    "hard_sigmoid": (hard_sigmoid, lambda y: np.where((y.real > 0) & (y.real < 1), 1 / 6, 0.0)),
    "identity": (lambda a: a, lambda y: np.ones_like(y)),
}


class Gate(NamedTuple):
    """What an activation made of its argument, and its derivative there."""

    value: Array
    slope: Array


def activated(name: str, a: Array, bound: float | None = None) -> Gate:
    """An activation after the clipping of its argument."""
    a, inside = clipped(a, bound)
    value, derivative = ACTIVATIONS[name]
    y = value(a)
    return Gate(y, derivative(y) * inside)


# --- exponentials that do not overflow


def log_sigmoid(a: Array) -> Array:
    """log(sig(a)) by an exponential that never overflows."""
    small = np.exp(np.where(a.real < 0, a, -a))
    return np.asarray(np.where(a.real < 0, a, 0) - np.log1p(small))


def times_exp(v: Any, a: Array) -> Array:
    """v e^a, wherever it is representable: e^a alone need not be."""
    most = np.log(np.finfo(a.dtype).max) - 1
    half = np.where(np.abs(a.real) < 2 * most, a, np.clip(a.real, -2 * most, 2 * most)) / 2
    with np.errstate(over="ignore"):  # infinite where it is not representable
        return np.asarray(v * np.exp(half) * np.exp(half))


# --- layer normalisation, over the units of each sequence

EPSILON = 1e-5


class Normal(NamedTuple):
    """Values with mean 0 and variance 1, and the deviation that they had."""

    value: Array
    deviation: Array


def normalised(a: Array) -> Normal:
    """Ba, Kiros & Hinton (2016): (a - mean) / sqrt(variance + epsilon), the variance biased.

    The mean of large and nearly equal numbers is rounded by more than they differ, so the mean of
    the remainder is subtracted as well.
    """
    centred = a - a.mean(-1, keepdims=True)
    centred = centred - centred.mean(-1, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(-1, keepdims=True) + EPSILON)
    return Normal(centred / deviation, deviation)


def normalised_grad(d: Array, n: Normal) -> Array:
    along = n.value * (d * n.value).mean(-1, keepdims=True)
    return np.asarray((d - d.mean(-1, keepdims=True) - along) / n.deviation)
