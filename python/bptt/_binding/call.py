# SPDX-License-Identifier: MIT
"""The way into the core for any cell: arguments converted here, shapes checked there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import _core
from .._cells import CELLS
from .._dual import as_duals
from .._grads import Grads
from .._types import Array, How, Inputs, State, StepClip
from .._validate import (
    as_arrays,
    as_checkpoint,
    as_count,
    as_flag,
    as_lengths,
    as_real,
    as_states,
    as_step_clip,
    as_trace,
    prepare,
)  # fmt: skip
from .._words import shown
from .heads import block_diagonal, blocks_of
from .options import as_options, zoneout_of
from .trace import trace_of

COMPUTE = (None, "bf16", "bf16_if_available")


def as_threads(caller: str, value: Any) -> int:
    return as_count(caller, "threads", value, 1, _core.MOST_THREADS)


def as_bf16(caller: str, value: str | None, dtype: DTypeLike) -> bool:
    """Should the products be taken in bfloat16?"""
    if not isinstance(value, (str, type(None))) or value not in COMPUTE:
        raise ValueError(f"{caller}: compute is {shown(value)}, expected one of {COMPUTE}")
    if value == "bf16" and dtype != np.float32:
        raise ValueError(f"{caller}: compute is 'bf16' with {dtype} arrays, expected float32")
    if value == "bf16" and not _core.has_bf16():
        raise ValueError(
            f"{caller}: compute is 'bf16', which the instruction set {_core.isa()} has no products "
            "for; expected None, or 'bf16_if_available' to compute in float32 instead"
        )
    return value is not None and dtype == np.float32 and _core.has_bf16()


def _spread(run: Any, cell: Any, inputs: Any, options: Any, keep_tape: Any, how: Any) -> Any:
    options = dict(options or {})
    activation = options.pop("activation", "tanh")
    if "zoneout" in options:
        options |= zoneout_of(options.pop("zoneout"))
    limit = how[1] if isinstance(how[1], int) else None
    return run(
        cell, *inputs, keep_tape, activation, how[0], None if limit is not None else how[1], limit,
        how[2], options or None,
    )  # fmt: skip


def forward(
    cell: str, inputs: Inputs, options: dict[str, Any] | None, keep_tape: bool, how: How
) -> tuple[Array, State, _core.Tape | None]:
    """The forward pass of a cell with options of its row in `CELLS`."""
    # A step of a small network takes less time than looking at its arguments here: the core does
    # that, and returns None where something is to be converted or refused.
    threads, checkpoint, compute = how
    if options is None and threads is None and checkpoint is None and compute is None:
        result = _spread(_core.forward, cell, inputs, None, keep_tape, (None, None, False))
        if result is not None:
            return result
    caller = f"{cell}_forward"
    x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse = inputs
    arrays = as_arrays(caller, {"x": x, "w_ih": w_ih, "w_hh": w_hh}, {"b_ih": b_ih, "b_hh": b_hh})
    dtype = arrays[0].dtype
    keep_tape = as_flag(caller, "keep_tape", keep_tape)
    given = as_options(caller, cell, options, dtype, keep_tape)
    initial = as_states(caller, "state", state, CELLS[cell].states, dtype)
    if given and "heads" in given:
        arrays[2] = block_diagonal(caller, arrays[2], given["heads"])
    inputs = (
        *arrays, initial if len(initial) > 1 else initial[0], as_lengths(caller, lengths),
        as_flag(caller, "reverse", reverse),
    )  # type: ignore[assignment]  # fmt: skip
    bf16 = as_bf16(caller, compute, dtype)
    if compute == "bf16_if_available":
        known = CELLS[cell].bf16
        bf16 &= known is not None and known.issuperset(given or ())
    limits = (
        None if threads is None else as_threads(caller, threads), as_checkpoint(caller, checkpoint),
    )  # fmt: skip
    run = _core.forward_dual if dtype == np.complex128 else _core.forward
    result = _spread(run, cell, inputs, given, keep_tape, (*limits, bf16))
    assert result is not None
    return as_duals(result) if dtype == np.complex128 else result


def backward(
    cell: str,
    tape: _core.Tape | None,
    dy: ArrayLike | None,
    dstate: State,
    step_clip: StepClip | None = None,
    cut: int | None = None,
    trace: bool | str | None = None,
    threads: int | None = None,
) -> Grads:
    """Gradients of any cell of the core."""
    caller = f"{cell}_backward"
    if not isinstance(tape, _core.Tape) or tape.cell != cell:
        has = "None" if tape is None else shown(tape)
        raise TypeError(f"{caller}: tape is {has}, expected that of {cell}_forward(keep_tape=True)")
    clip = as_step_clip(caller, step_clip)
    steps = 0 if cut is None else as_count(caller, "cut", cut, 1)
    d = None if dy is None else prepare(as_real(caller, "dy", dy), tape.dtype)
    final = as_states(caller, "dstate", dstate, CELLS[cell].states, tape.dtype)
    count = 0 if threads is None else as_threads(caller, threads)
    level = as_trace(caller, trace)
    results = _core.backward(caller, tape, d, final, *clip, steps, count, level)
    results = (*results[:5], results[5] if len(final) > 1 else results[5][0], *results[6:])
    if tape.dtype == "complex128":
        results = as_duals(results)
    *grads, traced = results
    seen = trace_of(tape, traced, (grads[1], grads[2]), steps) if level else None
    grads[2] = blocks_of(grads[2], (tape.options or {}).get("heads", 1))
    return Grads(*grads, seen)
