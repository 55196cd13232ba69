# SPDX-License-Identifier: MIT
"""One step of each kind of layer, as lines of C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._cells import CELLS
from ..layers.dropout import Dropout
from ..layers.embedding import Embedding
from ..layers.layer_norm import LayerNorm
from ..layers.linear import Linear
from ..layers.pooling import Last, MeanPool
from ..layers.recurrent import Recurrent
from .c_names import CTYPES, WIDE, number

__all__ = ["LAYERS", "Code", "activation_of"]


class Code:
    """The parts of the functions, as lines of C, and where the last layer's output is."""

    def __init__(self, prefix: str, dtype: np.dtype[Any], at: str, size: int) -> None:
        self.prefix, self.dtype, self.type = prefix, dtype, CTYPES[dtype][0]
        self.at, self.size, self.inputs = at, size, size
        self.members: list[str] = []  # of the state
        self.reset: list[str] = []
        self.step: list[str] = []
        self.cells: list[list[str]] = []  # what each sets in a bptt_desc and bptt_weights
        self.softmax: int | None = None  # the linear layer that a softmax follows

    def array(self, k: int, name: str) -> str:
        return f"{self.prefix}_{k}_{name}"

    def call(self, text: str) -> None:
        self.step += [f"status = {text};", "if (status != BPTT_OK) return status;"]

    def each(self, name: str, value: str, size: int) -> None:
        """Compute an array of the state, element by element."""
        self.member(name, size)
        self.step.append(f"for (i = 0; i < {size}; ++i) s->{name}[i] = {value};")
        self.at, self.size = f"s->{name}", size

    def member(self, name: str, size: int, ctype: str | None = None) -> None:
        self.members.append(f"{ctype or self.type} {name}[{size}];")

    @property
    def dtype_name(self) -> str:
        return f"BPTT_{self.dtype.name.upper()}"


def _embedding(code: Code, k: int, layer: Embedding) -> None:
    code.at = f"({code.array(k, 'weight')} + (size_t)x * {layer.embedding_dim})"
    code.size = layer.embedding_dim


def _linear(code: Code, k: int, layer: Linear) -> None:
    bias = code.array(k, "bias") if layer.bias else "NULL"
    activation = "softmax" if k == code.softmax else layer.activation
    code.member(f"y_{k}", layer.out_features)
    code.call(
        f'bptt_linear({code.dtype_name}, "{activation}", 1, {layer.in_features}, '
        f"{layer.out_features},\n        {code.array(k, 'weight')}, {bias}, {code.at}, s->y_{k})"
    )
    code.at, code.size = f"s->y_{k}", layer.out_features


def _layer_norm(code: Code, k: int, layer: LayerNorm) -> None:
    code.member(f"y_{k}", layer.size)
    eps = number(layer.eps, WIDE)
    code.call(
        f"bptt_layer_norm({code.dtype_name}, 1, {layer.size}, {eps},\n        "
        f"{code.array(k, 'weight')}, {code.array(k, 'bias')}, {code.at}, s->y_{k})"
    )
    code.at, code.size = f"s->y_{k}", layer.size


def _mean_pool(code: Code, k: int, layer: MeanPool) -> None:
    code.member(f"sum_{k}", code.size, "double")
    code.reset.append(f"for (i = 0; i < {code.size}; ++i) s->sum_{k}[i] = 0;")
    code.step.append(f"for (i = 0; i < {code.size}; ++i) s->sum_{k}[i] += {code.at}[i];")
    code.each(f"y_{k}", f"({code.type})(s->sum_{k}[i] / s->steps)", code.size)


def _recurrent(code: Code, k: int, layer: Recurrent) -> None:
    of = layer.structure
    activation = [f'desc->activation = "{activation_of(layer)}";'] if of.kind == "rnn" else []
    for n in range(of.num_layers):
        states = [f"{name}_{k}_l{n}" for name in CELLS[of.kind].states]
        names = {argument: code.array(k, name) for argument, name in of.names(n).items()}
        number_of, below = len(code.cells), code.at
        code.cells.append([
            f'desc->cell = "{of.kind}";', *activation,
            f"desc->input_size = {code.size};", f"desc->hidden_size = {of.hidden_size};",
            *(f"weights->{argument} = {name};" for argument, name in names.items()),
        ])  # fmt: skip
        learnt = [code.array(k, name) for name in of.initial_shapes(n)]
        for i, state in enumerate(states):
            code.member(state, of.hidden_size)
            code.reset.append(
                f"memcpy(s->{state}, {learnt[i]}, sizeof s->{state});" if learnt
                else f"for (i = 0; i < {of.hidden_size}; ++i) s->{state}[i] = 0;"
            )  # fmt: skip
        h, c = (f"s->{state}" for state in (states + ["c"])[:2])
        where = f"&s->desc[{number_of}], &s->weights[{number_of}]"
        code.call(
            f"bptt_step({where}, {below}, {h}, {c if len(states) > 1 else 'NULL'}, s->workspace)"
        )
        code.at, code.size = h, of.hidden_size
        if of.adds_input(n):
            code.each(f"y_{k}_l{n}", f"{h}[i] + {below}[i]", of.hidden_size)


def _nothing(code: Code, k: int, layer: Any) -> None:
    """The newest step is the last one so far, and nothing is dropped."""


def activation_of(layer: Recurrent) -> Any:
    """The argument of an RNN."""
    return getattr(layer, "activation", None)


LAYERS: dict[Any, Callable[[Code, int, Any], None]] = {
    Embedding: _embedding, Recurrent: _recurrent, Linear: _linear, LayerNorm: _layer_norm,
    MeanPool: _mean_pool, Last: _nothing, Dropout: _nothing,
}  # fmt: skip
