# SPDX-License-Identifier: MIT
"""The functions of a header that run a model step by step, with the bits of its stream."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

from .._activations import OF_PLAIN_RNN
from ..layers.embedding import Embedding
from ..layers.expressible import check_expressible
from ..layers.recurrent import Recurrent
from ..sequential.model import Sequential
from ..sequential.places import features_of, titled
from .c_ends import Exported, read_inputs, write_outputs
from .c_layers import LAYERS, Code, activation_of
from .c_names import WHERE, Names, texts

__all__ = ["check_runs_in_c", "program_lines"]

# Options of recurrent layers that bptt.h has, or that stream() checks.
WRITTEN = {
    "num_layers", "bias", "dtype", "residual", "learn_state", "bidirectional", "reverse",
}  # fmt: skip
KINDS = ("rnn", "lstm", "gru")


def check_runs_in_c(model: Sequential) -> None:
    """Raise ValueError if a layer cannot run step by step, or bptt.h lacks what it computes."""
    try:
        model.stream()
    except ValueError as error:
        raise ValueError(f"{WHERE}: {str(error).partition(': ')[2]}") from error
    for k, layer in enumerate(model.layers):
        if not isinstance(layer, tuple(LAYERS)):
            known = ", ".join(kind.__name__ for kind in LAYERS)
            raise ValueError(
                f"{WHERE}: {titled(k, layer)}, has no function in C, expected one of {known}"
            )
        if not isinstance(layer, Recurrent):
            continue
        place, kind = f"{WHERE}: {titled(k, layer)}", layer.structure.kind
        if kind not in KINDS:
            raise ValueError(f"{place}, has no function in C, expected RNN, LSTM or GRU")
        if layer.compute is not None:
            raise ValueError(f"{place}, has compute={layer.compute!r}, expected None in C")
        plain = kind == "rnn" and activation_of(layer) in OF_PLAIN_RNN
        own = {"activation"} if plain else set()
        check_expressible(place, layer, WRITTEN | own, "the program in C")


def program_lines(names: Names, given: Exported) -> list[str]:
    """The lines that follow the weights, whose names are ``PREFIX_NUMBER_NAME``."""
    layers = list(given.model.layers)
    takes_ids = isinstance(layers[0], Embedding)
    size = 1 if takes_ids else features_of(given.model._places) or 0
    code = Code(names.prefix, given.model.dtype, "x", size)
    code.softmax = len(layers) - 1 if given.softmax else None
    extra = read_inputs(code, names, given)
    inputs = code.inputs
    for k, layer in enumerate(layers):
        code.step.append(f"/* {titled(k, layer)} */")
        write = next(write for kind, write in LAYERS.items() if isinstance(layer, kind))
        write(code, k, layer)
    extra += write_outputs(code, names, given)
    for name, values in given.tables.items():
        extra += texts(names, name, values)
    wide = given.scaling is not None or given.changes is not None
    x = "int x" if takes_ids else f"const {'double' if wide else code.type}* x"
    wide = given.unscaling is not None or given.changes is not None
    vocabulary = layers[0].num_embeddings if takes_ids else 0
    text = _text(code, x, "double" if wide else code.type, vocabulary)
    sizes = {"outputs": code.size} | ({"ids": vocabulary} if vocabulary else {"inputs": inputs})
    if given.changes is not None:
        sizes["lead"] = given.changes.lead
    macros = [f"#define {names.macro('', name)} {value}" for name, value in sizes.items()]
    return ["", *macros, *extra, "", text]


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
