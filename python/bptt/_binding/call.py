# SPDX-License-Identifier: MIT
"""The way into the core for any cell: arguments converted here, shapes checked there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import _core
from .._activations import ACTIVATIONS, OF_PLAIN_RNN
from .._cells import CELLS
from .._dual import as_duals
from .._grads import ALL, BITS, Grads, bits_of
from .._types import Array, BackwardHow, Control, How, Inputs, State, StepClip
from .._validate import (
    as_arrays,
    as_checkpoint,
    as_count,
    as_flag,
    as_lengths,
    as_names,
    as_real,
    as_states,
    as_step_clip,
    as_trace,
    prepare,
)
from .._words import shown
from .heads import block_diagonal, blocks_of
from .options import as_options
from .trace import trace_of

PLAIN: Control = (None, None, None, None, None)
WEIGHTS = bits_of(("w_ih", "w_hh"))  # whose gradients a full trace refers to
FULL = 2  # what `as_trace` makes of it
PLAIN_HOW: BackwardHow = ("none", 0.0, "h", 0, 0, 0, ALL)
TRACED_HOW: BackwardHow = ("none", 0.0, "h", 0, 1, 0, ALL)
COMPUTE = (None, "bf16", "bf16_if_available")


def as_threads(caller: str, value: Any) -> int:
    return as_count(caller, "threads", value, 1, _core.MOST_THREADS)


def as_bf16(caller: str, value: Any, dtype: DTypeLike) -> bool:
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


def uses_bf16(
    caller: str, cell: str, compute: Any, dtype: DTypeLike, options: dict[str, Any] | None
) -> bool:
    """Are the products of a cell with these options, as the core takes them, in bfloat16?"""
    bf16 = as_bf16(caller, compute, dtype)
    if compute == "bf16_if_available":
        known, given = CELLS[cell].bf16, options or {}
        bf16 &= known is not None and known.issuperset(given)
        bf16 &= given.get("activation", "tanh") in OF_PLAIN_RNN
    return bf16


def _is_activation_alone(options: dict[str, Any]) -> bool:
    """Has the core nothing to convert or refuse in these options?"""
    name = options.get("activation")
    return len(options) == 1 and type(name) is str and name in ACTIVATIONS


def forward(
    cell: str, inputs: Inputs, options: dict[str, Any] | None, keep_tape: bool, how: How
) -> tuple[Array, State, _core.Tape | None]:
    """The forward pass of a cell with options of its row in `CELLS`."""
    # A step of a small network takes less time than a look at its arguments here: the core looks,
    # and returns None where something is to be converted or refused.
    if how[2] is None and (options is None or _is_activation_alone(options)):
        result = _core.forward(cell, inputs, options, keep_tape, how)
        if result is not None:
            return result
    threads, checkpoint, compute = how
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
    )  # fmt: skip
    bf16 = uses_bf16(caller, cell, compute, dtype, given)
    limits = (
        None if threads is None else as_threads(caller, threads), as_checkpoint(caller, checkpoint),
    )  # fmt: skip
    run = _core.forward_dual if dtype == np.complex128 else _core.forward
    result = run(cell, inputs, given, keep_tape, (*limits, bf16))
    assert result is not None
    return as_duals(result) if dtype == np.complex128 else result


def backward(
    cell: str,
    tape: _core.Tape | None,
    dy: ArrayLike | None,
    dstate: State,
    control: Control = PLAIN,
) -> Grads:
    """The gradients of a cell, from the tape of its forward pass."""
    caller = f"{cell}_backward"
    if not isinstance(tape, _core.Tape) or tape.cell != cell:
        has = "None" if tape is None else shown(tape)
        raise TypeError(f"{caller}: tape is {has}, expected that of {cell}_forward(keep_tape=True)")
    how = as_backward_how(caller, *control[:4])
    if control[4] is not None:
        how = (*how[:6], bits_of(as_names(caller, "grads", control[4], gradients_of(cell))))
    d = None if dy is None else prepare(as_real(caller, "dy", dy), tape.dtype)
    final = as_states(caller, "dstate", dstate, CELLS[cell].states, tape.dtype)
    return pull_back(caller, tape, d, final, how)


def gradients_of(cell: str) -> list[str]:
    """The names of the gradients of a cell."""
    own = ("peepholes", "w_hr", "layer_norm")
    return [name for name in BITS if name not in own or name in CELLS[cell].options]


def as_backward_how(
    caller: str,
    step_clip: StepClip | None = None,
    cut: int | None = None,
    trace: bool | str | None = None,
    threads: int | None = None,
) -> BackwardHow:
    """As the core takes it, for all gradients."""
    if step_clip is None and cut is None and threads is None and (trace is None or trace is True):
        return TRACED_HOW if trace else PLAIN_HOW
    clip = as_step_clip(caller, step_clip)
    steps = 0 if cut is None else as_count(caller, "cut", cut, 1)
    count = 0 if threads is None else as_threads(caller, threads)
    return (*clip, steps, as_trace(caller, trace), count, ALL)


def pull_back(
    caller: str, tape: _core.Tape, dy: Array | None, dstate: tuple[Any, ...], how: BackwardHow
) -> Grads:
    """The gradients of one call, from arguments that are as the core takes them."""
    wanted = how[6]
    if how[4] == FULL:
        how = (*how[:6], wanted | WEIGHTS)
    results: tuple[Any, ...] = _core.backward(caller, tape, dy, dstate, how)
    if tape.dtype == "complex128":
        results = as_duals(results)
    if results[9] is not None:
        results = (*results[:9], trace_of(tape, results[9], results[1:3], how[3]))
    grads = Grads._make(results)
    if how[6] != wanted:
        grads = grads._replace(**{n: None for n in ("w_ih", "w_hh") if not wanted & BITS[n]})
    options = tape.options
    if options is None or "heads" not in options or grads.w_hh is None:
        return grads
    return grads._replace(w_hh=blocks_of(grads.w_hh, options["heads"]))
