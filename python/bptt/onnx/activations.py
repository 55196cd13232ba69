# SPDX-License-Identifier: MIT
"""The activations of ONNX's recurrent operators, and their names here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .._cells import ACTIVATIONS, CANDIDATE_ACTIVATIONS, GATE_ACTIVATIONS
from .._words import shown

__all__ = ["DEFAULTS", "LABELS", "OPTIONS", "number_of", "onnx_activation", "options_of"]

# The options that name the activations f, g and h of an operator, and what each may be.
OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "RNN": {"activation": ACTIVATIONS},
    "GRU": {"gate_activation": GATE_ACTIVATIONS, "activation": CANDIDATE_ACTIVATIONS},
    "LSTM": {
        "gate_activation": GATE_ACTIVATIONS,
        "activation": CANDIDATE_ACTIVATIONS,
        "output_activation": CANDIDATE_ACTIVATIONS,
    },
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

# The defaults of the parameters here, where they matter to ONNX.
PARAMETERS = {"leaky_relu": (0.01,), "hard_sigmoid": (1 / 6, 0.5)}
# Activations with parameters that are others without any.
SAME = {
    ("affine", 1.0, 0.0): "identity",
    ("scaled_tanh", 1.0, 1.0): "tanh",
    ("leaky_relu", 0.0): "relu",
    ("leaky_relu", 1.0): "identity",
    ("thresholded_relu", 0.0): "relu",
}


def options_of(
    caller: str, op: str, names: Sequence[str], alpha: Sequence[float], beta: Sequence[float]
) -> list[dict[str, Any]]:
    """The options of each direction, from the attributes of a node."""
    numbers, found = (iter(alpha), iter(beta)), []
    for k in range(0, len(names), len(OPTIONS[op])):
        options = {}
        for name, default, option in zip(names[k:], DEFAULTS[op], OPTIONS[op]):
            value = _activation(caller, op, option, name, numbers)
            if value != KINDS[default][0]:
                options[option] = value
        found.append(options)
    return found


def _activation(
    caller: str, op: str, option: str, name: str, left: tuple[Iterator[float], ...]
) -> str:
    """The value of an option; takes the numbers that it needs from those that are left."""
    known = BY_LOWER_CASE.get(name.lower())
    if known is None:
        raise ValueError(
            f"{caller}: activations has {shown(name)}, expected one of {', '.join(KINDS)}"
        )
    own, defaults = KINDS[known]
    numbers = tuple(number_of(next(n, default)) for n, default in zip(left, defaults))
    for label, number in zip(LABELS, numbers):
        if not math.isfinite(number):
            raise ValueError(
                f"{caller}: {label} has no finite number for {known}, expected one for each"
            )
    usual = PARAMETERS.get(own, ())
    if usual and tuple(map(np.float32, usual)) == tuple(map(np.float32, numbers)):
        numbers = ()
    value = SAME.get((own, *numbers), own)
    if value not in OPTIONS[op][option] or (value == own and numbers):
        written = " ".join([known, *(f"{n:.9g}" for n in numbers)])
        raise ValueError(
            f"{caller}: activations has {written} as {option}, expected one of "
            f"{', '.join(map(_written, OPTIONS[op][option]))}: bptt has no other there"
        )
    return value


def number_of(value: float) -> float:
    """The shortest number that 32 bits, as ONNX stores it, do not tell from `value`: 0.2."""
    return float(str(np.float32(value)))


def onnx_activation(value: str) -> tuple[str, tuple[float, ...]]:
    """ONNX's name of an activation here, and alpha and beta."""
    if value == "identity":
        return "Affine", (1.0, 0.0)
    known = next(theirs for theirs, (own, _) in KINDS.items() if own == value)
    return known, PARAMETERS.get(value, ())


def _written(value: str) -> str:
    name, numbers = onnx_activation(value)
    return " ".join([name, *(f"{n:.9g}" for n in numbers)])
