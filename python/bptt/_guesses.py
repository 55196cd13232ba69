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
# The same of optimisers.
OF_OPTIMISERS = {
    "zero_grad": ATTRIBUTES["zero_grad"],
    "param_groups": "groups, and lr for all parameters",
    "learning_rate": "lr",
    **dict.fromkeys(("cuda", "cpu", "to"), f"none: {_CPU}"),
}
# Arguments of functions of PyTorch, Keras and scikit-learn that have other names in bptt.
RENAMED: dict[str, tuple[str, ...]] = {
    "nonlinearity": ("activation",),
    "recurrent_activation": ("gate_activation",),
    "go_backwards": ("reverse",),
    "use_bias": ("bias",),
    "units": ("hidden_size", "out_features"),
    "hidden": ("hidden_size", "out_features"),
    "input_dim": ("num_embeddings", "input_size", "in_features"),
    "output_dim": ("embedding_dim", "out_features"),
    "input": ("x",),
    **dict.fromkeys(("hx", "h0", "c0", "initial_state"), ("state",)),
    "mask": ("lengths",),
    "time_major": ("batch_first",),
    "T_max": ("t_max",),
    "learning_rate": ("lr",),
    "epsilon": ("eps",),
    **dict.fromkeys(("beta_1", "beta_2"), ("betas",)),
    **dict.fromkeys(("n_epochs", "max_iter"), ("epochs",)),
    "random_state": ("seed",),
    "verbose": ("progress",),
}
# Arguments that bptt does not have.
ARGUMENTS = {
    "training": _MODE,
    "device": f"{_NO_ARGUMENT}: {_CPU}",
    "stateful": f"{_NO_ARGUMENT}: pass the state that a call returns, or see layer.stream()",
    "unit_forget_bias": f"{_NO_ARGUMENT}: bptt.init.forget_bias(layer, 1.0)",
    **dict.fromkeys(_INITIALIZERS, f"{_NO_ARGUMENT}: bptt.init has functions for parameters"),
    **dict.fromkeys(("clipnorm", "global_clipnorm"), f"{_NO_ARGUMENT}: bptt.clip_grad_norm"),
    "clipvalue": f"{_NO_ARGUMENT}: bptt.clip_grad_value",
    "return_sequences": f"{_NO_ARGUMENT}: {_RESULTS}",
    "return_state": f"{_NO_ARGUMENT}: {_RESULTS}",
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


def unknown_attribute(
    owner: Any, name: str, answers: Mapping[str, str], parameters: Container[str] = ()
) -> NoReturn:
    """Raise for an attribute that does not exist, and say what to write instead."""
    if hasattr(type(owner), name):  # a property has failed: with its own error
        object.__getattribute__(owner, name)
    caller = type(owner).__name__
    if name in parameters:
        message = f"{caller} has no attribute {name}, expected parameters[{name!r}]"
    else:
        answer = f", expected {answers[name]}" if name in answers else ""
        message = f"{caller} has no attribute {shown(name)}{answer}"
    raise AttributeError(message, name=name, obj=owner)


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
            known = [*inspect.signature(function).parameters][1:]
            unknown = [name for name in options if name not in known]
            if not unknown or not args:
                raise
            name = next((n for n in unknown if n in RENAMED or n in ARGUMENTS), unknown[0])
            raise TypeError(
                f"{type(args[0]).__name__}: {name} is given, expected {_instead(name, known)}"
            ) from None

    return call


def _instead(name: str, known: list[str]) -> str:
    """What to write in place of an unknown argument of a function."""
    new = next((new for new in RENAMED.get(name, ()) if new in known), None)
    if new is not None:
        return f"{new}, its name in bptt"
    return ARGUMENTS.get(name) or f"some of {listed(known, 40)}"


def numbered(arrays: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rename the parameters of one of PyTorch's cells to the names of a layer."""
    of_cell = arrays and all(name in CELL for name in arrays)
    return {f"{name}_l0": array for name, array in arrays.items()} if of_cell else arrays
