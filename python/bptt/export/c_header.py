# SPDX-License-Identifier: MIT
"""Weights as constant arrays in a header of C89 and C++."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._cells import CELLS
from .._core import __version__
from .._files.access import Path, mark, write_file
from .._types import Array
from .._validate import as_array, as_choice, as_path, check_mapping, to_numpy
from .._words import shown
from ..exchange.state_dict import recurrent_parts, sizes_of
from ..layers.base import Layer
from ..layers.cells import LAYERS
from ..layers.masks import is_mask_count
from ..layers.recurrent import Recurrent
from ..trace.nonfinite import check_finite
from .c_ends import Exported
from .c_names import WHERE, Names, array_lines, as_prefix, identifier
from .c_program import check_runs_in_c, program_lines
from .source import exported, read_model

__all__ = ["HEADER", "as_header", "save_c_header"]

START = "/* Weights of "
HEADER = mark("a header made by bptt", START.encode(), b", made by bptt ")

TEMPLATE = (
    START
    + """\
{name}, made by bptt {version}: names and shapes as in PyTorch, arrays row-major.
   Valid in C89 and C++; in C++11 and later the arrays are constexpr. Define {NAME}_CONST before
   this header to place them otherwise, as with PROGMEM or alignas(64). */
#ifndef {NAME}_H
#define {NAME}_H

