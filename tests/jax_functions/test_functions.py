# SPDX-License-Identifier: MIT
"""`bptt.jax` beside `jax.lax.scan` of the equations, and beside the functions of NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from support.compare import DTYPES, TOLERANCE_OF_TORCH, assert_close, same_bits
from support.problems import CORE, Case, Options, core_results, make_lengths, named, problem

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import bptt.jax  # noqa: E402
from support import jax_scan  # noqa: E402

NAMES = ("rnn", "lstm", "gru")
SHAPE = (7, 5, 3, 6)


@pytest.fixture(autouse=True)
def wide(request: pytest.FixtureRequest) -> Iterator[None]:
    """64 bits, but for tests of float32: those run as users run JAX."""
    parameters = getattr(request.node, "callspec", None)
    dtype = parameters.params.get("dtype", "float64") if parameters else "float64"
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", dtype == "float64")
    yield
    jax.config.update("jax_enable_x64", before)


def pulled(function: Any, arrays: dict[str, Any], dy: Any, dstate: Any) -> dict[str, Any]:
    """y, the final state and all gradients, in one compiled program."""
    given = {name: value for name, value in arrays.items() if value is not None}

    @jax.jit
    def both(given: Any, cotangents: Any) -> Any:
        results, pull = jax.vjp(lambda given: function(**given), given)
        return results, pull(cotangents)[0]

    (y, state), grads = both(given, (dy, dstate))
    return jax.tree.map(np.asarray, named(y, state, grads))


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "reverse": {"reverse": True},
    "lengths": {"lengths": True},
    "resets": {"resets": True},
    "everything": {"lengths": True, "resets": True, "reverse": True},
}


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", NAMES)
def test_scan(cell: str, dtype: str, options: str, biases: bool) -> None:
    given = dict(OPTIONS[options])
    rng = np.random.default_rng(1)
    p = problem(Case(cell, cell), SHAPE, Options("", biases, biases), dtype)
    if given.get("lengths"):
        given["lengths"] = make_lengths("any", SHAPE[0], SHAPE[1], rng)
    if given.get("resets"):
        given["resets"] = rng.random(SHAPE[:2]) < 0.3
    got = pulled(partial(getattr(bptt.jax, cell), **given), p.arrays, p.dy, p.dstate)
    want = pulled(partial(jax_scan.recurrence, cell, **given), p.arrays, p.dy, p.dstate)
    assert all(value.dtype == dtype for value in got.values())
    assert_close(got, want, TOLERANCE_OF_TORCH[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", NAMES)
def test_without_jit_and_without_state(cell: str, dtype: str) -> None:
    p = problem(Case(cell, cell), SHAPE, Options("", state=False), dtype)
    arguments = [jnp.asarray(p.arrays[name]) for name in ("x", "w_ih", "w_hh", "b_ih", "b_hh")]

    def loss(function: Any, *arguments: Any) -> Any:
        return jnp.vdot(function(*arguments)[0], p.dy)

    got, want = (
        jax.value_and_grad(partial(loss, function), (0, 1, 2, 3, 4))(*arguments)
        for function in (getattr(bptt.jax, cell), partial(jax_scan.recurrence, cell))
    )
    names = ("x", "w_ih", "w_hh", "b_ih", "b_hh")
    tolerance = TOLERANCE_OF_TORCH[dtype]
    assert abs(got[0] - want[0]) <= tolerance * np.abs(p.dy).sum()
    assert_close(dict(zip(names, got[1])), dict(zip(names, want[1])), tolerance)


@pytest.mark.parametrize("case", [c for c in CORE if c.cell in NAMES], ids=lambda c: c.id)
def test_every_option_gives_the_bits_of_numpy(case: Case) -> None:
    p = problem(case, SHAPE)
    function = partial(getattr(bptt.jax, case.cell), **p.options)
    same_bits(pulled(function, p.arrays, p.dy, p.dstate), core_results(p))


HOW: list[dict[str, Any]] = [
    {"step_clip": ("norm", 0.2)},
    {"step_clip": ["value", 0.1, "gates"], "cut": 3},
    {"checkpoint": "sqrt", "threads": 2},
]


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("cell", NAMES)
def test_the_way_of_computing(cell: str, how: dict[str, Any]) -> None:
    p = problem(Case(cell, cell), SHAPE)
    got = pulled(partial(getattr(bptt.jax, cell), **how), p.arrays, p.dy, p.dstate)
    same_bits(got, core_results(p, **how))
    plain = core_results(p)
    assert ("checkpoint" in how) == all(np.array_equal(got[name], plain[name]) for name in plain)


def test_chunks_in_a_scan_are_one_call() -> None:
    p = problem(Case("lstm", "lstm"), (12, 5, 3, 6))

    def chunked(x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, state: Any) -> Any:
        def chunk(state: Any, x: Any) -> Any:
            y, state = bptt.jax.lstm(x, w_ih, w_hh, b_ih, b_hh, state)
            return state, y

        state, y = jax.lax.scan(chunk, state, x.reshape(4, 3, 5, 3))
        return y.reshape(12, 5, 6), state

    got = pulled(chunked, p.arrays, p.dy, p.dstate)
    assert_close(got, core_results(p), TOLERANCE_OF_TORCH["float64"])
    again = pulled(jax.checkpoint(chunked), p.arrays, p.dy, p.dstate)
    same_bits(
        {k: np.asarray(v) for k, v in again.items()}, {k: np.asarray(v) for k, v in got.items()}
    )


@pytest.mark.parametrize(("T", "B"), [(0, 2), (3, 0)])
def test_empty_arrays(T: int, B: int) -> None:
    p = problem(Case("lstm", "lstm"), (3, 2, 3, 4))
    arrays = {**p.arrays, "x": np.ones((T, B, 3))}
    arrays["state"] = tuple(np.ones((B, 4)) for _ in range(2))
    p = p._replace(arrays=arrays, dy=np.ones((T, B, 4)), dstate=arrays["state"])
    got = pulled(bptt.jax.lstm, p.arrays, p.dy, p.dstate)
    same_bits(got, core_results(p))


# --- dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "w", "y"),
    [
        ("float32", "float32", "float32"),
        ("float32", "float64", "float64"),
        ("bfloat16", "float32", "float32"),
        ("float16", "float16", "float32"),
        ("int32", "float32", "float32"),
    ],
)
def test_dtypes(x: str, w: str, y: str) -> None:
    arrays = [jnp.ones(s, d) for s, d in (((3, 2, 4), x), ((5, 4), w), ((5, 5), w))]
    assert bptt.jax.rnn(*arrays)[0].dtype == y
    dw = jax.grad(lambda w: bptt.jax.rnn(arrays[0], w, arrays[2])[0].sum())(arrays[1])
    assert dw.dtype == w


def test_64_bits_of_numpy_are_32_unless_jax_is_told(request: Any) -> None:
    jax.config.update("jax_enable_x64", False)
    y, h = bptt.jax.rnn(np.ones((3, 2, 4)), np.ones((5, 4)), np.ones((5, 5)), lengths=[3, 1])
    assert y.dtype == h.dtype == np.float32


# --- what is computed -----------------------------------------------------------------------------


def test_only_wanted_gradients_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    from bptt.jax import callbacks

    seen: list[Any] = []

    def watched(cell: str, tape: Any, dy: Any, dstate: Any, control: Any) -> Any:
        if np.ndim(tape.h) and tape.lengths is None:  # not the check of shapes
            seen.append((control[4], dy is None, [d is None for d in dstate or ()]))
        return bptt.lstm_backward(tape, dy, dstate, grads=control[4])

    monkeypatch.setattr(callbacks, "backward", watched)
    p = problem(Case("lstm", "lstm"), SHAPE)
    x, w_ih, w_hh = (jnp.asarray(p.arrays[name]) for name in ("x", "w_ih", "w_hh"))

    def last(w_hh: Any) -> Any:
        return bptt.jax.lstm(x, w_ih, w_hh)[1][0].sum()

    jax.jit(jax.grad(last))(w_hh)
    jax.jit(jax.grad(lambda x: bptt.jax.lstm(x, w_ih, w_hh)[0].sum()))(x)
    assert seen == [(("w_hh",), True, [False, True]), (("x",), False, [True, True])]
