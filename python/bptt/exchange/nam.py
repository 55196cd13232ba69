# SPDX-License-Identifier: MIT
"""The LSTM of Neural Amp Modeler's .nam files.

The file is JSON with all numbers in one list: of each layer w_ih and w_hh side by side, of shape
(4H, I + H), one bias, and the initial h and c; then the weight and bias of a dense layer with one
output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._types import Array
from .._words import shown
from ..layers.base import Layer
from ..layers.cells import LSTM
from ..layers.linear import Linear
from .conventions import check_options

__all__ = ["is_nam", "layers_of_nam"]

MOST = 1 << 20  # of each size


def is_nam(model: Mapping[str, Any]) -> bool:
    return "architecture" in model and "weights" in model


def layers_of_nam(
    caller: str, model: Mapping[str, Any], options: dict[str, Any]
) -> dict[str, Layer]:
    """The recurrent layer, which begins with the file's state, and the dense layer."""
    if model["architecture"] != "LSTM":
        raise ValueError(
            f"{caller}: architecture is {shown(model['architecture'])}, expected 'LSTM'"
        )
    config = model.get("config")
    if not isinstance(config, Mapping):
        raise ValueError(f"{caller}: config is {shown(config)}, expected an object")
    I, H, L = (_size(caller, config, key) for key in ("input_size", "hidden_size", "num_layers"))
    weights = model["weights"]
    of_layer = [4 * H * (inputs + H) + 4 * H + 2 * H for inputs in (I, *[H] * (L - 1))]
    count = sum(of_layer) + H + 1
    if not isinstance(weights, list) or len(weights) != count:
        has = len(weights) if isinstance(weights, list) else type(weights).__name__
        raise ValueError(f"{caller}: weights has {has} numbers, expected {count} of these sizes")
    wrong = next((k for k, value in enumerate(weights) if not isinstance(value, float)), None)
    if wrong is not None:
        raise ValueError(
            f"{caller}: weights[{wrong}] is {shown(weights[wrong])}, expected a number"
        )
    with np.errstate(over="ignore"):
        numbers = np.array(weights, np.float64).astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{caller}: weights has numbers too large, expected float32")
    check_options(caller, LSTM, options)
    parts = np.split(numbers, np.cumsum(of_layer))
    arrays: dict[str, Array] = {}
    for k, part in enumerate(parts[:L]):
        inputs = H if k else I
        matrix, bias, first = np.split(part, [4 * H * (inputs + H), 4 * H * (inputs + H + 1)])
        w_ih, w_hh = np.split(matrix.reshape(4 * H, inputs + H), [inputs], axis=1)
        arrays |= {f"weight_ih_l{k}": w_ih, f"weight_hh_l{k}": w_hh}
        arrays |= {f"bias_ih_l{k}": bias, f"bias_hh_l{k}": np.zeros_like(bias)}
        arrays[f"h0_l{k}"], arrays[f"c0_l{k}"] = first.reshape(2, H)
    lstm = LSTM(I, H, L, **{"learn_state": True, **options})
    lstm.load(arrays)
    head = Linear(H, 1, dtype=lstm.dtype)
    head.load({"weight": parts[L][None, :H], "bias": parts[L][H:]})
    return {"lstm": lstm, "head": head}


def _size(caller: str, config: Mapping[str, Any], key: str) -> int:
    value = config.get(key, 1.0 if key == "input_size" else None)
    if not isinstance(value, float) or not value.is_integer() or not 1 <= value <= MOST:
        raise ValueError(f"{caller}: config.{key} is {shown(value)}, expected a whole number")
    return int(value)
