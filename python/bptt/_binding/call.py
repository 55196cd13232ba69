# SPDX-License-Identifier: MIT
"""The way into the core for any cell: arguments converted here, shapes checked there."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import _core
from .._cells import CELLS
from .._dual import Dual, as_duals
from .._grads import Grads
from .._types import Array, State, StepClip
from .._validate import as_count as as_count
from .._validate import as_flag, as_integers, as_name
from .._validate import as_real as as_real
from .._validate import prepare as prepare
from .._words import shown
from ..trace.full import FullTrace
from ..trace.paths import Paths
from ..trace.trace import Bounds, Source, Trace, count_outside
from .options import as_options


def as_arrays(caller: str, required: dict[str, Any], optional: dict[str, Any]) -> list[Any]:
    """All as float64 if one of them is, else all as float32, or all dual numbers if one is of
    these; what is omitted stays None."""
    for name, value in required.items():
        if value is None:
            raise TypeError(f"{caller}: {name} is None, expected an array")
    given = {**required, **optional}
    arrays = {k: v if v is None else as_real(caller, k, v) for k, v in given.items()}
    dtypes = [a.dtype for a in arrays.values() if a is not None]
    wide = any(d.kind == "f" and d.itemsize >= 8 for d in dtypes)
    dtype = np.dtype(np.float64 if wide else np.float32)
    if any(isinstance(a, Dual) for a in arrays.values()):
        dtype = np.dtype(np.complex128)
    return [None if a is None else prepare(a, dtype) for a in arrays.values()]


def as_states(
    caller: str, name: str, value: State, cell: str, dtype: DTypeLike, most: int = 3
) -> tuple[Any, ...]:
    """Each of at most so many dimensions."""
    names = CELLS[cell].states
    if value is None:
        return (None,) * max(len(names), 2)
    if len(names) == 1:
        return (prepare(as_real(caller, name, value, most), dtype), None)
    if not isinstance(value, (tuple, list)) or len(value) != len(names):
        has = f"{len(value)} items" if isinstance(value, (tuple, list)) else type(value).__name__
        raise TypeError(f"{caller}: {name} is {has}, expected a tuple ({', '.join(names)})")
    return tuple(
        None if v is None else prepare(as_real(caller, f"{name}[{i}]", v, most), dtype)
        for i, v in enumerate(value)
    )


def as_lengths(caller: str, value: Any) -> Array | None:
    if value is None:
        return None
    array = as_integers(caller, "lengths", value, 3)
    if array.dtype == np.uint64:  # what int64 cannot hold is too long all the same
        array = np.minimum(array, np.uint64(np.iinfo(np.int64).max))
    return prepare(array, np.int64)


def as_step_clip(caller: str, value: StepClip | None) -> tuple[str, float, str]:
    if value is None:
        return ("none", 0.0, "h")
    parts = value if isinstance(value, (tuple, list)) and len(value) in (2, 3) else (None, None)
    kind, bound, *rest = parts
    target = rest[0] if rest else "h"
    known = isinstance(kind, str) and isinstance(target, str)
    if not known or kind not in ("value", "norm") or target not in ("h", "c", "gates"):
        raise ValueError(
            f"{caller}: step_clip is {shown(value)}, expected ('value', bound) or ('norm', bound), "
            "and 'h', 'c' or 'gates' as a third item or none"
        )
    if isinstance(bound, bool) or not isinstance(bound, (int, float, np.integer, np.floating)):
        raise TypeError(f"{caller}: step_clip has bound {shown(bound)}, expected a number")
    if not 0 < bound <= np.inf:
        raise ValueError(f"{caller}: step_clip has bound {shown(bound)}, expected more than 0")
    return (str(kind), float(min(bound, sys.float_info.max)), str(target))


def as_trace(caller: str, value: bool | str | None) -> int:
    """0: none, 1: norms, 2: the gradients behind them as well."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return int(bool(value))
    if isinstance(value, str) and value == "full":
        return 2
    raise ValueError(f"{caller}: trace is {shown(value)}, expected True, False or 'full'")


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


def as_threads(caller: str, value: Any) -> int:
    return as_count(caller, "threads", value, 1, _core.MOST_THREADS)


COMPUTE = (None, "bf16", "bf16_if_available")


def as_bf16(caller: str, value: str | None, dtype: DTypeLike) -> bool:
    """Are the products to be taken in bfloat16?"""
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


def _has_bf16_kernels(cell: str, activation: str, options: dict[str, Any] | None) -> bool:
    known = CELLS[cell].bf16
    given = {*(options or {}), *(() if activation == "tanh" else ("activation",))}
    return known is not None and given <= known


