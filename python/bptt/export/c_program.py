# SPDX-License-Identifier: MIT
"""The functions of a header that run a model step by step, with the bits of its stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from string import Template
from typing import Any, NamedTuple

import numpy as np

from .._activations import OF_PLAIN_RNN
from .._cells import CELLS
from .._types import Array
from ..layers.dropout import Dropout
from ..layers.embedding import Embedding
from ..layers.expressible import check_expressible
from ..layers.layer_norm import LayerNorm
from ..layers.linear import Linear
from ..layers.pooling import Last, MeanPool
from ..layers.recurrent import Recurrent
from ..sequential.model import Sequential
from ..sequential.places import titled
from .c_names import CTYPES, WHERE, Names, array_lines, number, texts

__all__ = ["Exported", "check_runs_in_c", "program_lines"]

# Options of recurrent layers that bptt.h has, or that stream() checks.
WRITTEN = {
    "num_layers", "bias", "dtype", "residual", "learn_state", "bidirectional", "reverse",
}  # fmt: skip
KINDS = ("rnn", "lstm", "gru")


class Exported(NamedTuple):
    """A model, and what an estimator does before and after it.

    Attributes
    ----------
    scaling : pair of ndarray of float64, or None
        Mean and scale: the model takes (x - mean) / scale.
    unscaling : pair of ndarray of float64, or None
        Mean and scale: the result is y scale + mean.
    softmax : bool
        Is the result the softmax of y?
    tables : dict of str to sequence of str
        Text by number: of classes, of tokens.
    """

    model: Sequential
    scaling: tuple[Array, Array] | None = None
    unscaling: tuple[Array, Array] | None = None
    softmax: bool = False
    tables: Mapping[str, Sequence[str]] = {}


def check_runs_in_c(model: Sequential) -> None:
    """Raise ValueError if a layer cannot run step by step, or bptt.h lacks what it computes."""
    try:
        model.stream()
    except ValueError as error:
        raise ValueError(f"{WHERE}: {str(error).partition(': ')[2]}") from error
    for k, layer in enumerate(model.layers):
        if not isinstance(layer, Recurrent):
            continue
        place, kind = f"{WHERE}: {titled(k, layer)}", layer.structure.kind
        if kind not in KINDS:
            raise ValueError(f"{place}, has no function in C, expected RNN, LSTM or GRU")
        if layer.compute is not None:
            raise ValueError(f"{place}, has compute={layer.compute!r}, expected None in C")
        plain = kind == "rnn" and _activation(layer) in OF_PLAIN_RNN
        own = {"activation"} if plain else set()
        check_expressible(place, layer, WRITTEN | own, "the program in C")


def _activation(layer: Recurrent) -> Any:
    return getattr(layer, "activation", None)


# --- a layer at a time ----------------------------------------------------------------------------


class Code:
    """The parts of the functions, as lines of C, and where the last layer's output is."""

    def __init__(self, prefix: str, dtype: np.dtype[Any], at: str, size: int) -> None:
        self.prefix, self.dtype, self.type = prefix, dtype, CTYPES[dtype][0]
        self.at, self.size = at, size
        self.members: list[str] = []  # of the state
        self.reset: list[str] = []
        self.step: list[str] = []
        self.cells: list[list[str]] = []  # what each sets in a bptt_desc and bptt_weights

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
    code.member(f"y_{k}", layer.out_features)
    code.call(
        f'bptt_linear({code.dtype_name}, "{layer.activation}", 1, {layer.in_features}, '
        f"{layer.out_features},\n        {code.array(k, 'weight')}, {bias}, {code.at}, s->y_{k})"
    )
    code.at, code.size = f"s->y_{k}", layer.out_features


def _layer_norm(code: Code, k: int, layer: LayerNorm) -> None:
    code.member(f"y_{k}", layer.size)
    eps = number(layer.eps, np.dtype(np.float64))
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
    activation = [f'desc->activation = "{_activation(layer)}";'] if of.kind == "rnn" else []
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


LAYERS: dict[Any, Callable[[Code, int, Any], None]] = {
    Embedding: _embedding, Recurrent: _recurrent, Linear: _linear, LayerNorm: _layer_norm,
    MeanPool: _mean_pool, Last: _nothing, Dropout: _nothing,
}  # fmt: skip


