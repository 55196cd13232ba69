# SPDX-License-Identifier: MIT
"""The table of activations: their parameters, the ends of their ranges, their largest slopes."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isfinite
from typing import Any, NamedTuple

from ._types import Activation
from ._validate import as_number
from ._words import shown

Bounds = tuple[float, float]

LEAST = 1.2e-38  # the smallest normal number of float32: a ReLU below it is off
OFF: Bounds = (LEAST, inf)
ALL: Bounds = (-inf, inf)
NONE: Bounds = (inf, -inf)  # of a constant, which is at its end everywhere


class Kind(NamedTuple):
    """An activation of a gate.

    Attributes
    ----------
    parameters : dict of str to float
        The names of its parameters, with the defaults.
    inside : callable
        From the parameters to the bounds of values that are more than 1 % away from an end of the
        range; None where the value does not tell that.
    steepest : callable
        From the parameters to the largest absolute slope.
    """

    parameters: dict[str, float]
    inside: Callable[..., Bounds | None]
    steepest: Callable[..., float]


def _unless_constant(bounds: Bounds, *parameters: float) -> Bounds:
    return bounds if all(parameters) else NONE


def _scaled(scale: float, factor: float) -> Bounds:
    return _unless_constant((-0.99 * abs(scale), 0.99 * abs(scale)), scale, factor)


def _below_0(end: float, slope: float) -> Bounds | None:
    """Of a function that is a above 0, and below 0 approaches -end with a slope of this sign."""
    return None if slope < 0 else OFF if slope == 0 else (-0.99 * end if end else LEAST, inf)


ACTIVATIONS = {
    "tanh": Kind({}, lambda: (-0.99, 0.99), lambda: 1.0),
    "relu": Kind({}, lambda: OFF, lambda: 1.0),
    "leaky_relu": Kind(
        {"slope": 0.01}, lambda slope: _below_0(0, slope), lambda slope: max(1.0, abs(slope))
    ),
    "sigmoid": Kind({}, lambda: (0.01, 0.99), lambda: 0.25),
    "identity": Kind({}, lambda: ALL, lambda: 1.0),
    "hard_sigmoid": Kind(
        {"slope": 1 / 6, "offset": 0.5},
        lambda slope, offset: _unless_constant((0.01, 0.99), slope),
        lambda slope, offset: abs(slope),
    ),
    "elu": Kind(
        {"scale": 1.0}, lambda scale: _below_0(scale, scale), lambda scale: max(1.0, abs(scale))
    ),
    "softsign": Kind({}, lambda: (-0.99, 0.99), lambda: 1.0),
    "softplus": Kind({}, lambda: (0.01, inf), lambda: 1.0),
    "thresholded_relu": Kind(
        {"threshold": 1.0}, lambda threshold: None if threshold < 0 else OFF, lambda threshold: 1.0
    ),
    "scaled_tanh": Kind(
        {"scale": 1.0, "factor": 1.0}, _scaled, lambda scale, factor: abs(scale * factor)
    ),
    "affine": Kind(
        {"slope": 1.0, "offset": 0.0},
        lambda slope, offset: _unless_constant(ALL, slope),
        lambda slope, offset: abs(slope),
    ),
}
NAMES = tuple(ACTIVATIONS)
OF_PLAIN_RNN = NAMES[:6]  # in the core, with the default parameters


def as_activation(caller: str, name: str, value: Any) -> Activation:
    """Return a name, or a tuple of a name and all its parameters if one is not its default."""
    parts = value if isinstance(value, (tuple, list)) and value else (value,)
    if not isinstance(parts[0], str) or parts[0] not in ACTIVATIONS:
        raise ValueError(
            f"{caller}: {name} is {shown(value)}, expected one of {NAMES}, or a tuple of a name "
            "and its parameters"
        )
    kind, given = str(parts[0]), parts[1:]
    known = ACTIVATIONS[kind].parameters
    if len(given) > len(known):
        expected = f"at most {kind!r} and {', '.join(known)}" if known else f"{kind!r} alone"
        raise ValueError(f"{caller}: {name} is {shown(value)}, expected {expected}")
    numbers = dict(known)
    for parameter, number in zip(known, given):
        numbers[parameter] = as_number(caller, f"{parameter} of {name}", number)
        if not isfinite(numbers[parameter]):
            raise ValueError(
                f"{caller}: {parameter} of {name} is {shown(number)}, expected a finite number"
            )
    return kind if numbers == known else (kind, *numbers.values())


def _known(activation: Activation) -> tuple[Kind, list[float]]:
    """The row of an activation, and all its parameters."""
    name, *given = (activation,) if isinstance(activation, str) else activation
    kind = ACTIVATIONS[name]
    return kind, [*given, *[*kind.parameters.values()][len(given) :]]


def inside(activation: Any) -> Bounds | None:
    """The bounds of values that are not saturated; None where values do not tell.

    So it is of "exp", the gate of an sLSTM whose range has no end, and of a function.
    """
    head = activation[0] if isinstance(activation, tuple) else activation
    if not isinstance(head, str) or head == "exp":
        return None
    kind, parameters = _known(activation)
    return kind.inside(*parameters)


def turns_off(activation: Activation) -> bool:
    """Is a unit that is saturated off, at 0, as that of a ReLU?"""
    return inside(activation) == OFF


def steepest(activation: Activation) -> float:
    """The largest absolute slope."""
    kind, parameters = _known(activation)
    return kind.steepest(*parameters)