def forward(
    cell: str,
    x: ArrayLike,
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None,
    b_hh: ArrayLike | None,
    state: State,
    lengths: ArrayLike | None,
    reverse: bool,
    keep_tape: bool,
    activation: str = "tanh",
    threads: int | None = None,
    checkpoint: str | None = None,
    max_bytes: int | None = None,
    compute: str | None = None,
    options: dict[str, Any] | None = None,
) -> tuple[Array, State, _core.Tape | None]:
    """Any cell of the core by its name; options as in `_options`."""
    # A step of a small network takes less time than looking at its arguments here: the core does
    # that, and returns None where something is to be converted or refused.
    plain = threads is None and checkpoint is None and max_bytes is None and compute is None
    if plain and options is None:
        result = _core.forward(
            cell, x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape, activation,
            None, None, None, False, None,
        )  # fmt: skip
        if result is not None:
            return result
    caller = f"{cell}_forward"
    arrays = as_arrays(caller, {"x": x, "w_ih": w_ih, "w_hh": w_hh}, {"b_ih": b_ih, "b_hh": b_hh})
    dtype = arrays[0].dtype
    initial = as_states(caller, "state", state, cell, dtype)
    activation = as_name(caller, "activation", activation)
    if checkpoint is not None and not (isinstance(checkpoint, str) and checkpoint == "sqrt"):
        raise ValueError(f"{caller}: checkpoint is {shown(checkpoint)}, expected None or 'sqrt'")
    if max_bytes is not None and checkpoint is not None:
        raise ValueError(f"{caller}: checkpoint and max_bytes are both given, expected one of them")
    if max_bytes is not None:
        max_bytes = as_count(caller, "max_bytes", max_bytes, 0)
    flags = (as_flag(caller, "reverse", reverse), as_flag(caller, "keep_tape", keep_tape))
    bf16 = as_bf16(caller, compute, dtype)
    if compute == "bf16_if_available" and not _has_bf16_kernels(cell, activation, options):
        bf16 = False
    run = _core.forward_dual if dtype == np.complex128 else _core.forward
    result = run(
        cell, *arrays, initial if len(CELLS[cell].states) > 1 else initial[0],
        as_lengths(caller, lengths), *flags, activation,
        None if threads is None else as_threads(caller, threads), checkpoint, max_bytes, bf16,
        as_options(caller, cell, options, dtype, keep_tape),
    )  # fmt: skip
    assert result is not None
    return as_duals(result) if dtype == np.complex128 else result


def backward(
    cell: str,
    tape: _core.Tape | None,
    dy: ArrayLike | None,
    dstate: State,
    step_clip: StepClip | None,
    cut: int | None = None,
    trace: bool | str | None = None,
    threads: int | None = None,
) -> Grads:
    """Gradients of any cell of the core."""
    caller = f"{cell}_backward"
    if not isinstance(tape, _core.Tape) or tape.cell != cell:
        has = "None" if tape is None else shown(tape)
        raise TypeError(f"{caller}: tape is {has}, expected that of {cell}_forward(keep_tape=True)")
    how = as_how(caller, step_clip, cut, trace, threads)
    d = None if dy is None else prepare(as_real(caller, "dy", dy), tape.dtype)
    final = as_states(caller, "dstate", dstate, cell, tape.dtype)
    return pull_back(caller, tape, d, final, how)


How = tuple[str, float, str, int, int, int]  # clip, its bound and target, cut, threads, trace

PLAIN: How = ("none", 0.0, "h", 0, 0, 0)


def as_how(
    caller: str,
    step_clip: StepClip | None = None,
    cut: int | None = None,
    trace: bool | str | None = None,
    threads: int | None = None,
) -> How:
    """How to go back, as the core takes it."""
    if step_clip is None and cut is None and trace is None and threads is None:
        return PLAIN
    clip = as_step_clip(caller, step_clip)
    steps = 0 if cut is None else as_count(caller, "cut", cut, 1)
    count = 0 if threads is None else as_threads(caller, threads)
    return (*clip, steps, count, as_trace(caller, trace))


def pull_back(
    caller: str, tape: _core.Tape, dy: Array | None, dstate: tuple[Any, ...], how: How
) -> Grads:
    """The gradients of one call, from arguments that are as the core takes them."""
    results = _core.backward(caller, tape, dy, dstate, *how)
    *_, cut, _, level = how
    if results[0].dtype.kind == "c":
        results = as_duals(results)
    x, w_ih, w_hh, b_ih, b_hh, initial, peepholes, w_hr, layer_norm, traced = results
    state = initial if len(initial) > 1 else initial[0]
    seen = trace_of(tape, traced, (w_ih, w_hh), cut) if level else None
    return Grads(x, w_ih, w_hh, b_ih, b_hh, state, peepholes, w_hr, layer_norm, seen)
