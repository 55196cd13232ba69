# SPDX-License-Identifier: MIT
"""Answers to who guesses a name from PyTorch or Keras: what to write here instead."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from ._words import shown

P = ParamSpec("P")
R = TypeVar("R")

_CPU = "nothing in its place: all is computed on the CPU"
_NOTHING = "nothing in its place"
_MODE = "forward(x) for training, and a call of the layer, layer(x), for inference"
_DTYPE = "dtype='float32' or 'float64' of the constructor"

# What an object of theirs has and ours has not.
ATTRIBUTES = {
    **dict.fromkeys(("train", "eval", "training"), _MODE),
    **dict.fromkeys(("cuda", "cpu", "device"), _CPU),
    **dict.fromkeys(("to", "float", "double", "half", "bfloat16"), _DTYPE),
    "zero_grad": f"{_NOTHING}: backward returns new gradients",
    "grad": "grads.params of grads = layer.backward(tape, dy)",
    "named_parameters": "parameters.items()",
    "all_weights": "parameters.values()",
    "flatten_parameters": f"{_NOTHING}: parameters are NumPy arrays",
    "reset_parameters": "a new layer, or the functions of bptt.init",
    "requires_grad_": "an optimiser of some of the parameters",
    "nonlinearity": "activation",
}
# What their functions take and ours do not.
ARGUMENTS = {
    "nonlinearity": "activation, its name here",
    "training": _MODE,
    "device": _CPU,
    "hx": "state, its name here",
    "initial_state": "state, its name here",
    "input": "x, its name here",
    "units": "hidden_size, its name here",
    "T_max": "t_max, its name here",
    "return_sequences": f"{_NOTHING}: the results are all outputs and the last state",
    "return_state": f"{_NOTHING}: the results are all outputs and the last state",
}
CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of PyTorch's RNNCell, LSTMCell, GRUCell


def attribute_error(caller: str, name: str, parameters: Container[str]) -> str:
    """The message for an attribute that is not there."""
    if name in parameters:
        return f"{caller} has no attribute {name}, expected parameters[{name!r}]"
    answer = f", expected {ATTRIBUTES[name]}" if name in ATTRIBUTES else ""
    return f"{caller} has no attribute {shown(name)}{answer}"


def answering(function: Callable[P, R]) -> Callable[P, R]:
    """A constructor or method that says which argument is meant by a name of theirs."""

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
    """The parameters of one of PyTorch's cells by the names of a layer."""
    known = arrays and all(name in CELL for name in arrays)
    return {f"{name}_l0": array for name, array in arrays.items()} if known else arrays
