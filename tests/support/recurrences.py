# SPDX-License-Identifier: MIT
"""Every option of the recurrences: a table of cases, and problems made of them.

`cases` holds the arguments that all cells share; here each case names the options it is about, and
the functions are called by their public names, so that the same problem runs in `bptt` too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bptt import reference
from support.cases import flat, make_lengths, state_of

STEP = 1e-30


class Case(NamedTuple):
    id: str
    cell: str
    options: dict[str, Any]  # as the functions take them; True stands for arrays to be made
    projection: bool = False


class Call(NamedTuple):
    """Arguments of one forward call, and random gradients of all its results."""

    cell: str
    arrays: dict[str, Any]  # those that have a gradient
    options: dict[str, Any]
    dy: Any
    dstate: Any


COMMON: dict[str, dict[str, Any]] = {
    "resets": {"resets": True},
    "resets-reverse-lengths": {"resets": True, "reverse": True, "lengths": True},
    "dilation": {"dilation": 3},
    "dilation-lengths": {"dilation": 2, "lengths": True},
    "dilation-reverse-lengths": {"dilation": 2, "lengths": True, "reverse": True},
    "skip": {"skip": 1},
    "skip-3-lengths": {"skip": 3, "lengths": True},
    "skip-resets-reverse": {"skip": 2, "resets": True, "reverse": True, "lengths": True},
    "skip-dilation": {"skip": 3, "dilation": 2},
    "zoneout": {"zoneout": True, "lengths": True},
    "zoneout-scalar": {"zoneout": 0.3},
    "zoneout-skip-dilation": {"zoneout": 0.3, "skip": 1, "dilation": 2, "reverse": True},
}
MASKED: dict[str, dict[str, Any]] = {
    "h_mask": {"h_mask": True},
    "layer_norm": {"layer_norm": True},
    "layer_norm-everything": {"layer_norm": True, "h_mask": True, "lengths": True, "resets": True}
    | {"skip": 2, "zoneout": 0.2, "reverse": True},
}
CLIP = {"preact_clip": 0.6}
LSTM: dict[str, dict[str, Any]] = {
    "peepholes": {"peepholes": True},
    "coupled": {"forget_gate": "coupled"},
    "coupled-peepholes": {"forget_gate": "coupled", "peepholes": True},
    "none": {"forget_gate": "none"},
    "none-peepholes": {"forget_gate": "none", "peepholes": True, "lengths": True},
    "hard": {"gate_activation": "hard_sigmoid"},
    "relu": {"activation": "relu", "output_activation": "identity"},
    "identity-relu": {"activation": "identity", "output_activation": "relu"},
    "cell_clip": {"cell_clip": 0.4, "peepholes": True},
    "clips": {"cell_clip": 0.4, "peepholes": True, **CLIP},
    "layer_norm-peepholes": {"layer_norm": True, "peepholes": True, "cell_clip": 0.4},
}
PROJECTED: dict[str, dict[str, Any]] = {
    "plain": {},
    "peepholes-coupled": {"peepholes": True, "forget_gate": "coupled"},
    "layer_norm-skip": {"layer_norm": True, "skip": 2, "h_mask": True, "lengths": True},
    "zoneout-dilation": {"zoneout": True, "dilation": 2},
}
GRU: dict[str, dict[str, Any]] = {
    "before": {"reset_after": False},
    "before-clip-mask": {"reset_after": False, "h_mask": True, "preact_clip": 0.5},
    "before-lengths": {"reset_after": False, "lengths": True, "reverse": True, "skip": 2},
    "before-hard": {"reset_after": False, "gate_activation": "hard_sigmoid"},
    "hard-relu": {"gate_activation": "hard_sigmoid", "activation": "relu"},
    "identity": {"activation": "identity"},
}
NAMES = ["rnn", "lstm", "gru", "mgu", "slstm", "lstm1997"]

CASES = [
    *(Case(f"{c}-plain", c, {}) for c in NAMES),
    *(Case(f"{c}-{k}", c, o) for c in NAMES for k, o in COMMON.items()),
    *(Case(f"{c}-{k}", c, o) for c in NAMES[:-1] for k, o in MASKED.items()),
    *(Case(f"{c}-preact_clip", c, CLIP) for c in NAMES[:4]),
    Case("rnn-leak", "rnn", {"leak": 0.3}),
    Case("rnn-leak-zoneout-mask", "rnn", {"leak": 0.3, "zoneout": 0.4, "h_mask": True}),
    *(Case(f"lstm-{k}", "lstm", o) for k, o in LSTM.items()),
    *(Case(f"lstm-projected-{k}", "lstm", o, projection=True) for k, o in PROJECTED.items()),
    *(Case(f"gru-{k}", "gru", o) for k, o in GRU.items()),
    Case("slstm-heads", "slstm", {"heads": 2}),
    Case("slstm-heads-everything", "slstm", {"heads": 2, **MASKED["layer_norm-everything"]}),
]


def call(
    case: Case,
    shape: tuple[int, int, int, int],
    seed: int = 0,
    scale: float = 1.0,
    bias: bool = True,
) -> Call:
    """Weights and state random, larger with ``scale``."""
    T, B, I, H = shape
    rng = np.random.default_rng(seed)
    o = dict(case.options)
    row = reference.CELLS[case.cell]
    gates = row.gates - (o.get("forget_gate", "own") != "own")
    P = H - 1 if case.projection else H

    def normal(*size: int, by: float = 1.0) -> Any:
        return scale * by * rng.standard_normal(size)

    depth = (o["dilation"],) if o.get("dilation", 1) > 1 else ()
    sizes = [P, *[H] * (row.states - 1)]

    def state() -> Any:
        parts = [normal(*depth, B, size) for size in sizes]
        if case.cell == "slstm":
            parts[2] = np.abs(parts[2]) + 0.5  # n is a sum of positive numbers,
            parts[2][..., 0] = 0  # or of none
        return state_of(parts)

    columns = H // o.get("heads", 1) if len(row.operand) == 1 else 3 * H
    arrays = {
        "x": normal(T, B, I),
        "w_ih": normal(gates * H, I, by=I**-0.5),
        "w_hh": normal(gates * H, P if case.projection else columns, by=0.9 * H**-0.5),
        "b_ih": normal(gates * H, by=0.5) if bias else None,
        "b_hh": normal(gates * H, by=0.5) if bias else None,
        "state": state(),
    }
    if case.projection:
        arrays["w_hr"] = normal(P, H, by=H**-0.5)
    if o.pop("peepholes", None):
        arrays["peepholes"] = normal(gates - 1, H, by=0.7)
    if o.pop("layer_norm", None):
        sizes_of = [gates * H, gates * H, *([H, H] if case.cell == "lstm" else [])]
        arrays["layer_norm"] = tuple(normal(size) for size in sizes_of)
    if o.get("lengths"):
        o["lengths"] = make_lengths("any", T, B, rng)
    if o.get("resets"):
        o["resets"] = rng.random((T, B)) < 0.4
    if o.get("h_mask"):
        o["h_mask"] = (rng.random((B, P)) < 0.7) / 0.7
    if o.get("zoneout") is not None:
        o["zoneout"] = zoneout(o["zoneout"], [(T, B, P), (T, B, H)][: min(2, row.states)], rng)
    return Call(case.cell, arrays, o, normal(T, B, P), state())


def zoneout(given: Any, shapes: list[tuple[int, ...]], rng: np.random.Generator) -> Any:
    one = [rng.random(shape) if given is True else given for shape in shapes]
    return one[0] if len(one) == 1 else (one[0], one[1] if given is True else given / 2)


def forward(module: Any, c: Call, **more: Any) -> Any:
    return getattr(module, f"{c.cell}_forward")(**c.arrays, **c.options, **more)


def backward(module: Any, c: Call, tape: Any, **more: Any) -> Any:
    return getattr(module, f"{c.cell}_backward")(tape, c.dy, c.dstate, **more)


def named(y: Any, state: Any, grads: Any) -> dict[str, Any]:
    """All results by name, tuples taken apart."""
    grads = grads if isinstance(grads, dict) else grads._asdict()
    found = {"y": y, "final": state} | {f"d {k}": v for k, v in grads.items()}
    flattened = {f"{k}[{i}]": a for k, v in found.items() for i, a in enumerate(flat(v))}
    return {name: a for name, a in flattened.items() if a is not None}


def results(c: Call, module: Any = reference, **how: Any) -> dict[str, Any]:
    y, state, tape = forward(module, c)
    return named(y, state, backward(module, c, tape, **how))


# --- what the core is asked

# A skip that is no multiple of the dilation is the reference's alone.
CORE = [c for c in CASES if c.options.get("skip", 0) % c.options.get("dilation", 1) == 0]
CORE_SHAPES = [(9, 5, 3, 6), (23, 13, 5, 34), (1, 2, 3, 18), (6, 1, 2, 4), (40, 9, 7, 20)]
BACKWARD: list[dict[str, Any]] = [
    {},
    {"cut": 3},
    {"step_clip": ("norm", 0.2, "gates")},
    {"step_clip": ("value", 0.05, "gates"), "cut": 4},
    {"step_clip": ("norm", 0.3)},
    {"step_clip": ("value", 0.1, "c")},
    {"step_clip": ("norm", 0.2, "c"), "cut": 2},
]


def cast(c: Call, dtype: str) -> Call:
    def one(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(one(v) for v in value)
        return value.astype(dtype) if isinstance(value, np.ndarray) else value

    def option(value: Any) -> Any:
        floats = isinstance(value, tuple) or getattr(value, "dtype", None) == np.float64
        return one(value) if floats else value

    arrays = {k: one(v) for k, v in c.arrays.items()}
    options = {k: option(v) for k, v in c.options.items()}
    return c._replace(arrays=arrays, options=options, dy=one(c.dy), dstate=one(c.dstate))


def shapes_of(case: Case, dtype: str) -> list[tuple[int, int, int, int]]:
    """Sums of skips grow with the steps, and the gradients with them, to millions: few steps."""
    few = "skip" in case.id and dtype == "float32"
    return [shape for shape in CORE_SHAPES if not few or shape[0] < 10]


def supported(c: Call, how: dict[str, Any]) -> bool:
    no_c = len(c.arrays["state"]) == 1 if isinstance(c.arrays["state"], tuple) else True
    if "c" in how.get("step_clip", ()) and no_c:
        return False
    return not ("cut" in how and c.options.get("dilation", 1) > 1)


# --- the complex step, for arguments of any kind


def loss(c: Call) -> Any:
    y, state, _ = forward(reference, c, keep_tape=False)
    return (y * c.dy).sum() + sum((s * d).sum() for s, d in zip(flat(state), flat(c.dstate)))


def derivative(c: Call, name: str, part: int) -> Any:
    parts = flat(c.arrays[name])
    gradient = np.empty(parts[part].shape)
    for index in np.ndindex(gradient.shape):
        moved = parts[part].astype(complex)
        moved[index] += 1j * STEP
        value = state_of([moved if i == part else a for i, a in enumerate(parts)])
        gradient[index] = loss(c._replace(arrays={**c.arrays, name: value})).imag / STEP
    return gradient


def gradients(c: Call) -> dict[str, Any]:
    """Named as in `results`, without a line of any backward."""
    return {
        f"d {name}[{part}]": derivative(c, name, part)
        for name, value in c.arrays.items()
        if value is not None
        for part in range(len(flat(value)))
    }