# --- the whole ------------------------------------------------------------------------------------


def program_lines(names: Names, given: Exported) -> list[str]:
    """The lines that follow the weights, whose names are ``PREFIX_NUMBER_NAME``."""
    model, prefix = given.model, names.prefix
    layers, takes_ids = list(model.layers), isinstance(model.layers[0], Embedding)
    wide = np.dtype(np.float64)
    code = Code(prefix, model.dtype, "x", 1 if takes_ids else _input_size(layers))
    inputs, extra = code.size, list[str]()
    if given.scaling is not None:
        for name, array in zip(("mean", "scale"), given.scaling):
            extra += array_lines(names, name, array.astype(wide))
        of = f"(x[i] - {prefix}_mean[i]) / {prefix}_scale[i]"
        code.each("x", f"({code.type})({of})", inputs)
    for k, layer in enumerate(layers):
        code.step.append(f"/* {titled(k, layer)} */")
        write = next(write for kind, write in LAYERS.items() if isinstance(layer, kind))
        write(code, k, layer)
    if given.unscaling is not None:
        for name, array in zip(("y_mean", "y_scale"), given.unscaling):
            extra += array_lines(names, name, array.astype(wide))
        code.step += [
            f"for (i = 0; i < {code.size}; ++i) {{",
            "    /* A volatile product is rounded, also where a compiler could fuse it. */",
            f"    volatile double product = {code.at}[i] * {prefix}_y_scale[i];",
            f"    y[i] = product + {prefix}_y_mean[i];", "}",
        ]  # fmt: skip
    else:
        code.step.append(f"memcpy(y, {code.at}, {code.size} * sizeof *y);")
    for name, values in given.tables.items():
        extra += texts(names, name, values)
    x = "int x" if takes_ids else f"const {_type(code, given.scaling)}* x"
    vocabulary = layers[0].num_embeddings if takes_ids else 0
    text = _text(code, x, _type(code, given.unscaling), vocabulary)
    return ["", *_sizes(names, inputs, code.size, vocabulary), *extra, "", text]


def _type(code: Code, scaling: Any) -> str:
    return code.type if scaling is None else "double"


def _input_size(layers: Sequence[Any]) -> int:
    """The features of x: those that the first layer of a fixed size takes."""
    for layer in layers:
        for name in ("input_size", "in_features", "size"):
            if hasattr(layer, name):
                return int(getattr(layer, name))
    raise AssertionError("a model with parameters has a size")


def _sizes(names: Names, inputs: int, outputs: int, vocabulary: int) -> list[str]:
    sizes = {"outputs": outputs} | ({"ids": vocabulary} if vocabulary else {"inputs": inputs})
    return [f"#define {names.macro('', name)} {value}" for name, value in sizes.items()]


def _text(code: Code, x: str, y: str, vocabulary: int) -> str:
    cases = [
        line
        for k, cell in enumerate(code.cells)
        for line in (f"case {k}:", *(f"    {one}" for one in cell), "    break;")
    ]
    count, indent = len(code.cells), "\n    "
    checks = [f"if (x < 0 || x >= {vocabulary}) return BPTT_INVALID_ARGUMENT;"] * bool(vocabulary)
    members = ["double steps; /* since the state was reset */", *code.members]
    if count:
        members = [
            f"bptt_desc desc[{count}];", f"bptt_weights weights[{count}];", "void* workspace;",
            *members,
        ]  # fmt: skip
    steps = [*checks, "s->steps += 1;", *code.step]
    text = Template(HEAD + (CELLS_OF_MODEL if count else NO_CELLS) + RUN)
    return text.substitute(
        cases=indent.join(cases), count=count, members=indent.join(members), x=x, y=y,
        reset=indent.join([*_declared(code.reset), "s->steps = 0;", *code.reset]),
        step=indent.join([*_declared(steps), *steps]), dtype=code.dtype_name, name=code.prefix,
        NAME=code.prefix.upper(),
    )  # fmt: skip


def _declared(lines: Sequence[str]) -> list[str]:
    """Declarations of the variables that lines use."""
    text = "\n".join(lines)
    used = {"bptt_status status;": "status = ", "size_t i;": "(i = 0;"}
    return [declaration for declaration, mark in used.items() if mark in text]


