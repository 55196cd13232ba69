# SPDX-License-Identifier: MIT
"""Hints for names guessed from PyTorch or Keras: what to write in bptt instead."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Container, Mapping
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

from ._words import listed, shown

P = ParamSpec("P")
R = TypeVar("R")

_NO_ARGUMENT = "no such argument"
_CPU = "everything is computed on the CPU"
_MODE = "forward(x) for training, and layer(x) for inference"
_DTYPE = "dtype='float32' or 'float64' in the constructor"
_INITIALIZERS = ("kernel_initializer", "recurrent_initializer", "bias_initializer")
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
    **dict.fromkeys(("units", "hidden"), "hidden_size, its name in bptt"),
    "use_bias": "bias, its name in bptt",
    **dict.fromkeys(("h0", "c0"), "state, its name in bptt"),
    **dict.fromkeys(("n_epochs", "max_iter"), "epochs, its name in bptt"),
    "mask": "lengths, the number of steps of each sequence",
    "time_major": "batch_first, False by default",
    "stateful": f"{_NO_ARGUMENT}: pass the state that a call returns, or see layer.stream()",
    "unit_forget_bias": f"{_NO_ARGUMENT}: bptt.init.forget_bias(layer, 1.0)",
    **dict.fromkeys(_INITIALIZERS, f"{_NO_ARGUMENT}: bptt.init has functions for parameters"),
    "learning_rate": "lr, its name in bptt",
    "epsilon": "eps, its name in bptt",
    **dict.fromkeys(("beta_1", "beta_2"), "betas, a tuple of both"),
    **dict.fromkeys(("clipnorm", "global_clipnorm"), f"{_NO_ARGUMENT}: bptt.clip_grad_norm"),
    "clipvalue": f"{_NO_ARGUMENT}: bptt.clip_grad_value",
    "random_state": "seed, its name in bptt",
    "verbose": "progress, its name in bptt",
    "T_max": "t_max, its name in bptt",
    "return_sequences": f"{_NO_ARGUMENT}: {_RESULTS}",
    "return_state": f"{_NO_ARGUMENT}: {_RESULTS}",
}
# The same where a class differs.
OF_CLASS = {
    "Linear": {"units": "out_features, its name in bptt"},
    "Embedding": {
        "input_dim": "num_embeddings, its name in bptt",
        "output_dim": "embedding_dim, its name in bptt",
    },
}
# Names of the package that it does not have, or not until they are imported.
NAMES = {
    **{name: f"'import bptt.{name}' first" for name in ("jax", "onnx", "torch")},
    "CosineAnnealingLR": "bptt.CosineAnnealing",
    "CrossEntropyLoss": "bptt.cross_entropy",
    "MSELoss": "bptt.mse",
    "BCEWithLogitsLoss": "bptt.binary_cross_entropy",
    "Dense": "bptt.Linear",
    "SimpleRNN": "bptt.RNN",
}
# The parameters of PyTorch's RNNCell, LSTMCell and GRUCell.
CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def attribute_error(caller: str, name: str, parameters: Container[str]) -> str:
    """The message for an unknown attribute."""
    if name in parameters:
        return f"{caller} has no attribute {name}, expected parameters[{name!r}]"
    answer = f", expected {ATTRIBUTES[name]}" if name in ATTRIBUTES else ""
    return f"{caller} has no attribute {shown(name)}{answer}"


def unknown_name(name: str) -> NoReturn:
    """Raise for a name that the package does not have, and say what to write instead."""
    answer = f", expected {NAMES[name]}" if name in NAMES else ""
    raise AttributeError(
        f"module 'bptt' has no attribute {name!r}{answer}", name=name, obj=sys.modules[__package__]
    )


def answering(function: Callable[P, R]) -> Callable[P, R]:
    """Add a hint to errors about unknown arguments of a constructor or method."""

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        try:
            return function(*args, **options)
        except TypeError as error:
            if "unexpected keyword" not in str(error):
                raise
            caller, known = type(args[0]).__name__, inspect.signature(function).parameters
            unknown = [name for name in options if name not in known]
            if not unknown or any(p.kind is p.VAR_KEYWORD for p in known.values()):
                raise
            hints = ARGUMENTS | OF_CLASS.get(caller, {})
            name = next((name for name in unknown if name in hints), unknown[0])
            expected = hints.get(name) or f"some of {listed([*known][1:], 40)}"
            raise TypeError(f"{caller}: {name} is given, expected {expected}") from None

    return call


def numbered(arrays: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rename the parameters of one of PyTorch's cells to the names of a layer."""
    of_cell = arrays and all(name in CELL for name in arrays)
    return {f"{name}_l0": array for name, array in arrays.items()} if of_cell else arrays
