# SPDX-License-Identifier: MIT
"""The one loop over time, forward and backward, for every cell.

What a step sees of the past is a queue for each state, (K, B, H), the newest entry last: the states
before the last K steps of each sequence. An LSTM needs K = 1; a dilation of k or a skip over k
steps looks k entries back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .._grads import Grads
from .._types import Array, State
from .cells import CELLS, Saved, States, options_of
from .products import Network, StepClip, clip_of, clip_step, step, step_grad
from .trace import changed, trace_of

Queues = list[Array]


class Tape(NamedTuple):
    """What `backward` needs of one forward call."""

    net: Network
    x: Array  # (T, B, I), zero in the padding
    times: list[int]  # time indices in the order of processing
    active: Array  # (T, B): is step t inside sequence b?
    queues: list[Queues]  # before each processed step, and the final ones
    saved: list[Saved]  # per processed step, by name
    y: Array
    reverse: bool
    reset_row: bool  # has the initial state a row more, the state after each reset?


# --- queues


def filled(net: Network, state: State, K: int, B: int, dtype: Any) -> Queues:
    """Queues with the newest entries as ``state`` gives them, and zeros before these."""
    queues, first, several = [], K - net.o.dilation, len(net.sizes) > 1
    parts = state if several and state is not None else [state] * len(net.sizes)
    for size, part in zip(net.sizes, parts):
        queue = np.zeros((K, B, size), dtype)
        if part is not None:
            queue[first:] = np.reshape(part, queue[first:].shape)
        queues.append(queue)
    return queues


def split_resets(net: Network, state: State, B: int, dtype: Any) -> tuple[State, list[Any]]:
    """The state of the sequences, and of each state the row that follows a reset, or zeros."""
    zeros = [np.zeros(size, dtype) for size in net.sizes]
    if state is None or not has_reset_row(net, state, B):
        return state, zeros
    if len(net.sizes) == 1:
        return state[:B], [state[B]]
    rows = [zero if part is None else part[B] for part, zero in zip(state, zeros)]
    return tuple(None if part is None else part[:B] for part in state), rows


def has_reset_row(net: Network, state: State, B: int) -> bool:
    parts = state if isinstance(state, (tuple, list)) else (state,)
    rows = [len(part) for part in parts if part is not None]
    return net.o.resets is not None and B + 1 in rows


def newest(net: Network, queues: Queues) -> State:
    """The state as users see it: (B, H), or as many of these as the dilation."""
    d = net.o.dilation
    parts = tuple(q[-1] if d == 1 else q[-d:] for q in queues)
    return parts if len(parts) > 1 else parts[0]


def before(net: Network, queues: Queues) -> States:
    """The states that stand for those before the step."""
    return tuple(q[-net.o.dilation] for q in queues)


def is_reset(net: Network, t: int, on: Array) -> Array:
    resets = net.o.resets
    return np.zeros_like(on) if resets is None else on & np.asarray(resets, bool)[t][:, None]


def reset(queue: Array, where: Array, row: Array) -> Array:
    """The queue of a sequence that begins: the row, and zeros before it."""
    begun = np.zeros_like(queue)
    begun[-1] = row
    return np.where(where, begun, queue)


# --- zoneout (Krueger et al., 2017) and skip


def zones(net: Network, t: int, old: States) -> list[Any]:
    """How much each state keeps of itself; None is nothing."""
    z = net.o.zoneout
    pair = z if isinstance(z, tuple) else (z, None)
    at = [None if zone is None else pair[zone] for zone in net.cell.zones]
    at = [z if z is None or np.ndim(z) == 0 else z[t] for z in at]
    if "m" in net.cell.kind.states and at[3] is not None:
        n = old[2].real
        at[3] = np.where(n == 0, 0, at[3]).astype(n.dtype)  # a scale of nothing does not stay
    return at


def times(z: Any, a: Array) -> Array:
    """z a, and 0 where z is 0, even if a is not finite."""
    return np.asarray(z * np.where(z == 0, 0, a))


def keeps(z: Any) -> bool:
    """Does anything stay?"""
    return z is not None and (np.ndim(z) > 0 or z != 0)


def old_part(z: Any, a: Array) -> Any:
    return 0 if z is None else times(z, a)


def new_part(z: Any, a: Array) -> Array:
    return a if z is None else times(1 - z, a)


def mixed(net: Network, new: States, queues: Queues, t: int) -> States:
    """The states that the next step finds: the cell's new states with zoneout and skip."""
    old = before(net, queues)
    h, *rest = (new_part(z, b) + old_part(z, a) for z, a, b in zip(zones(net, t, old), old, new))
    return (h + queues[0][-net.o.skip] if net.o.skip else h, *rest)


