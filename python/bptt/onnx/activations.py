# SPDX-License-Identifier: MIT
"""The activations of ONNX's recurrent operators, and their names here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._cells import ACTIVATIONS, CANDIDATE_ACTIVATIONS, GATE_ACTIVATIONS
from .._words import shown

__all__ = ["OPTIONS", "named_activation", "options_of"]


class Activation(NamedTuple):
    """An activation of ONNX, with the numbers that it takes."""

    name: str
    numbers: tuple[float, ...] = ()  # alpha, then beta


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

# The defaults of alpha and beta: of the operators of the same names. ScaledTanh has none.
NUMBERS: dict[str, tuple[float, ...]] = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "Affine": (1.0, 0.0),
    "LeakyRelu": (0.01,),
    "ThresholdedRelu": (1.0,),
    "ScaledTanh": (math.nan, math.nan),
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1.0,),
    "Softsign": (),
    "Softplus": (),
}
BY_LOWER_CASE = {name.lower(): name for name in NUMBERS}  # as onnxruntime reads them

# The activations that the core has, the first of each name as it is written.
SAME = {
    Activation("Tanh"): "tanh",
    Activation("Relu"): "relu",
    Activation("Sigmoid"): "sigmoid",
    Activation("LeakyRelu", (0.01,)): "leaky_relu",
    Activation("HardSigmoid", (1 / 6, 0.5)): "hard_sigmoid",
    Activation("Affine", (1.0, 0.0)): "identity",
    Activation("ScaledTanh", (1.0, 1.0)): "tanh",
    Activation("LeakyRelu", (0.0,)): "relu",
    Activation("LeakyRelu", (1.0,)): "identity",
    Activation("ThresholdedRelu", (0.0,)): "relu",
}


def options_of(
    caller: str, op: str, names: Sequence[str], alpha: Sequence[float], beta: Sequence[float]
) -> list[dict[str, Any]]:
    """The options of each direction, from the attributes of a node."""
    width = len(OPTIONS[op])
    numbers = (iter(alpha), iter(beta))
    every = [_activation(caller, name, numbers) for name in names]
    groups = [every[k : k + width] for k in range(0, len(every), width)]
    return [_options(caller, op, group) for group in groups]


def _activation(caller: str, name: str, numbers: tuple[Any, Any]) -> Activation:
    """Take the numbers that an activation needs from those left over by the ones before it."""
    known = BY_LOWER_CASE.get(name.lower())
    if known is None:
        raise ValueError(
            f"{caller}: activations has {shown(name)}, expected one of {', '.join(NUMBERS)}"
        )
    taken = tuple(next(left, default) for left, default in zip(numbers, NUMBERS[known]))
    if not all(map(math.isfinite, taken)):
        labels = ("activation_alpha", "activation_beta")
        missing = next(label for label, n in zip(labels, taken) if not math.isfinite(n))
        raise ValueError(f"{caller}: {missing} has no finite number for {known}, expected one")
    return Activation(known, taken)


def _options(caller: str, op: str, group: list[Activation]) -> dict[str, Any]:
    found = {}
    for activation, default, (option, choices) in zip(group, DEFAULTS[op], OPTIONS[op].items()):
        name = _known(activation)
        if name not in choices:
            numbers = "".join(f", {n:.9g}" for n in activation.numbers)
            raise ValueError(
                f"{caller}: activations has {activation.name}{numbers} as {option}, expected one "
                f"of {', '.join(map(_written, choices))}: bptt has no other there"
            )
        if name != SAME[Activation(default)]:
            found[option] = name
    return found


def _known(activation: Activation) -> str | None:
    """The name of an activation here. ONNX stores its numbers in 32 bits."""
    for other, name in SAME.items():
        rounded = [np.float32(n) for n in other.numbers]
        if activation.name == other.name and rounded == [np.float32(n) for n in activation.numbers]:
            return name
    return None


def named_activation(name: str) -> Activation:
    """The activation of ONNX with a name of bptt."""
    return next(activation for activation, own in SAME.items() if own == name)


def _written(name: str) -> str:
    activation = named_activation(name)
    return activation.name + "".join(f" {n:.9g}" for n in activation.numbers)
