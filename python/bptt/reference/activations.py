# SPDX-License-Identifier: MIT
"""What cells are made of: activations with their slopes, exponentials, normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._types import Array

# --- activations: value from the argument, derivative from the argument and the value; at a kink,
# the derivative below it. A name may come with parameters, in a tuple.


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


def clipped_to_unit(a: Array, slope: float, offset: float) -> Array:
    return clipped(2 * (slope * a + offset) - 1, 1)[0] / 2 + 0.5


def split(a: Array, below: Any, above: Any, at: float = 0) -> Array:
    """`below` where a <= at, else `above`."""
    return np.asarray(np.where(a.real <= at, below, above))


def size(a: Array) -> Array:
    """|a|, with its derivative along a."""
    return split(a, -a, a)


def below_0(a: Array) -> Array:
    return split(a, a, 0)


Value = Callable[..., Array]  # of (a, *parameters)
Derivative = Callable[..., Array]  # of (a, y, *parameters)

ACTIVATIONS: dict[str, tuple[Value, Derivative]] = {
    "tanh": (np.tanh, lambda a, y: 1 - y * y),
    "relu": (lambda a: split(a, 0, a), lambda a, y: split(y, 0.0, 1.0)),
    "leaky_relu": (
        lambda a, slope=0.01: split(a, slope * a, a),
        lambda a, y, slope=0.01: split(a, slope, 1.0),
    ),
    "sigmoid": (sigmoid, lambda a, y: y * (1 - y)),
    "hard_sigmoid": (
        lambda a, slope=1 / 6, offset=0.5: clipped_to_unit(a, slope, offset),
        lambda a, y, slope=1 / 6, offset=0.5: np.where((y.real > 0) & (y.real < 1), slope, 0.0),
    ),
    "identity": (lambda a: a, lambda a, y: np.ones_like(y)),
    "elu": (
        lambda a, scale=1.0: split(a, scale * (np.exp(below_0(a)) - 1), a),
        lambda a, y, scale=1.0: split(a, scale * np.exp(below_0(a)), 1.0),
    ),
    "softsign": (lambda a: a / (1 + size(a)), lambda a, y: 1 / (1 + size(a)) ** 2),
    "softplus": (lambda a: -log_sigmoid(-a), lambda a, y: sigmoid(a)),
    "thresholded_relu": (
        lambda a, threshold=1.0: split(a, 0, a, threshold),
        lambda a, y, threshold=1.0: split(a, 0.0, 1.0, threshold),
    ),
    "scaled_tanh": (
        lambda a, scale=1.0, factor=1.0: scale * np.tanh(factor * a),
        lambda a, y, scale=1.0, factor=1.0: scale * factor * (1 - np.tanh(factor * a) ** 2),
    ),
    "affine": (
        lambda a, slope=1.0, offset=0.0: slope * a + offset,
        lambda a, y, slope=1.0, offset=0.0: np.full_like(y, slope),
    ),
}
STEP = 1e-170  # of the complex step


def functions_of(activation: Any) -> tuple[Value, Derivative]:
    """The value, and the derivative from argument and value.

    An activation is a name; a tuple of a name and its parameters; a function of an array; or a
    tuple of a function and its derivative. A function alone has to take complex arrays, as its
    derivative is that of the complex step.
    """
    head, *rest = activation if isinstance(activation, tuple) else (activation,)
    if isinstance(head, str):
        value, derivative = ACTIVATIONS[head]
        return lambda a: value(a, *rest), lambda a, y: derivative(a, y, *rest)
    if rest:
        return head, lambda a, y: rest[0](a)

    def slope(a: Array, y: Array) -> Array:
        wide = a.real.astype(np.result_type(a.real, np.float64))  # single precision lacks the step
        return np.asarray(head(wide + 1j * STEP).imag / STEP, a.real.dtype)

    return head, slope


class Gate(NamedTuple):
    """What an activation made of its argument, and its derivative there."""

    value: Array
    slope: Array


def activated(activation: Any, a: Array, bound: float | None = None) -> Gate:
    """An activation after the clipping of its argument."""
    a, inside = clipped(a, bound)
    value, derivative = functions_of(activation)
    y = value(a)
    return Gate(y, derivative(a, y) * inside)


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
