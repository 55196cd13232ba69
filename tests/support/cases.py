# SPDX-License-Identifier: MIT
"""The one table: cells, shapes, options, tolerances. Every check of the functions reads it.

A new cell needs one row in `CELLS`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bptt import reference
from bptt._binding import call as _call


class Cell(NamedTuple):
    id: str
    name: str
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    # The derivative jumps where a sum is 0: a float32 sum that rounds to the other side of it gives
    # another, equally right gradient. Among many sums one such is likely.
    kink: bool = False


CELLS = [
    Cell("rnn-tanh", "rnn", {"activation": "tanh"}),
    Cell("rnn-relu", "rnn", {"activation": "relu"}, kink=True),
    Cell("rnn-leaky_relu", "rnn", {"activation": "leaky_relu"}, kink=True),
    Cell("rnn-sigmoid", "rnn", {"activation": "sigmoid"}),
    Cell("rnn-identity", "rnn", {"activation": "identity"}),
    Cell("lstm", "lstm"),
    Cell("gru", "gru"),
]

# T, B, I, H: ones; tails of every vector width and none; rows that no tile height divides;
# one block of lanes and many; several panels.
SHAPES = [
    (1, 1, 1, 1),
    (5, 2, 3, 4),
    (4, 3, 9, 17),
    (6, 5, 16, 32),
    (4, 7, 33, 65),
    (9, 13, 5, 31),
    (3, 1, 40, 48),
]
# Several chunks of the backward loop, with and without a rest.
LONG_SHAPES = [(300, 7, 20, 40), (37, 64, 12, 130), (129, 1, 5, 16), (3, 150, 4, 24)]
# T, B, I, and H of a cell with one gate, less of one with more: so large that several threads share
# the hidden units (many, in few sequences) or the sequences (4 or more for each thread).
THREAD_SHAPES = [
    (70, 1, 30, 437),
    (50, 3, 30, 437),
    (16, 9, 30, 437),
    (40, 7, 19, 171),
    (40, 8, 19, 171),
    (20, 16, 19, 171),
    (12, 33, 19, 171),
]


class Options(NamedTuple):
    id: str
    b_ih: bool = True
    b_hh: bool = True
    state: bool = True
    lengths: str | None = (
        None  # "any" order with 0 and T among them, "none" (all 0), "full" (all T)
    )
    reverse: bool = False
    step_clip: tuple[str, float] | None = None


OPTIONS = [
    Options("plain"),
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

# Relative to the largest reference value. float64: some ten thousand roundings of 1e-16. float32:
# the same of 6e-8, and the elementary functions' 2e-7 (kernels/vector/math.inl).
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


class Problem(NamedTuple):
    """Arguments of one forward call, and random gradients of all its results."""

    cell: Cell
    arrays: dict[str, Any]  # x w_ih w_hh b_ih b_hh state
    lengths: Any
    reverse: bool
    step_clip: tuple[str, float] | None
    dy: Any
    dstate: Any

    def cast(self, dtype: Any) -> Problem:
        def one(value: Any) -> Any:
            if value is None:
                return None
            return (
                tuple(v.astype(dtype) for v in value)
                if isinstance(value, tuple)
                else value.astype(dtype)
            )

        arrays = {k: one(v) for k, v in self.arrays.items()}
        return self._replace(arrays=arrays, dy=one(self.dy), dstate=one(self.dstate))


def make_lengths(kind: str | None, T: int, B: int, rng: np.random.Generator) -> Any:
    if kind is None:
        return None
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
    cell: Cell,
    shape: tuple[int, int, int, int],
    options: Options = OPTIONS[0],
    dtype: str = "float64",
    seed: int = 0,
) -> Problem:
    """Weights large enough for the non-linearities to bite, small enough not to explode."""
    T, B, I, H = shape
    rng = np.random.default_rng(seed)
    gates, states = reference.CELLS[cell.name].gates, reference.CELLS[cell.name].states

    def normal(*size: int, scale: float = 1.0) -> Any:
        return (scale * rng.standard_normal(size)).astype(dtype)

    def state(given: bool) -> Any:
        if not given:
            return None
        parts = tuple(normal(B, H) for _ in range(states))
        return parts if states > 1 else parts[0]

    arrays = {
        "x": normal(T, B, I),
        "w_ih": normal(gates * H, I, scale=I**-0.5),
        "w_hh": normal(gates * H, H, scale=0.9 * H**-0.5),
        "b_ih": normal(gates * H, scale=0.5) if options.b_ih else None,
        "b_hh": normal(gates * H, scale=0.5) if options.b_hh else None,
        "state": state(options.state),
    }
    lengths = make_lengths(options.lengths, T, B, rng)
    return Problem(
        cell, arrays, lengths, options.reverse, options.step_clip, normal(T, B, H), state(True)
    )


def of_many_threads(cell: Cell, shape: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """One of `THREAD_SHAPES` for this cell; no vector width divides its H."""
    *rest, units = shape
    return (*rest, int(units * reference.CELLS[cell.name].gates ** -0.5) | 1)  # type: ignore


def flat(state: Any) -> list[Any]:
    return list(state) if isinstance(state, tuple) else [state]


def state_of(parts: list[Any]) -> Any:
    return tuple(parts) if len(parts) > 1 else parts[0]


def take(p: Problem, rows: Any) -> Problem:
    """The same problem for some of its sequences."""
    rows = np.asarray(rows)
    arrays = {**p.arrays, "x": p.arrays["x"][:, rows]}
    if p.arrays["state"] is not None:
        arrays["state"] = state_of([s[rows] for s in flat(p.arrays["state"])])
    dstate = state_of([s[rows] for s in flat(p.dstate)])
    lengths = None if p.lengths is None else p.lengths[rows]
    return p._replace(arrays=arrays, lengths=lengths, dy=p.dy[:, rows], dstate=dstate)


def forward(implementation: Any, p: Problem, keep_tape: bool = True, **how: Any) -> Any:
    """`implementation`: `bptt.reference` or `bptt._binding.call`; `how`: threads and such."""
    return implementation.forward(
        p.cell.name, *p.arrays.values(), p.lengths, p.reverse, keep_tape, **p.cell.options, **how
    )


def backward(implementation: Any, p: Problem, tape: Any, **how: Any) -> Any:
    return implementation.backward(p.cell.name, tape, p.dy, p.dstate, p.step_clip, **how)


def results(implementation: Any, p: Problem, **how: Any) -> dict[str, Any]:
    """Everything that a forward and a backward call give, by name."""
    y, state, tape = forward(implementation, p, **how)
    grads = backward(implementation, p, tape, **{k: v for k, v in how.items() if k == "threads"})
    several = reference.CELLS[p.cell.name].states > 1
    assert isinstance(state, tuple) == isinstance(grads.state, tuple) == several
    named = {"y": y, **{f"state[{i}]": s for i, s in enumerate(flat(state))}}
    named |= {f"d {k}": v for k, v in grads._asdict().items() if k != "state" and v is not None}
    return named | {f"d state[{i}]": s for i, s in enumerate(flat(grads.state))}


def core_results(p: Problem, **how: Any) -> dict[str, Any]:
    return results(_call, p, **how)


def reference_results(p: Problem) -> dict[str, Any]:
    return results(reference, p.cast(np.float64))


def same_bits(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    different = [k for k in a if a[k].shape != b[k].shape or a[k].tobytes() != b[k].tobytes()]
    assert not different


# Of these, each sequence has its own: along axis 0 of the states, along axis 1 of the others.
PER_SEQUENCE = ["d x", "d state[0]", "d state[1]", "state[0]", "state[1]", "y"]


def same_bits_per_sequence(part: dict[str, Any], whole: dict[str, Any], rows: list[int]) -> None:
    """`part`: the results of ``take(p, rows)``."""
    names = [name for name in PER_SEQUENCE if name in whole]
    want = {name: np.take(whole[name], rows, 0 if "state" in name else 1) for name in names}
    same_bits({name: part[name] for name in names}, want)


def error(got: Any, want: Any) -> float:
    """Largest difference, relative to the largest wanted value (absolute where all are zero)."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    if got.size == 0:
        return 0.0
    largest = np.abs(want).max()
    return float(np.abs(got - want).max() / (largest if largest > 0 else 1.0))


def assert_close(got: dict[str, Any], want: dict[str, Any], tolerance: float) -> None:
    assert got.keys() == want.keys()
    errors = {name: error(got[name], want[name]) for name in want}
    wrong = {name: e for name, e in errors.items() if not e <= tolerance}
    assert not wrong, f"relative errors {wrong}, tolerance {tolerance}"
