# SPDX-License-Identifier: MIT
"""What a step backward saw of the gradient, put together as `bptt.trace` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._cells import CELLS
from .._grads import Grads
from .._types import Array
from ..trace.full import FullTrace
from ..trace.paths import Paths
from ..trace.trace import Source, Trace, count_outside

if TYPE_CHECKING:
    from .loop import Tape

Seen = dict[str, Any]  # of one step: dh, c, gates, gates_h, operand, inner (B, ...), clipped (B,)


def changed(before: Array, after: Array) -> Array:
    """(B,): which rows a clip has changed."""
    return np.asarray((before != after).any(-1)) & ~np.isnan(before).any(-1)


def seen_of(k: dict[str, Any], dc: Any, gates: Array, gates_h: Array, clipped: Array) -> Seen:
    """Of a step whose saved values are k, beside dh."""
    inner = k["r"].value * k["u"] if "r" in k else None
    return {
        "dc": dc, "gates": gates, "gates_h": gates_h, "operand": k["u"], "inner": inner,
        "clipped": clipped,
    }  # fmt: skip


def norms_of(full: FullTrace, clipped: Array) -> Array:
    """The columns of `Trace.norms`."""
    c = np.zeros_like(next(iter(full.gates.values()))) if full.dc is None else full.dc
    arrays = [full.dh, c, *full.gates.values()]
    bad = ~np.isfinite(np.concatenate(arrays, -1))
    place = np.where(bad.any(-1), bad.argmax(-1) + 1, 0)
    norms = [np.linalg.norm(a.astype(np.float64), axis=-1) for a in arrays]
    return np.stack([*norms, clipped, place], -1)


def paths_of(cell: str, tape: Tape, cut: int | None) -> Paths:
    o = tape.net.o
    z = o.zoneout[0] if isinstance(o.zoneout, tuple) else o.zoneout
    kept = z is not None and (np.ndim(z) > 0 or z > 0)
    return Paths(
        len(tape.times), tape.active.sum(0), tape.reverse, o.dilation, o.skip,
        None if o.resets is None else np.asarray(o.resets, bool), cut or 0,
        not CELLS[cell].truncated or kept,
    )  # fmt: skip


def trace_of(
    cell: str, tape: Tape, seen: list[Seen], grads: Grads, keep_full: bool, cut: int | None
) -> Trace:
    """`seen` in the order of processing, the last first."""
    net, steps = tape.net, dict(zip(tape.times[::-1], seen))
    (T, B), H, G = tape.active.shape, net.units, net.gates

    def over_time(name: str, width: int) -> Array:
        whole = np.zeros((T, B, width), tape.y.dtype)
        for t, step in steps.items():
            whole[t] = np.where(tape.active[t][:, None], step[name], 0)
        return whole

    names = CELLS[cell].activations(**vars(net.o))
    split = net.cell.split_gate is not None and net.o.reset_after
    full = FullTrace(
        dh=over_time("dh", net.sizes[0]),
        dc=over_time("dc", H) if len(net.sizes) > 1 else None,
        gates=dict(zip(names, np.split(over_time("gates", G * H), G, -1))),
        x=tape.x,
        operand=over_time("operand", net.w_blocks.shape[1]),
        second_operand=over_time("inner", H) if not net.o.reset_after else None,
        split_gate=over_time("gates_h", G * H)[:, :, -H:] if split else None,
    )

    def outside(bounds: dict[str, Any]) -> dict[str, Array]:
        counts = {name: np.zeros((T, B), np.uint32) for name in bounds}
        for t, saved in zip(tape.times, tape.saved):
            for name, b in bounds.items():
                counts[name][t] = count_outside(activation_of(cell, saved, name)[None], b)
        return counts

    source = Source(
        cell, names, (net.sizes[0], H), len(net.sizes), paths_of(cell, tape, cut),
        net.o.layer_norm is None and net.o.heads == 1, outside, full.dh.dtype,
    )  # fmt: skip
    clipped = np.zeros((T, B), bool)
    for t, step in steps.items():
        clipped[t] = step["clipped"] & tape.active[t]
    norms = norms_of(full, clipped)
    if not keep_full:
        return Trace(lambda: source, norms, None, None)
    return Trace(lambda: source, norms, full, (grads.w_ih.copy(), grads.w_hh.copy()))


def activation_of(cell: str, saved: dict[str, Any], gate: str) -> Array:
    """The values of a gate's activation in one step, (B, H), from the saved values."""
    if cell == "slstm" and gate == "f":
        return np.asarray(1 - saved["slope_f"])  # before it is stabilised
    kept = saved["y" if cell == "rnn" else gate]
    return np.asarray(getattr(kept, "value", kept))
