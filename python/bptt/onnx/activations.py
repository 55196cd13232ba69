# SPDX-License-Identifier: MIT
"""The activations of ONNX's recurrent operators, and their names in bptt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .._activations import ACTIVATIONS, as_activation
from .._types import Activation
from .._words import shown

__all__ = [
    "DEFAULTS",
    "LABELS",
    "OPTIONS",
    "check_stored",
    "number_of",
    "onnx_activation",
    "options_of",
]

# The options that name the activations f, g and h of an operator.
OPTIONS: dict[str, tuple[str, ...]] = {
    "RNN": ("activation",),
    "GRU": ("gate_activation", "activation"),
    "LSTM": ("gate_activation", "activation", "output_activation"),
}
DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}

# By ONNX's name: the name here, and the defaults of alpha and beta, which are those of ONNX's
# operators of the same names. ScaledTanh has none.
KINDS: dict[str, tuple[str, tuple[float, ...]]] = {
    "Relu": ("relu", ()),
    "Tanh": ("tanh", ()),
    "Sigmoid": ("sigmoid", ()),
    "Affine": ("affine", (1.0, 0.0)),
    "LeakyRelu": ("leaky_relu", (0.01,)),
    "ThresholdedRelu": ("thresholded_relu", (1.0,)),
    "ScaledTanh": ("scaled_tanh", (math.nan, math.nan)),
    "HardSigmoid": ("hard_sigmoid", (0.2, 0.5)),
    "Elu": ("elu", (1.0,)),
    "Softsign": ("softsign", ()),
    "Softplus": ("softplus", ()),
}
BY_LOWER_CASE = {name.lower(): name for name in KINDS}  # as onnxruntime reads them
LABELS = ("activation_alpha", "activation_beta")


def options_of(
    caller: str, op: str, names: Sequence[str], alpha: Sequence[float], beta: Sequence[float]
) -> list[dict[str, Any]]:
    """The options of each direction, from the attributes of a node."""
    numbers, found = (iter(alpha), iter(beta)), []
    for k in range(0, len(names), len(OPTIONS[op])):
        options = {}
        for name, default, option in zip(names[k:], DEFAULTS[op], OPTIONS[op]):
            value = _activation(caller, option, name, numbers)
            if value != KINDS[default][0]:
                options[option] = value
        found.append(options)
    return found


def _activation(caller: str, option: str, name: str, left: tuple[Iterator[float], ...]) -> Any:
    """The value of an option; takes the numbers that it needs from those that are left."""
    known = BY_LOWER_CASE.get(name.lower())
    if known is None:
        raise ValueError(
            f"{caller}: activations has {shown(name)}, expected one of {', '.join(KINDS)}"
        )
    own, defaults = KINDS[known]
    numbers = [number_of(next(n, default)) for n, default in zip(left, defaults)]
    for label, number in zip(LABELS, numbers):
        if not math.isfinite(number):
            raise ValueError(
                f"{caller}: {label} has no finite number for {known}, expected one for each"
            )
    if (own, *numbers) == ("affine", 1.0, 0.0):
        return "identity"
    usual = ACTIVATIONS[own].parameters.values()
    same = [u if np.float32(u) == np.float32(n) else n for u, n in zip(usual, numbers)]
    return as_activation(caller, option, (own, *same))


def number_of(value: float) -> float:
    """The shortest number that 32 bits, as ONNX stores it, do not tell from `value`: 0.2."""
    return float(str(np.float32(value)))


def onnx_activation(place: str, value: Activation, dtype: np.dtype[Any]) -> tuple[str, list[float]]:
    """ONNX's name of an activation here, and alpha and beta."""
    name, *given = (value,) if isinstance(value, str) else value
    if name == "identity":
        return "Affine", [1.0, 0.0]
    known = next(theirs for theirs, (own, _) in KINDS.items() if own == name)
    for number in given:
        if number not in ACTIVATIONS[name].parameters.values():
            check_stored(place, name, number, dtype)
    return known, given or [*ACTIVATIONS[name].parameters.values()]


def check_stored(place: str, name: str, number: float, dtype: np.dtype[Any]) -> None:
    """Raise if a number of a layer in float64 would come back as another."""
    if dtype == np.float64 and number_of(number) != number:
        raise ValueError(
            f"{place} has {name} of {number!r}, expected a number of few digits, such as "
            f"{number_of(number)!r}: ONNX stores 32 bits"
        )
