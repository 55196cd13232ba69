# SPDX-License-Identifier: MIT
"""Hints for names guessed from PyTorch or Keras: what to write in bptt instead."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from ._words import shown

P = ParamSpec("P")
R = TypeVar("R")

_NO_ARGUMENT = "no such argument"
_CPU = "everything is computed on the CPU"
_MODE = "forward(x) for training, and layer(x) for inference"
_DTYPE = "dtype='float32' or 'float64' in the constructor"
_RESULTS = "the results are all outputs and the last state"

# Attributes of objects of PyTorch and Keras that bptt does not have.
ATTRIBUTES = {
    **dict.fromkeys(("train", "eval", "training"), _MODE),
    **dict.fromkeys(("cuda", "cpu", "device"), f"none: {_CPU}"),
    **dict.fromkeys(("to", "float", "double", "half", "bfloat16"), _DTYPE),
    "zero_grad": "none: backward returns new gradients",
    "grad": "grads.params, with grads = layer.backward(tape, dy)",
    "named_parameters": "parameters.items()",
    "all_weights": "parameters.values()",
    "flatten_parameters": "none: parameters are NumPy arrays, which prepare() packs",
    "compile": "prepare(), for calls with packed weights",
    "quantize": "prepare('int8')",
    "reset_parameters": "a new layer, or the functions of bptt.init",
    "requires_grad_": "frozen, the names of parameters that do not learn",
    "nonlinearity": "activation",
}
# Arguments of functions of PyTorch and Keras that bptt does not have.
ARGUMENTS = {
    "nonlinearity": "activation, its name in bptt",
    "training": _MODE,
    "device": f"{_NO_ARGUMENT}: {_CPU}",
    "hx": "state, its name in bptt",
    "initial_state": "state, its name in bptt",
    "input": "x, its name in bptt",
    "go_backwards": "reverse, its name in bptt",
    "recurrent_activation": "gate_activation, its name in bptt",
    "units": "hidden_size, its name in bptt",
    "T_max": "t_max, its name in bptt",
    "return_sequences": f"{_NO_ARGUMENT}: {_RESULTS}",
    "return_state": f"{_NO_ARGUMENT}: {_RESULTS}",
}
# The parameters of PyTorch's RNNCell, LSTMCell and GRUCell.
CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def attribute_error(caller: str, name: str, parameters: Container[str]) -> str:
    """The message for an unknown attribute."""
    if name in parameters:
        return f"{caller} has no attribute {name}, expected parameters[{name!r}]"
    answer = f", expected {ATTRIBUTES[name]}" if name in ATTRIBUTES else ""
    return f"{caller} has no attribute {shown(name)}{answer}"


def answering(function: Callable[P, R]) -> Callable[P, R]:
    """Add a hint to errors about unknown arguments of a constructor or method."""

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        try:
            return function(*args, **options)
        except TypeError as error:
            if "unexpected keyword" not in str(error):
                raise
            for name in options:
                if name in ARGUMENTS:
                    caller = type(args[0]).__name__
                    raise TypeError(
                        f"{caller}: {name} is given, expected {ARGUMENTS[name]}"
                    ) from None
            raise

    return call


def numbered(arrays: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rename the parameters of one of PyTorch's cells to the names of a layer."""
    of_cell = arrays and all(name in CELL for name in arrays)
    return {f"{name}_l0": array for name, array in arrays.items()} if of_cell else arrays
