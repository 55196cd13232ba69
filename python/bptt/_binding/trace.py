# SPDX-License-Identifier: MIT
"""A trace of what the core saw in a backward pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._cells import CELLS
from .._types import Array
from ..trace.full import FullTrace
from ..trace.paths import Paths
from ..trace.trace import Bounds, Source, Trace, count_outside


def trace_of(
    tape: _core.Tape, traced: tuple[Any, ...], weights: tuple[Array, Array], cut: int
) -> Trace:
    norms, dh, *rest = traced
    full = None if dh is None else full_trace(tape, dh, *rest)
    ih, hh = weights  # which a clip of the gradients changes in place
    return Trace(lambda: source_of(tape, cut), norms, full, (ih.copy(), hh.copy()))


def source_of(tape: _core.Tape, cut: int) -> Source:
    options = tape.options or {}
    return Source(
        tape.cell, ranges_of(tape), (tape.h.shape[2], tape.dims[3]), len(CELLS[tape.cell].states),
        paths_of(tape, cut), options.get("heads", 1) == 1 and options.get("layer_norm") is None,
        lambda bounds: outside(tape, bounds),
    )  # fmt: skip


def ranges_of(tape: _core.Tape) -> dict[str, str]:
    """The activation of each gate."""
    given = {"activation": tape.arguments["activation"], **(tape.options or {})}
    return CELLS[tape.cell].activations(**given)


def paths_of(tape: _core.Tape, cut: int) -> Paths:
    """Where the gradients of a backward call can go."""
    options, (T, B) = tape.options or {}, tape.dims[:2]
    lengths = np.full(B, T) if tape.lengths is None else tape.lengths
    kept = "zoneout_of_h" in options or options.get("zoneout_h", 0) > 0
    return Paths(
        T, lengths, tape.arguments["reverse"], options.get("dilation", 1), options.get("skip", 0),
        options.get("resets"), cut, not CELLS[tape.cell].truncated or kept,
    )  # fmt: skip


def outside(tape: _core.Tape, bounds: dict[str, Bounds]) -> dict[str, Array]:
    gates = CELLS[tape.cell].gates
    if not tape.gates:  # a plain RNN: h is the value of its activation
        return {"h": count_outside(tape.h, bounds["h"])}
    given = [bounds.get(name, (-np.inf, np.inf)) for name in gates]
    counts = tape.count_outside([low for low, _ in given], [high for _, high in given])
    return {name: counts[:, :, k] for k, name in enumerate(gates) if name in bounds}


def full_trace(
    tape: _core.Tape, dh: Any, dc: Any, gates: Any, apart: Any, operand: Any, inner: Any, x: Any
) -> FullTrace:
    ranges = ranges_of(tape)
    by_name = dict(zip(ranges, np.split(gates, len(ranges), -1)))
    return FullTrace(dh, dc, by_name, x, operand, inner if tape.cell == "gru" else None, apart)