# --- forward


def own(value: Any) -> Any:
    """The tape's own copy of an option."""
    if isinstance(value, (tuple, list)):
        return tuple(own(v) for v in value)
    return np.array(value) if isinstance(value, np.ndarray) else value


def forward(
    cell: str,
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: State = None,
    *,
    lengths: Any = None,
    reverse: bool = False,
    keep_tape: bool = True,
    threads: int | None = None,
    checkpoint: str | int | None = None,
    compute: str | None = None,
    **options: Any,
) -> tuple[Array, State, Tape | None]:
    """The arguments of the cell's ``*_forward``; threads and checkpoint mean nothing.

    compute="int8" rounds weights and operands as `layer.prepare("int8")` does, for forward alone;
    other values mean nothing.
    """
    o = options_of(cell, {name: own(value) for name, value in options.items()})
    given = [None if a is None else np.array(a) for a in (w_ih, w_hh, b_ih, b_hh)]
    net, x = Network(CELLS[cell], o, *given), np.array(x)  # type: ignore[arg-type]
    net = net.rounded() if compute == "int8" else net
    T, B, _ = x.shape
    parts = state if isinstance(state, (tuple, list)) else (state,)
    complex_parts = [s for s in parts if np.iscomplexobj(s)]
    dtype = np.result_type(x, *net.parameters.values(), *complex_parts)
    lengths = np.full(B, T) if lengths is None else np.asarray(lengths)
    active = np.arange(T)[:, None] < lengths
    x = np.where(active[:, :, None], x, 0)
    times = list(range(T))[::-1] if reverse else list(range(T))
    reset_row = has_reset_row(net, state, B)
    state, fresh = split_resets(net, state, B, dtype)
    queues = filled(net, state, max(o.dilation, o.skip), B, dtype)
    y = np.zeros((T, B, net.sizes[0]), dtype)
    before_steps, saved = [], []
    for t in times:
        on = active[t][:, None]
        queues = [reset(q, is_reset(net, t, on), row) for q, row in zip(queues, fresh)]
        new, kept = step(net, x[t], before(net, queues))
        new = mixed(net, new, queues, t)
        before_steps.append(queues)
        saved.append(kept)
        queues = [np.where(on, [*q[1:], a], q) for q, a in zip(queues, new)]
        y[t] = np.where(on, new[0], 0)
    final = newest(net, queues)
    if not keep_tape:
        return y, final, None
    states = [*before_steps, queues]
    return y, final, Tape(net, x, times, active, states, saved, y.copy(), reverse, reset_row)


# --- backward


def is_cut(tape: Tape, n: int, cut: int | None) -> Array:
    """Whose gradient ends before processed step n: ``cut`` steps of a sequence, from its end."""
    active = tape.active[tape.times[n:]]
    if cut is None:
        return np.zeros((active.shape[1], 1), bool)
    return np.asarray(active[0] & (active.sum(0) % cut == 0))[:, None]


