# SPDX-License-Identifier: MIT
"""Layers from modules of PyTorch, without importing PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from .._validate import to_numpy
from ..layers.base import Layer
from ..layers.cells import LAYERS
from ..layers.embedding import Embedding
from ..layers.linear import Linear
from .conventions import check_options
from .entries import Entry, Where, unsupported

__all__ = ["entries_of_module", "is_module"]

MODES = {"RNN_TANH": "rnn", "RNN_RELU": "rnn", "LSTM": "lstm", "GRU": "gru"}
CELLS = {"RNNCell": "rnn", "LSTMCell": "lstm", "GRUCell": "gru"}
DTYPES = {"torch.float64": "float64"}


def is_module(value: Any) -> bool:
    """Is it a module of PyTorch?"""
    torch = sys.modules.get("torch")  # without it, no module exists
    return torch is not None and isinstance(value, torch.nn.Module)


def entries_of_module(where: Where, module: Any, seed: int | None) -> dict[str, Entry]:
    """The layers of a module by their names in it; "" is the module itself.

    `seed` is for the masks of a module in training mode.
    """
    entries: dict[str, Entry] = {}

    def loadable() -> list[str]:
        return [n for n, e in entries.items() if e.title in LOADABLE]

    for name, part in _parts("", module):
        title = _title(part)
        entries[name] = (
            Entry(
                title,
                partial(_made, where, name, part, seed),
                title not in ("Linear", "Embedding"),
            )
            if title in LOADABLE
            else unsupported(where, name, title, loadable)
        )
    if not entries:
        raise ValueError(f"{where} is {type(module).__name__} without parameters")
    return entries


LOADABLE = (*MODES, *CELLS, "Linear", "Embedding")


def _title(module: Any) -> str:
    """The kind of a module: one of LOADABLE, or the name of its class."""
    nn = sys.modules["torch"].nn
    mode = getattr(module, "mode", None)
    if isinstance(mode, str) and mode in MODES:
        return mode
    known = (
        kind for kind in (*CELLS, "Linear", "Embedding") if isinstance(module, getattr(nn, kind))
    )
    return next(known, type(module).__name__)


def _parts(name: str, module: Any) -> Iterator[tuple[str, Any]]:
    """The modules that have parameters and are layers of their own."""
    if _title(module) in LOADABLE:
        yield name, module
        return
    if next(iter(module.parameters(recurse=False)), None) is not None:
        yield name, module
    for child, part in module.named_children():
        yield from _parts(f"{name}.{child}" if name else child, part)


def _made(where: Where, name: str, module: Any, seed: int | None, given: dict[str, Any]) -> Layer:
    title = _title(module)
    options: dict[str, Any] = {} if given.get("dtype") else {"dtype": _dtype(module)}
    if title == "Linear":
        kind: Any = Linear
        sizes = (module.in_features, module.out_features)
        options["bias"] = module.bias is not None
    elif title == "Embedding":
        if module.max_norm is not None:
            raise ValueError(
                f"{where.caller}: {name} has max_norm={module.max_norm}, expected None"
            )
        kind, sizes = Embedding, (module.num_embeddings, module.embedding_dim)
    else:
        kind = LAYERS[CELLS.get(title) or MODES[title]]
        sizes = (module.input_size, module.hidden_size)
        options |= _of_cell(module) if title in CELLS else _of_layer(module, seed)
    check_options(where.caller, kind, given)
    layer: Layer = kind(*sizes, **{**options, **given})
    # A weight under a parametrization is an attribute, but not in the state dict.
    state = {k: v for k, v in module.state_dict().items() if "parametrizations." not in k}
    suffix = "_l0" if title in CELLS else ""
    for parameter in layer.parameters:
        short = parameter.removesuffix(suffix)
        if short not in state and hasattr(module, short):
            state[short] = getattr(module, short)
    layer.load({k: to_numpy(v) for k, v in state.items()})
    return layer


def _dtype(module: Any) -> str:
    kinds = {str(p.dtype) for p in module.parameters()}
    return "float64" if kinds == {"torch.float64"} else "float32"


def _of_cell(module: Any) -> dict[str, Any]:
    options = {"bias": bool(module.bias)}
    relu = getattr(module, "nonlinearity", "tanh")
    return options if relu == "tanh" else {**options, "activation": relu}


def _of_layer(module: Any, seed: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "seed": seed,
        "num_layers": module.num_layers,
        "bias": bool(module.bias),
        "batch_first": module.batch_first,
        "dropout": float(module.dropout) if module.training else 0.0,
        "bidirectional": module.bidirectional,
    }
    if module.mode.startswith("RNN_"):
        options["activation"] = module.mode.removeprefix("RNN_").lower()
    if getattr(module, "proj_size", 0):
        options["proj_size"] = module.proj_size
    return options
