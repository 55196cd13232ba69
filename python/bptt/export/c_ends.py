# SPDX-License-Identifier: MIT
"""What an estimator does before and after its model, as lines of C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .._types import Array
from ..sequential.model import Sequential
from .c_layers import Code
from .c_names import WIDE, Names, array_lines, number

__all__ = ["Changes", "Exported", "read_inputs", "write_outputs"]


class Changes(NamedTuple):
    """What a `Forecaster` reads and gives: changes of a series, and other inputs beside them.

    Attributes
    ----------
    lead : int
        The values before the first forecast: a season, or 1.
    seasonal : bool
        Does it also read the change since a season before, and forecast from the last season?
    step, season, ahead : float
        The units of the changes, as in `Scale`.
    steps : int
        Of a forecast.
    mean, scale : ndarray of float64
        Of the other inputs, which follow the value in x.
    """

    lead: int
    seasonal: bool
    step: float
    season: float
    ahead: float
    steps: int
    mean: Array
    scale: Array


class Exported(NamedTuple):
    """A model, and what an estimator does before and after it.

    Attributes
    ----------
    model : Sequential
    scaling : pair of ndarray of float64, or None
        Mean and scale: the model takes (x - mean) / scale.
    unscaling : pair of ndarray of float64, or None
        Mean and scale: the result is y scale + mean.
    softmax : bool
        Is the result the softmax of y?
    changes : Changes, or None
        Of a forecaster, in place of the other three.
    tables : dict of str to sequence of str
        Text by number: of classes, of tokens.
    """

    model: Sequential
    scaling: tuple[Array, Array] | None = None
    unscaling: tuple[Array, Array] | None = None
    softmax: bool = False
    changes: Changes | None = None
    tables: Mapping[str, Sequence[str]] = {}


def read_inputs(code: Code, names: Names, given: Exported) -> list[str]:
    """From x to what the first layer takes; returns the arrays of it."""
    if given.changes is not None:
        return _read_changes(code, names, given.changes)
    if given.scaling is None:
        return []
    extra = list[str]()
    mean, scale = _arrays(names, ("mean", "scale"), given.scaling, extra)
    code.each("x", f"({code.type})((x[i] - {mean}[i]) / {scale}[i])", code.size)
    return extra


def write_outputs(code: Code, names: Names, given: Exported) -> list[str]:
    """From the output of the last layer to y."""
    extra = list[str]()
    if given.changes is not None:
        _write_forecasts(code, given.changes)
    elif given.unscaling is not None:
        mean, scale = _arrays(names, ("y_mean", "y_scale"), given.unscaling, extra)
        code.step += [
            f"for (i = 0; i < {code.size}; ++i) {{",
            f"    volatile double product = {code.at}[i] * {scale}[i]; /* rounded, not fused */",
            f"    y[i] = product + {mean}[i];", "}",
        ]  # fmt: skip
    else:
        code.step.append(f"memcpy(y, {code.at}, {code.size} * sizeof *y);")
    return extra


def _arrays(
    names: Names, keys: tuple[str, str], arrays: tuple[Array, Array], lines: list[str]
) -> list[str]:
    """Add two arrays of double to `lines`; return what they are called."""
    for key, array in zip(keys, arrays):
        lines += array_lines(names, key, array.astype(np.float64))
    return [f"{names.prefix}_{key}" for key in keys]


def _read_changes(code: Code, names: Names, of: Changes) -> list[str]:
    """The changes of a series; `last` is a ring of the newest values, `at` the next place."""
    extra, others, first = list[str](), len(of.mean), 1 + of.seasonal
    code.members += [f"double last[{of.lead}];", "size_t at;"]
    code.reset.append("s->at = 0;")
    code.member("x", code.size)
    before = [(f"(s->at + {of.lead - 1}) % {of.lead}", of.step)]
    before += [("s->at", of.season)] * of.seasonal
    code.step += [
        f"if (s->steps > {of.lead}) {{",
        *(f"    s->x[{k}] = ({code.type})((x[0] - s->last[{at}]) / {number(unit, WIDE)});"
          for k, (at, unit) in enumerate(before)),
        "}", "s->last[s->at] = x[0];", f"s->at = (s->at + 1) % {of.lead};",
        f"if (s->steps <= {of.lead}) return BPTT_OK;",
    ]  # fmt: skip
    if others:
        mean, scale = _arrays(names, ("mean", "scale"), (of.mean, of.scale), extra)
        value = f"({code.type})((x[1 + i] - {mean}[i]) / {scale}[i])"
        code.step.append(f"for (i = 0; i < {others}; ++i) s->x[{first} + i] = {value};")
    code.at, code.inputs = "s->x", 1 + others
    return extra


def _write_forecasts(code: Code, of: Changes) -> None:
    """Sort the quantiles of each step, and add them to the value they are relative to."""
    Q, base = code.size // of.steps, f"s->last[(s->at + i) % {of.lead}]" if of.seasonal else "x[0]"
    code.step += [
        f"for (i = 0; i < {of.steps}; ++i) {{",
        f"    {code.type}* q = {code.at} + {Q} * i;",
        f"    const double base = {base};",
        "    size_t j, k;",
        f"    for (j = 1; j < {Q}; ++j)",
        "        for (k = j; k > 0 && q[k] < q[k - 1]; --k) {",
        f"            const {code.type} swapped = q[k];",
        "            q[k] = q[k - 1];",
        "            q[k - 1] = swapped;",
        "        }",
        f"    for (j = 0; j < {Q}; ++j) {{",
        f"        volatile double product = {number(of.ahead, WIDE)} * q[j]; "
        "/* rounded, not fused */",
        f"        y[{Q} * i + j] = base + product;",
        "    }", "}",
    ]  # fmt: skip
