# SPDX-License-Identifier: MIT
"""The trace of a backward pass, from the arrays that the core has filled."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._activations import Bounds
from .._cells import CELLS
from .._types import Array
from ..trace.full import FullTrace
from ..trace.paths import Paths
from ..trace.trace import Source, Trace, count_outside


def trace_of(
    tape: _core.Tape, traced: tuple[Any, ...], weights: tuple[Any, ...], cut: int
) -> Trace:
    norms = traced[0]
    if traced[1] is None:
        return Trace(lambda: source_of(tape, cut), norms, None, None)
    ih, hh = weights  # which a clip of the gradients changes in place
    full = full_trace(tape, FullTrace(*traced[1:]))
    return Trace(lambda: source_of(tape, cut), norms, full, (ih.copy(), hh.copy()))


def source_of(tape: _core.Tape, cut: int) -> Source:
    options, cell = tape.options or {}, CELLS[tape.cell]
    return Source(
        tape.cell, cell.activations(**options), (tape.h.shape[2], tape.dims[3]), len(cell.states),
        paths_of(tape, cut), "heads" not in options and "layer_norm" not in options,
        lambda bounds: outside(tape, bounds), np.dtype(tape.dtype),
    )  # fmt: skip


def paths_of(tape: _core.Tape, cut: int) -> Paths:
    """Where the gradients of a backward call can go."""
    options, (T, B) = tape.options or {}, tape.dims[:2]
    lengths = np.full(B, T) if tape.lengths is None else tape.lengths
    kept, _ = options.get("zoneout", (None, None))
    keeps_h = kept is not None and bool(np.ndim(kept) or kept > 0)
    return Paths(
        T, lengths, tape.arguments["reverse"], options.get("dilation", 1), options.get("skip", 0),
        options.get("resets"), cut, keeps_h or not CELLS[tape.cell].truncated,
    )  # fmt: skip


def outside(tape: _core.Tape, bounds: dict[str, Bounds]) -> dict[str, Array]:
    """By gate: how many values of its activation are outside its bounds, (T, B)."""
    gates = CELLS[tape.cell].gates
    if not tape.gates:  # a plain RNN: h is the value of its activation
        return {"h": count_outside(tape.h, bounds["h"])}
    given = [bounds.get(name, (-np.inf, np.inf)) for name in gates]
    counts = tape.count_outside([low for low, _ in given], [high for _, high in given])
    return {name: counts[:, :, k] for k, name in enumerate(gates) if name in bounds}


def full_trace(tape: _core.Tape, arrays: FullTrace) -> FullTrace:
    """`arrays` with the gates by name, and without the second product of a projection."""
    names = CELLS[tape.cell].activations(**(tape.options or {}))
    by_name = dict(zip(names, np.split(np.asarray(arrays.gates), len(names), -1)))
    second = arrays.second_operand if "reset_after" in CELLS[tape.cell].options else None
    return arrays._replace(gates=by_name, second_operand=second)