def retreat(
    tape: Tape, n: int, dqueues: Queues, dy: Array | None, step_clip: StepClip
) -> tuple[Queues, dict[str, Any]]:
    """Pass the gradient of the queues back over processed step n, for all rows as if active.

    Returns the gradients of the queues before it, and by name of x and the parameters.
    """
    net, t, queues = tape.net, tape.times[n], tape.queues[n]
    o, on = net.o, tape.active[t][:, None]
    ds = [d[-1] for d in dqueues]
    if dy is not None:
        ds[0] = ds[0] + np.asarray(dy)[t]
    ds = [np.where(on, d, 0) for d in ds]
    older = [np.concatenate([np.zeros_like(d[:1]), d[:-1]]) for d in dqueues]
    if o.skip:
        older[0][-o.skip] += ds[0]
    old = before(net, queues)
    z = zones(net, t, old)
    made = [new_part(keep, d) for keep, d in zip(z, ds)]
    passed, grads = step_grad(net, tape.x[t], old, tape.saved[n], made, on, step_clip)
    passed = [p + old_part(keep, d) for keep, d, p in zip(z, ds, passed)]
    grads["seen"]["dh"] = ds[0]
    if len(ds) > 1 and keeps(z[1]):  # h is made of c before it is mixed
        grads["seen"]["dc"] = ds[1]
    for k, target in zip(range(len(passed)), ("h", "c")):
        whole, passed[k] = passed[k], clip_step(passed[k], clip_of(step_clip, target))
        grads["seen"]["clipped"] = grads["seen"]["clipped"] | changed(whole, passed[k])
    for d, p in zip(older, passed):
        d[-o.dilation] += p
    return older, grads


def backward(
    cell: str,
    tape: Tape,
    dy: Array | None = None,
    dstate: State = None,
    *,
    step_clip: StepClip = None,
    cut: int | None = None,
    trace: bool | str | None = None,
    threads: int | None = None,
    grads: Iterable[str] | None = None,
) -> Grads:
    """The arguments of the cell's ``*_backward``; threads mean nothing."""
    net, (*_, final) = tape.net, tape.queues
    K, B, _ = final[0].shape
    dqueues = filled(net, dstate, K, B, final[0].dtype)
    total = {name: np.zeros_like(a) for name, a in net.parameters.items()}
    dx, seen = np.zeros_like(tape.x), []
    fresh: list[Any] = [0] * len(net.sizes)
    for n in reversed(range(len(tape.times))):
        t = tape.times[n]
        on = tape.active[t][:, None]
        older, step_grads = retreat(tape, n, dqueues, dy, step_clip)
        begins, ends = is_reset(net, t, on), is_cut(tape, n, cut)
        fresh = [f + np.where(begins & ~ends, a[-1], 0).sum(0) for f, a in zip(fresh, older)]
        end = begins | ends
        dqueues = [np.where(on, np.where(end, 0, a), b) for a, b in zip(older, dqueues)]
        dx[t] = step_grads["x"]
        seen.append(step_grads["seen"])
        for name in total:
            total[name] += step_grads[name]
    norm = tuple(total[name] for name in ("g_ih", "g_hh", "g_c", "b_c") if name in total)
    named: dict[str, Any] = {"b_ih": None, "b_hh": None, "layer_norm": norm or None}
    named |= {name: d for name, d in total.items() if name in Grads._fields}
    initial = newest(net, dqueues)
    if tape.reset_row:
        several = initial if isinstance(initial, tuple) else (initial,)
        joined = tuple(np.concatenate([d, row[None]]) for d, row in zip(several, fresh))
        initial = joined if len(joined) > 1 else joined[0]
    all_grads = Grads(x=dx, state=initial, **named)
    kept = set(Grads._fields if grads is None else grads)
    some_grads = Grads(*(d if name in kept else None for name, d in all_grads._asdict().items()))
    if not trace:
        return some_grads
    shown = trace_of(cell, tape, seen, all_grads, trace == "full", cut)
    return some_grads._replace(trace=shown)
