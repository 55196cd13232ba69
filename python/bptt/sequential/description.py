# SPDX-License-Identifier: MIT
"""The description of a model in a file: the class and arguments of each layer, as JSON."""

from __future__ import annotations

import inspect
import json
from typing import Any

__all__ = ["ESTIMATOR_KEY", "KEY", "VERSION", "as_metadata", "described"]

KEY = "bptt.Sequential"  # of the metadata of a file
ESTIMATOR_KEY = "bptt.models"  # of that of an estimator
VERSION = 1


def described(model: Any) -> dict[str, Any]:
    """The model without its arrays, for JSON."""
    return {
        "version": VERSION,
        "layers": [
            {"class": type(of).__name__, "arguments": _arguments(of)} for of in model.layers
        ],
        "frozen": sorted(model.frozen),
    }


def _arguments(layer: Any) -> dict[str, Any]:
    """The constructor's arguments that differ from their defaults; the arrays replace the seed."""
    arguments = {}
    for name, argument in inspect.signature(type(layer)).parameters.items():
        value = layer.dtype.name if name == "dtype" else getattr(layer, name, None)
        if name != "seed" and value != argument.default:
            arguments[name] = value
    return arguments


def as_metadata(model: Any) -> dict[str, str]:
    return {KEY: json.dumps(described(model))}
