# SPDX-License-Identifier: MIT
"""What a step backward saw of the gradient, put together as `bptt.trace` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..grads import Array, Grads
from ..paths import Paths
from ..trace import FullTrace, Source, Trace, activations, count_outside

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
    o, times = tape.net.o, tape.times
    z = o.zoneout[0] if isinstance(o.zoneout, tuple) else o.zoneout
    kept = z is not None and (np.ndim(z) > 0 or z > 0)
    return Paths(
        len(times), tape.active.sum(0), bool(times) and times[0] > 0, o.dilation, o.skip,
        None if o.resets is None else np.asarray(o.resets, bool), cut or 0,
        cell != "lstm1997" or kept,
    )  # fmt: skip


def trace_of(
    cell: str, tape: Tape, seen: list[Seen], grads: Grads, keep_full: bool, cut: int | None
) -> Trace:
    """`seen` in the order of processing, the last first."""
    net, steps = tape.net, dict(zip(tape.times[::-1], seen))
    T, H = len(steps), net.units

    def over_time(name: str) -> Array:
        on = tape.active[:, :, None]
        return np.where(on, np.stack([steps[t][name] for t in range(T)]), 0)

    names = activations(cell, **net.o._asdict())
    gates = np.split(over_time("gates"), net.gates, -1) if T else []
    apart = net.cell.apart is not None and net.o.reset_after
    full = FullTrace(
        dh=over_time("dh"),
        dc=over_time("dc") if len(net.sizes) > 1 else None,
        gates=dict(zip(names, gates)),
        x=tape.x,
        operand=over_time("operand"),
        inner=over_time("inner") if not net.o.reset_after else None,
        apart=over_time("gates_h")[:, :, -H:] if apart else None,
    )
    saved = dict(zip(tape.times, tape.saved))

    def value(name: str) -> Array:
        if name == "h":
            return tape.y
        kept = [saved[t][name] for t in range(T)]
        return np.stack([getattr(k, "value", k) for k in kept])

    source = Source(
        cell, names, (net.sizes[0], H), len(net.sizes), paths_of(cell, tape, cut),
        net.o.layer_norm is None and net.o.heads == 1,
        lambda bounds: {name: count_outside(value(name), b) for name, b in bounds.items()},
    )  # fmt: skip
    clipped = np.stack([steps[t]["clipped"] for t in range(T)]) & tape.active
    norms = norms_of(full, clipped)
    return Trace(lambda: source, norms, full if keep_full else None, (grads.w_ih, grads.w_hh))
