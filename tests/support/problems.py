# SPDX-License-Identifier: MIT
"""The one table of problems: cells with their options, shapes, and calls made of them.

The cells are those of the package's table; a new option needs a row among `CASES`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import bptt
from bptt import reference
from bptt._cells import CELLS as KINDS

# --- tables


class Case(NamedTuple):
    """A cell with the options that a test is about."""

    id: str
    cell: str
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed; True: `problem` makes the arrays
    projection: bool = False
    # The derivative jumps where a sum is 0: a float32 sum that rounds to the other side gives
    # another, equally right gradient. Over many sums that is likely.
    kink: bool = False


class Options(NamedTuple):
    """Arguments that every cell has."""

    id: str
    b_ih: bool = True
    b_hh: bool = True
    state: bool = True
    lengths: str | None = None  # a kind for `make_lengths`
    reverse: bool = False
    step_clip: tuple[Any, ...] | None = None


NAMES = list(KINDS)

CELLS = [
    Case("rnn-tanh", "rnn", {"activation": "tanh"}),
    Case("rnn-relu", "rnn", {"activation": "relu"}, kink=True),
    Case("rnn-leaky_relu", "rnn", {"activation": "leaky_relu"}, kink=True),
    Case("rnn-sigmoid", "rnn", {"activation": "sigmoid"}),
    Case("rnn-identity", "rnn", {"activation": "identity"}),
    Case("lstm", "lstm"),
    Case("gru", "gru"),
]

PLAIN = Options("plain")
OPTIONS = [
    PLAIN,
    Options("no-bias", b_ih=False, b_hh=False),
    Options("one-bias-no-state", b_hh=False, state=False),
    Options("other-bias-reverse", b_ih=False, reverse=True),
    Options("lengths", lengths="any"),
    Options("lengths-reverse", lengths="any", reverse=True),
    Options("all-empty", lengths="none"),
    Options("all-full-no-state", lengths="full", state=False),
    Options("clip-value", step_clip=("value", 0.1)),
    Options("clip-norm-lengths", lengths="any", step_clip=("norm", 0.3)),
    Options("clip-norm-reverse", reverse=True, step_clip=("norm", 0.3)),
    Options("clip-value-lengths-reverse", lengths="any", reverse=True, step_clip=("value", 0.1)),
]
BY_ID = {options.id: options for options in OPTIONS}
NO_BIAS = BY_ID["no-bias"]

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
# Parameters of any sign, in all places.
PARAMETERS: dict[str, dict[str, Any]] = {
    "lstm-hard-keras": {"gate_activation": ("hard_sigmoid", 0.2, 0.5)},
    "lstm-falling": {
        "gate_activation": ("hard_sigmoid", -0.2, 0.4),
        "activation": "softsign",
        "output_activation": ("scaled_tanh", 1.7, -0.6),
        "forget_gate": "coupled",
    },
    "lstm-layer_norm-elu": {
        "gate_activation": ("scaled_tanh", -0.5, 0.4),
        "activation": ("elu", -0.4),
        "output_activation": "softplus",
        "layer_norm": True,
        "peepholes": True,
    },
    "gru-softplus": {
        "gate_activation": ("scaled_tanh", 0.5, 0.5),
        "activation": "softplus",
        "preact_clip": 0.9,
    },
    "gru-before-leaky": {
        "gate_activation": "softsign",
        "activation": ("leaky_relu", -0.3),
        "reset_after": False,
    },
    "rnn-elu-leak": {"activation": ("elu", 0.4), "leak": 0.3},
    "rnn-thresholded-mask": {"activation": ("thresholded_relu", -0.4), "h_mask": True},
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

CASES = [
    *(Case(f"{c}-plain", c) for c in NAMES),
    *(Case(f"{c}-{k}", c, o) for c in NAMES for k, o in COMMON.items()),
    *(
        Case(f"{c}-{k}", c, o)
        for c in NAMES
        for k, o in MASKED.items()
        if "h_mask" in KINDS[c].options
    ),
    *(Case(f"{c}-preact_clip", c, CLIP) for c in NAMES if "preact_clip" in KINDS[c].options),
    Case("rnn-leak", "rnn", {"leak": 0.3}),
    Case("rnn-leak-of-units", "rnn", {"leak": True, "activation": "sigmoid", "lengths": True}),
    Case("rnn-leak-layer_norm", "rnn", {"leak": True, "layer_norm": True, "resets": True}),
    Case("rnn-leak-zoneout-mask", "rnn", {"leak": 0.3, "zoneout": 0.4, "h_mask": True}),
    *(Case(f"lstm-{k}", "lstm", o) for k, o in LSTM.items()),
    *(Case(k, k.split("-")[0], o) for k, o in PARAMETERS.items()),
    *(Case(f"lstm-projected-{k}", "lstm", o, projection=True) for k, o in PROJECTED.items()),
    *(Case(f"gru-{k}", "gru", o) for k, o in GRU.items()),
    Case("slstm-heads", "slstm", {"heads": 2}),
    Case("slstm-heads-everything", "slstm", {"heads": 2, **MASKED["layer_norm-everything"]}),
]
# Only the reference takes a skip that is no multiple of the dilation.
CORE = [c for c in CASES if c.options.get("skip", 0) % c.options.get("dilation", 1) == 0]

BACKWARD: list[dict[str, Any]] = [
    {},
    {"cut": 3},
    {"step_clip": ("norm", 0.2, "gates")},
    {"step_clip": ("value", 0.05, "gates"), "cut": 4},
    {"step_clip": ("norm", 0.3)},
    {"step_clip": ("value", 0.1, "c")},
    {"step_clip": ("norm", 0.2, "c"), "cut": 2},
]

# --- shapes: T, B, I, H

Shape = tuple[int, int, int, int]

# Ones; tails of every vector width and none; rows that no tile height divides; one block of lanes
# and many; several panels.
SHAPES: list[Shape] = [
    (1, 1, 1, 1),
    (5, 2, 3, 4),
    (4, 3, 9, 17),
    (6, 5, 16, 32),
    (4, 7, 33, 65),
    (9, 13, 5, 31),
    (3, 1, 40, 48),
]
# For cases with options.
OPTION_SHAPES: list[Shape] = [
    (9, 5, 3, 6), (23, 13, 5, 34), (1, 2, 3, 18), (6, 1, 2, 4), (40, 9, 7, 20)
]  # fmt: skip
# Several chunks of the backward loop, with and without a rest.
LONG_SHAPES: list[Shape] = [(300, 7, 20, 40), (37, 64, 12, 130), (129, 1, 5, 16), (3, 150, 4, 24)]
# H is meant for a cell of one gate, see `of_many_threads`. Large enough for several threads to
# share the hidden units (many, in few sequences) or the sequences (4 or more for each thread).
THREAD_SHAPES: list[Shape] = [
    (70, 1, 30, 437),
    (50, 3, 30, 437),
    (16, 9, 30, 437),
    (40, 7, 19, 171),
    (40, 8, 19, 171),
    (20, 16, 19, 171),
    (12, 33, 19, 171),
]


def of_many_threads(case: Case, shape: Shape) -> Shape:
    """One of `THREAD_SHAPES` for this cell; no vector width divides its H."""
    *rest, units = shape
    return (*rest, int(units * reference.CELLS[case.cell].gates ** -0.5) | 1)  # type: ignore


def shapes_of(case: Case, dtype: str) -> list[Shape]:
    """Few steps for float32 with skips, whose gradients grow to millions over many steps."""
    few = "skip" in case.id and dtype == "float32"
    return [shape for shape in OPTION_SHAPES if not few or shape[0] < 10]


# --- problems


class Problem(NamedTuple):
    """Arguments of one forward call, and random gradients of all its results."""

    cell: str
    arrays: dict[str, Any]  # the arguments that have a gradient: x w_ih w_hh b_ih b_hh state ...
    options: dict[str, Any]  # the other arguments
    dy: Any
    dstate: Any
    control: dict[str, Any] = {}  # noqa: RUF012 - never changed; step_clip of the backward call

    @property
    def lengths(self) -> Any:
        return self.options.get("lengths")

    @property
    def reverse(self) -> bool:
        return bool(self.options.get("reverse"))

    @property
    def step_clip(self) -> Any:
        return self.control.get("step_clip")

    def given(self, **options: Any) -> Problem:
        return self._replace(options={**self.options, **options})

    def clipped(self, *step_clip: Any) -> Problem:
        return self._replace(control={"step_clip": step_clip})

    def cast(self, dtype: Any) -> Problem:
        def one(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(one(v) for v in value)
            return value.astype(dtype) if isinstance(value, np.ndarray) else value

        def option(value: Any) -> Any:
            floats = getattr(value, "dtype", np.dtype(int)).kind == "f"
            return one(value) if floats or isinstance(value, tuple) else value

        arrays = {k: one(v) for k, v in self.arrays.items()}
        options = {k: option(v) for k, v in self.options.items()}
        return self._replace(
            arrays=arrays, options=options, dy=one(self.dy), dstate=one(self.dstate)
        )


def make_lengths(kind: str, T: int, B: int, rng: np.random.Generator) -> Any:
    """`kind`: "none" (all 0), "full" (all T), "any" (in any order, 0 and T among them)."""
    if kind == "none":
        return np.zeros(B, int)
    if kind == "full":
        return np.full(B, T)
    lengths = rng.integers(0, T + 1, B)
    lengths[rng.integers(B)] = T
    if B > 1:
        lengths[np.flatnonzero(lengths < T)[:1]] = 0
    return lengths


def problem(
    case: Case,
    shape: Shape,
    options: Options = PLAIN,
    dtype: str = "float64",
    seed: int = 0,
    scale: float = 1.0,
) -> Problem:
    """With weights large enough for the non-linearities to bite, small enough not to explode.

    `scale` multiplies the weights, inputs and states.
    """
    T, B, I, H = shape
    rng = np.random.default_rng(seed)
    given = dict(case.options)
    row = reference.CELLS[case.cell]
    gates = row.gates - (given.get("forget_gate", "own") != "own")
    P = H - 1 if case.projection else H

    def normal(*size: int, by: float = 1.0) -> Any:
        return scale * by * rng.standard_normal(size)

    depth = (given["dilation"],) if given.get("dilation", 1) > 1 else ()
    sizes = [P, *[H] * (row.states - 1)]

    def state() -> Any:
        parts = [normal(*depth, B, size) for size in sizes]
        if case.cell == "slstm":
            parts[2] = np.abs(parts[2]) + 0.5  # n is a sum of positive numbers,
            parts[2][..., 0] = 0  # or of none
        return state_of(parts)

    columns = H // given.get("heads", 1) if len(row.kind.operand) == 1 else 3 * H
    arrays = {
        "x": normal(T, B, I),
        "w_ih": normal(gates * H, I, by=I**-0.5),
        "w_hh": normal(gates * H, P if case.projection else columns, by=0.9 * H**-0.5),
        "b_ih": normal(gates * H, by=0.5) if options.b_ih else None,
        "b_hh": normal(gates * H, by=0.5) if options.b_hh else None,
        "state": state() if options.state else None,
    }
    if case.projection:
        arrays["w_hr"] = normal(P, H, by=H**-0.5)
    if given.get("leak") is True:
        given["leak"] = rng.uniform(0.05, 1, H)
    if given.pop("peepholes", None):
        arrays["peepholes"] = normal(gates - 1, H, by=0.7)
    if given.pop("layer_norm", None):
        sizes_of = [gates * H, gates * H, *([H, H] if case.cell == "lstm" else [])]
        arrays["layer_norm"] = tuple(normal(size) for size in sizes_of)
    lengths = options.lengths or ("any" if given.get("lengths") else None)
    if lengths:
        given["lengths"] = make_lengths(lengths, T, B, rng)
    if options.reverse:
        given["reverse"] = True
    if given.get("resets"):
        given["resets"] = rng.random((T, B)) < 0.4
    if given.get("h_mask"):
        given["h_mask"] = (rng.random((B, P)) < 0.7) / 0.7
    if given.get("zoneout") is not None:
        masked = [(T, B, P), (T, B, H)][: min(2, row.states)]
        given["zoneout"] = zoneout(given["zoneout"], masked, rng)
    control = {"step_clip": options.step_clip} if options.step_clip else {}
    made = Problem(case.cell, arrays, given, normal(T, B, P), state(), control)
    return made if dtype == "float64" else made.cast(dtype)


def zoneout(given: Any, shapes: list[tuple[int, ...]], rng: np.random.Generator) -> Any:
    one = [rng.random(shape) if given is True else given for shape in shapes]
    return one[0] if len(one) == 1 else (one[0], one[1] if given is True else given / 2)


def take(p: Problem, rows: Any) -> Problem:
    """The same problem for some of its sequences."""
    rows = np.asarray(rows)
    arrays = {**p.arrays, "x": p.arrays["x"][:, rows]}
    if p.arrays["state"] is not None:
        arrays["state"] = state_of([s[rows] for s in flat(p.arrays["state"])])
    dstate = state_of([s[rows] for s in flat(p.dstate)])
    part = p._replace(arrays=arrays, dy=p.dy[:, rows], dstate=dstate)
    return part if p.lengths is None else part.given(lengths=p.lengths[rows])


def flat(state: Any) -> list[Any]:
    return list(state) if isinstance(state, tuple) else [state]


def state_of(parts: list[Any]) -> Any:
    return tuple(parts) if len(parts) > 1 else parts[0]


def supported(p: Problem, how: dict[str, Any]) -> bool:
    """Whether the cell can be called backward like this."""
    has_c = isinstance(p.arrays["state"], tuple)
    if "c" in how.get("step_clip", ()) and not has_c:
        return False
    return not ("cut" in how and p.options.get("dilation", 1) > 1)


# --- verbs; `module` is `bptt` or `bptt.reference`


def forward(module: Any, p: Problem, **how: Any) -> Any:
    return getattr(module, f"{p.cell}_forward")(**p.arrays, **p.options, **how)


def backward(module: Any, p: Problem, tape: Any, **how: Any) -> Any:
    return getattr(module, f"{p.cell}_backward")(tape, p.dy, p.dstate, **{**p.control, **how})


def named(y: Any, state: Any, grads: Any) -> dict[str, Any]:
    """All results by name, those that are None left out."""
    grads = grads if isinstance(grads, dict) else grads._asdict()
    found = {"y": y, **{f"state[{i}]": s for i, s in enumerate(flat(state))}}
    for name, value in grads.items():
        if name == "state" or isinstance(value, tuple):
            found |= {f"d {name}[{i}]": part for i, part in enumerate(flat(value))}
        else:
            found[f"d {name}"] = value
    return {name: value for name, value in found.items() if value is not None}


FORWARD_ONLY = ("checkpoint",)


def results(module: Any, p: Problem, **how: Any) -> dict[str, Any]:
    """Everything that a forward and a backward call give, by name."""
    both = {k: v for k, v in how.items() if k in ("threads", *FORWARD_ONLY)}
    y, state, tape = forward(module, p, **both)
    grads = backward(module, p, tape, **{k: v for k, v in how.items() if k not in FORWARD_ONLY})
    several = reference.CELLS[p.cell].states > 1
    assert isinstance(state, tuple) == isinstance(grads.state, tuple) == several
    return named(y, state, grads)


def core_results(p: Problem, **how: Any) -> dict[str, Any]:
    return results(bptt, p, **how)


def reference_results(p: Problem, **how: Any) -> dict[str, Any]:
    """In float64, whatever the problem's dtype."""
    return results(reference, p.cast("float64"), **how)