#ifndef {NAME}_CONST
#if defined(__cplusplus) && __cplusplus >= 201103L
#define {NAME}_CONST static constexpr
#else
#define {NAME}_CONST static const
#endif
#endif
{body}
#endif
"""
)


def save_c_header(
    path: Path,
    model: Layer | Mapping[str, Any] | Path,
    name: str | None = None,
    *,
    cell: str | None = None,
) -> None:
    """Write a model as a header of C89 and C++: weights as constant arrays, and a step function.

    An array is named after its parameter: ``amp_lstm_weight_ih_l0`` for "lstm.weight_ih_l0" of a
    model named "amp". Macros hold its shape (``AMP_LSTM_WEIGHT_IH_L0_DIM0``) and the sizes of
    each recurrent layer (``AMP_LSTM_HIDDEN_SIZE``). A compiler reads the same bits back. The header
    of a `Sequential` or an estimator also has the functions ``amp_start``, ``amp_step`` and
    ``amp_reset``, which run it with the bits of its `stream`. The file is written whole or not at
    all.

    Parameters
    ----------
    path : str or path-like
        The header: a new file, or an earlier header.
    model : Sequential, estimator, Layer, torch.nn.Module, dict of str to array_like, or path
        A model, a fitted estimator of `bptt.models`, a layer, arrays by name, layers by name, or a
        file written by their `save`, `bptt.save` or safetensors.
    name : str, optional
        The prefix of all names, a C identifier; if omitted, the name of the file without suffix.
    cell : {"rnn", "lstm", "gru", "mgu", "slstm", "lstm1997"}, optional
        The kind of cell, if recurrent weights are given as arrays. If omitted, the number of gates
        determines it: RNN 1, MGU 2, GRU 3, LSTM 4.

    Raises
    ------
    ValueError
        If a model has a layer that cannot run step by step in C, such as a bidirectional one; if a
        number is not finite, an array is empty, two names give the same identifier, `name` is
        no identifier, or `path` is a file that bptt did not make; nothing is written.
    TypeError
        If `model` is of another type or holds anything but floating-point numbers.
    OSError
        If a file cannot be read or written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import bptt
    >>> gru = bptt.GRU(1, 2, bias=False, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "amp.h"
    ...     bptt.save_c_header(path, gru)
    ...     text = path.read_text()
    >>> print(text[text.index("/* GRU") :])
    /* GRU(1, 2, bias=False) */
    #define AMP_CELL "gru"
    #define AMP_GATES 3 /* r z n */
    #define AMP_INPUT_SIZE 1
    #define AMP_HIDDEN_SIZE 2
    #define AMP_NUM_LAYERS 1
    #define AMP_DIRECTIONS 1
    #define AMP_PROJ_SIZE 0
    <BLANKLINE>
    #define AMP_WEIGHT_IH_L0_DIM0 6
    #define AMP_WEIGHT_IH_L0_DIM1 1
    AMP_CONST float amp_weight_ih_l0[6] = {
        0.193693072f, -0.325570762f, -0.649161458f, -0.683733165f, 0.443031013f, 0.583724558f
    };
    <BLANKLINE>
    #define AMP_WEIGHT_HH_L0_DIM0 6
    #define AMP_WEIGHT_HH_L0_DIM1 2
    AMP_CONST float amp_weight_hh_l0[12] = {
        0.150805756f, 0.324557155f, 0.0616950542f, 0.615285337f, 0.44668439f, -0.703233957f,
        0.505445957f, -0.659609616f, 0.324781835f, -0.458692223f, 0.513612568f, 0.0586350188f
    };
    #endif
    <BLANKLINE>
    """
    write_file(WHERE, path, as_header(path, model, name, cell), HEADER)


def as_header(path: Path, model: Any, name: str | None, cell: str | None) -> bytes:
    """The content that `save_c_header` writes."""
    path = as_path(WHERE, path)
    arrays, layers, program = _collect(model)
    if cell is not None:
        as_choice(WHERE, "cell", cell, tuple(LAYERS))
        if any(isinstance(layer, Layer) for layer in layers.values()):
            raise ValueError(f"{WHERE}: cell is {cell!r}, expected None: the layer has its own")
    names = Names(as_prefix(path, name))
    lines = []
    for key, layer in layers.items():
        if isinstance(layer, Layer):  # its options are not in the weights
            title = ": ".join(filter(None, (identifier(key), repr(layer).splitlines()[0])))
            lines.append(f"/* {title} */")
    for key, part in recurrent_parts(WHERE, arrays).items():
        lines += _part_lines(names, key, part, layers.get(key), cell)
    for key, array in arrays.items():
        lines += array_lines(names, key, array)
    if program is not None:
        lines += program_lines(names, program)
    text = TEMPLATE.format(
        name=names.prefix, NAME=names.prefix.upper(), version=__version__, body="\n".join(lines)
    )
    return text.encode("ascii")


def _collect(model: Any) -> tuple[dict[str, Array], dict[str, Any], Exported | None]:
    """All arrays by name, all layers by the prefix of their arrays' names, and a whole model."""
    if isinstance(model, (str, os.PathLike)):
        model = read_model(WHERE, as_path(WHERE, model, "model"))
    program = exported(WHERE, model)
    if program is not None:
        check_runs_in_c(program.model)
        model = {str(k): layer for k, layer in enumerate(program.model.layers)}
    if hasattr(model, "state_dict"):
        model = {"": model}
    if not isinstance(model, Mapping):
        raise TypeError(
            f"{WHERE}: model is of type {type(model).__name__}, expected a layer, a dict of arrays "
            "or layers, or a file"
        )
    check_mapping(WHERE, "model", model, tensors=True)
    arrays: dict[str, Array] = {}
    layers = {key: value for key, value in model.items() if hasattr(value, "state_dict")}
    for key, value in model.items():
        state = value.state_dict() if key in layers else {"": value}
        arrays |= {".".join(filter(None, (key, k))): to_numpy(a) for k, a in state.items()}
    arrays = {key: array for key, array in arrays.items() if not is_mask_count(key, array)}
    if not arrays:
        raise ValueError(f"{WHERE}: model has no arrays, expected one or more")
    return {key: _checked(key, array) for key, array in arrays.items()}, layers, program


def _checked(key: str, value: Any) -> Array:
    key = f"model[{shown(key)}]"
    array = as_array(WHERE, key, value)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise TypeError(f"{WHERE}: {key} has dtype {array.dtype}, expected float32 or float64")
    if not array.size:
        raise ValueError(f"{WHERE}: {key} has shape {array.shape}, expected no size of 0")
    check_finite(f"{WHERE}: {key}", array)
    return array.astype(np.result_type(array, np.float32))


def _part_lines(
    names: Names, prefix: str, part: Mapping[str, Array], layer: Any, cell: str | None
) -> list[str]:
    """Macros for the sizes of a recurrent layer."""
    sizes = sizes_of(WHERE, part, layer.structure.kind if isinstance(layer, Recurrent) else cell)
    order = _gate_order(sizes.cell, sizes.gates)
    values = {name.upper(): value for name, value in sizes._asdict().items()}
    values["CELL"] = f'"{sizes.cell}"'
    values["GATES"] = f"{sizes.gates} /* {order} */" if order else sizes.gates
    return [f"#define {names.macro(prefix, name)} {value}" for name, value in values.items()]


def _gate_order(kind: str, count: int) -> str | None:
    """The gates in the order of the rows, if there are several."""
    for forget_gate in ("own", "none"):
        gates = CELLS[kind].activations(forget_gate=forget_gate)
        if len(gates) == count > 1:
            return " ".join(gates)
    return None