HEAD = """\
/* The model step by step, with the bits of its stream() in Python. Link with libbptt.a.

     ${name}_state* s = malloc(${name}_bytes());
     if (!s || ${name}_start(s) != BPTT_OK) ...        bptt_last_error() says why
     ${name}_step(s, x, y);                            the next step of one sequence
     ${name}_reset(s);                                 another sequence begins

   The state is not to be copied or moved. Each sequence has its own. */
#include <stddef.h>
#include <string.h>

#include "bptt.h"

#if defined(__cplusplus)
#define ${NAME}_FUNCTION static inline
#elif defined(__GNUC__)
#define ${NAME}_FUNCTION static __attribute__((unused))
#else
#define ${NAME}_FUNCTION static
#endif

typedef struct ${name}_state {
    ${members}
} ${name}_state;

${NAME}_FUNCTION void ${name}_reset(${name}_state* s) {
    ${reset}
}
"""

CELLS_OF_MODEL = """
/* Describes recurrent layer k; returns the bytes of its packed weights, 0 if this CPU runs none. */
${NAME}_FUNCTION size_t ${name}_cell(int k, bptt_desc* desc, bptt_weights* weights,
                                       size_t* workspace) {
    bptt_sizes sizes;
    memset(desc, 0, sizeof *desc);
    memset(weights, 0, sizeof *weights);
    memset(&sizes, 0, sizeof sizes);
    desc->struct_size = sizeof *desc;
    sizes.struct_size = sizeof sizes;
    desc->dtype = ${dtype};
    desc->steps = desc->batch = 1;
    switch (k) {
    ${cases}
    default: break;
    }
    if (bptt_query(desc, &sizes) != BPTT_OK) return 0;
    if (sizes.step_workspace > *workspace) *workspace = sizes.step_workspace;
    return (sizes.packed + BPTT_ALIGNMENT - 1) / BPTT_ALIGNMENT * BPTT_ALIGNMENT;
}

/* Bytes of memory for a state, aligned as malloc() does; 0 if this CPU runs no layer. */
${NAME}_FUNCTION size_t ${name}_bytes(void) {
    bptt_desc desc;
    bptt_weights weights;
    size_t bytes = sizeof(${name}_state) + BPTT_ALIGNMENT, workspace = 0;
    int k;
    for (k = 0; k < ${count}; ++k) {
        const size_t packed = ${name}_cell(k, &desc, &weights, &workspace);
        if (!packed) return 0;
        bytes += packed;
    }
    return bytes + workspace;
}

/* Packs the weights into ${name}_bytes() bytes of memory and resets the state. */
${NAME}_FUNCTION bptt_status ${name}_start(${name}_state* s) {
    unsigned char* next;
    size_t workspace = 0;
    int k;
    if (!s) return BPTT_INVALID_ARGUMENT;
    next = (unsigned char*)(s + 1);
    next += (BPTT_ALIGNMENT - (size_t)next % BPTT_ALIGNMENT) % BPTT_ALIGNMENT;
    for (k = 0; k < ${count}; ++k) {
        const size_t packed = ${name}_cell(k, &s->desc[k], &s->weights[k], &workspace);
        bptt_status status;
        if (!packed) return BPTT_UNSUPPORTED;
        status = bptt_pack(&s->desc[k], &s->weights[k], next);
        if (status != BPTT_OK) return status;
        s->weights[k].packed = next;
        next += packed;
    }
    s->workspace = next;
    ${name}_reset(s);
    return BPTT_OK;
}
"""

NO_CELLS = """
${NAME}_FUNCTION size_t ${name}_bytes(void) { return sizeof(${name}_state); }

${NAME}_FUNCTION bptt_status ${name}_start(${name}_state* s) {
    if (!s) return BPTT_INVALID_ARGUMENT;
    ${name}_reset(s);
    return BPTT_OK;
}
"""

RUN = """
/* One step; y: [${NAME}_OUTPUTS]. */
${NAME}_FUNCTION bptt_status ${name}_step(${name}_state* s, ${x}, ${y}* y) {
    ${step}
    return BPTT_OK;
}"""
