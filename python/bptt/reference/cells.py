# SPDX-License-Identifier: MIT
"""The cells: what one step makes of its sums, and the gradient of that.

A cell is a pair of functions::

    step(x_gates, h_gates, state, options) -> (new_state, saved)
    grad(d_new_state, saved, state, options) -> (d_x_gates, d_h_gates, d_state, d_parameters)

on lists of (B, H) arrays, one per gate in the order that its step names. ``saved`` holds by name
what the gradient needs, each gate with its slope. ``d_parameters`` holds by name the gradients of
parameters that belong to units, not yet summed over the sequences: (..., B, H); and as "c" the
whole gradient of the new c, for the trace. Whatever is not element by element (products,
projection) is the business of `products`, time that of `loop`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from .._cells import CELLS as KINDS
from .._types import Array

Gates = list[Array]
States = tuple[Array, ...]
Saved = dict[str, Any]
Step = tuple[States, Saved]
Gradient = tuple[Gates, Gates, States, dict[str, Array]]


# The options of all cells, as attributes; those that a call leaves out have their defaults.
Options = SimpleNamespace
DEFAULTS = {name: default for cell in KINDS.values() for name, default in cell.defaults.items()}


def options_of(cell: str, given: dict[str, Any]) -> Options:
    for name in given:
        if name not in KINDS[cell].options:
            raise TypeError(f"{cell}_forward() got an unexpected keyword argument {name!r}")
    return Options(**DEFAULTS | given)


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


# --- layer normalisation, over the units of each sequence

EPSILON = 1e-5


class Normal(NamedTuple):
    """Values with mean 0 and variance 1, and the deviation that they had."""

    value: Array
    deviation: Array


def normalised(a: Array) -> Normal:
    """Ba, Kiros & Hinton (2016): (a - mean) / sqrt(variance + epsilon), the variance biased.

    The mean of large and nearly equal numbers is rounded by more than they differ: that of what is
    left of them is taken away as well.
    """
    centred = a - a.mean(-1, keepdims=True)
    centred = centred - centred.mean(-1, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(-1, keepdims=True) + EPSILON)
    return Normal(centred / deviation, deviation)


def normalised_grad(d: Array, n: Normal) -> Array:
    along = n.value * (d * n.value).mean(-1, keepdims=True)
    return np.asarray((d - d.mean(-1, keepdims=True) - along) / n.deviation)


# --- cells with one state


def rnn_step(x: Gates, h: Gates, s: States, o: Options) -> Step:
    """Elman (1990): h' = act(x + h).

    With a leak a (Jaeger et al., 2007): h' = (1 - a) h + a act(x + h).
    """
    y = activated(o.activation, x[0] + h[0], o.preact_clip)
    new = y.value if o.leak is None else (1 - o.leak) * s[0] + o.leak * y.value
    return (new,), {"y": y}


def rnn_grad(ds: Gates, k: Saved, s: States, o: Options) -> Gradient:
    leak = 1.0 if o.leak is None else o.leak
    d = ds[0] * leak * k["y"].slope
    return [d], [d], ((1 - leak) * ds[0],), {}


def gru_step(x: Gates, h: Gates, s: States, o: Options) -> Step:
    """Cho et al. (2014); gates r z n.

    n = act(x_n + sig(r) h_n),   h' = (1 - sig(z)) n + sig(z) h.

    The reset is applied after the recurrent product (PyTorch, cuDNN); else it is already in h_n.
    """
    r = activated(o.gate_activation, x[0] + h[0], o.preact_clip)
    z = activated(o.gate_activation, x[1] + h[1], o.preact_clip)
    h_n = r.value * h[2] if o.reset_after else h[2]
    n = activated(o.activation, x[2] + h_n, o.preact_clip)
    new = (1 - z.value) * n.value + z.value * s[0]
    return (new,), {"r": r, "z": z, "n": n, "h_n": h[2]}


def gru_grad(ds: Gates, k: Saved, s: States, o: Options) -> Gradient:
    r, z, n = k["r"], k["z"], k["n"]
    dn = ds[0] * (1 - z.value) * n.slope
    dz = ds[0] * (s[0] - n.value) * z.slope
    passed = ds[0] * z.value
    if not o.reset_after:
        dr = np.zeros_like(dn)  # `products.step_grad` adds it
        return [dr, dz, dn], [dr, dz, dn], (passed,), {}
    dr = dn * k["h_n"] * r.slope
    return [dr, dz, dn], [dr, dz, dn * r.value], (passed,), {}


def mgu_step(x: Gates, h: Gates, s: States, o: Options) -> Step:
    """Zhou et al. (2016), forget gate applied after the recurrent product; gates f n.

    n = tanh(x_n + sig(f) h_n),   h' = (1 - sig(f)) n + sig(f) h.

    The last two f are those of Flax and of the GRU's z: an open gate keeps h. The paper has them
    the other way round, (1 - f) h + f n, so that the gate that opens h to n closes it to h'.
    """
    f = activated("sigmoid", x[0] + h[0], o.preact_clip)
    n = activated("tanh", x[1] + f.value * h[1], o.preact_clip)
    return (n.value + f.value * (s[0] - n.value),), {"f": f, "n": n, "h_n": h[1]}


def mgu_grad(ds: Gates, k: Saved, s: States, o: Options) -> Gradient:
    f, n = k["f"], k["n"]
    dn = ds[0] * (1 - f.value) * n.slope
    df = (ds[0] * (s[0] - n.value) + dn * k["h_n"]) * f.slope
    return [df, dn], [df, dn * f.value], (ds[0] * f.value,), {}
