# SPDX-License-Identifier: MIT
"""Derivatives along a direction: the core's dual numbers against the reference's complex step,
differences of the gradient, and identities of products with one Jacobian and one Hessian."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bptt
from bptt import _core, reference
from support.compare import assert_close, same_bits
from support.directions import Directions, each, hvp, jvp
from support.problems import (
    BACKWARD,
    CELLS,
    CORE,
    NO_BIAS,
    OPTIONS,
    PLAIN,
    Case,
    Problem,
    flat,
    named,
    problem,
    supported,
)

SHAPES = [(7, 3, 3, 6), (9, 13, 5, 18), (1, 40, 3, 4)]


def moved(c: Problem, v: Directions, e: float) -> Problem:
    def add(a: Any, b: Any) -> Any:
        return a + e * b

    arrays = {name: each(add, value, v.arrays[name]) for name, value in c.arrays.items()}
    return c._replace(arrays=arrays, dy=c.dy + e * v.dy, dstate=each(add, c.dstate, v.dstate))


def gradient(c: Problem, **how: Any) -> dict[str, Any]:
    y, state, tape = getattr(bptt, f"{c.cell}_forward")(**c.arrays, **c.options)
    grads = getattr(bptt, f"{c.cell}_backward")(tape, c.dy, c.dstate, **how)
    return named(y, state, grads)


def dot(a: Any, b: Any) -> float:
    """The dot product of two trees of arrays."""
    pairs = zip(a, b) if isinstance(a, (tuple, list)) else [(a, b)]
    if isinstance(a, (tuple, list)):
        return sum(dot(x, y) for x, y in pairs)
    return 0.0 if a is None else float((a * b).sum())


# --- against the reference


@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_core_equals_reference(isa: str, case: Case) -> None:
    for seed, shape in enumerate(SHAPES):
        c = problem(case, shape, NO_BIAS if seed == 1 else PLAIN, seed=seed)
        v = Directions(c)
        for derivative in (jvp, hvp):
            got, want = derivative(c, v), derivative(c, v, reference)
            for ours, theirs in zip(got, want):
                assert_close(ours, theirs, 1e-12)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: o.id)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_plain_cells_equal_the_reference(cell: Case, option: Any) -> None:
    for shape in [(1, 1, 1, 1), (4, 3, 9, 17), (9, 13, 5, 31)]:
        c = problem(cell, shape, option)
        v = Directions(c)
        for got, want in zip(jvp(c, v), jvp(c, v, reference)):
            assert_close(got, want, 1e-12)
        if option.id.startswith("clip-norm") and shape[-1] == 1:
            continue  # the norm of one number: a constant, and a derivative of roundings
        for got, want in zip(hvp(c, v, **c.control), hvp(c, v, reference, **c.control)):
            assert_close(got, want, 1e-11)


@pytest.mark.parametrize("how", BACKWARD, ids=str)
@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_control_of_the_gradient_has_its_derivative(case: Case, how: dict[str, Any]) -> None:
    c = problem(case, (9, 5, 3, 6))
    v = Directions(c)
    if supported(c, how):
        for got, want in zip(hvp(c, v, **how), hvp(c, v, reference, **how)):
            assert_close(got, want, 1e-11)


@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_values_are_those_of_the_functions(case: Case) -> None:
    c = problem(case, (23, 13, 5, 34))
    v = Directions(c)
    # On x86-64 the kernels of dual numbers are those of SSE4.2. Another instruction set rounds
    # otherwise, and a recurrence may amplify that.
    before = _core.isa()
    _core.use_isa("sse42" if "sse42" in _core.isas() else before)
    try:
        want, got = gradient(c), jvp(c, v)[0] | hvp(c, v)[0]
    finally:
        _core.use_isa(before)
    assert_close(got, want, 1e-12)


# --- against differences of the gradient


def differences(c: Problem, v: Directions, e: float) -> dict[str, Any]:
    """Central differences, extrapolated twice: the error left is of the order of e^6."""
    steps = []
    for h in (e, e / 2, e / 4):
        above, below = gradient(moved(c, v, h)), gradient(moved(c, v, -h))
        steps.append({name: (above[name] - below[name]) / (2 * h) for name in above})
    a, b, d = steps
    return {name: (64 * d[name] - 20 * b[name] + a[name]) / 45 for name in a}


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "mgu", "slstm", "lstm1997"])
@pytest.mark.parametrize("options", [{}, {"lengths": True, "reverse": True}, {"dilation": 2}])
def test_derivative_is_the_limit_of_differences(cell: str, options: dict[str, Any]) -> None:
    c = problem(Case("", cell, options), (6, 4, 3, 5), scale=0.5)
    v = Directions(c)
    got = jvp(c, v)[1] | hvp(c, v)[1]
    assert_close(got, differences(c, v, 4e-3), 1e-9)


# --- what must hold for one Jacobian and one Hessian


def smooth(case: Case) -> bool:
    return case.cell != "lstm1997"  # whose gradient is truncated: no transpose of its Jacobian


@pytest.mark.parametrize("case", [c for c in CORE if smooth(c)], ids=lambda c: c.id)
def test_hessian_is_symmetric(case: Case) -> None:
    c = problem(case, (7, 3, 3, 6))
    u, v = Directions(c, 1), Directions(c, 2)
    names = [name for name in c.arrays if c.arrays[name] is not None]
    products = []
    for one, other in [(u, v), (v, u)]:
        _, Hv = bptt.hvp(
            getattr(bptt, f"{c.cell}_forward"), c.arrays, other.arrays, c.dy, c.dstate, **c.options
        )
        terms = [getattr(Hv, name) for name in names]
        products.append(dot([one.arrays[name] for name in names], terms))
        size = sum(dot(each(abs, one.arrays[n]), each(abs, t)) for n, t in zip(names, terms))
    assert abs(products[0] - products[1]) <= 1e-12 * size


@pytest.mark.parametrize("case", [c for c in CORE if smooth(c)], ids=lambda c: c.id)
def test_jacobian_and_its_transpose(case: Case) -> None:
    c = problem(case, (7, 3, 3, 6))
    v, forward = Directions(c), getattr(bptt, f"{c.cell}_forward")
    _, _, dy, dstate = bptt.jvp(forward, c.arrays, v.arrays, **c.options)
    outputs, pullback = bptt.vjp(forward, c.arrays, **c.options)
    same_bits(named(*outputs, {}), named(*forward(**c.arrays, **c.options)[:2], {}))
    grads = pullback(c.dy, c.dstate)
    names = [name for name in c.arrays if c.arrays[name] is not None]
    terms = [getattr(grads, name) for name in names]
    size = sum(dot(each(abs, v.arrays[n]), each(abs, t)) for n, t in zip(names, terms))
    forth = dot(c.dy, dy) + dot(c.dstate, dstate)
    assert abs(forth - dot([v.arrays[name] for name in names], terms)) <= 1e-12 * size


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "mgu", "slstm"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_shape_and_lengths(cell: str, data: st.DataObject) -> None:
    T, B, I, H = (data.draw(st.integers(1, n)) for n in (12, 6, 5, 10))
    lengths = data.draw(st.lists(st.integers(0, T), min_size=B, max_size=B))
    c = problem(Case("", cell, {}), (T, B, I, H), seed=data.draw(st.integers(0, 99)), scale=0.7)
    c = c._replace(options={"lengths": lengths, "reverse": data.draw(st.booleans())})
    v = Directions(c)
    for got, want in zip(jvp(c, v) + hvp(c, v), jvp(c, v, reference) + hvp(c, v, reference)):
        assert_close(got, want, 1e-11)
    for tangents in (jvp(c, v)[1]["y"], hvp(c, v)[1]["d x"]):
        assert not tangents[np.arange(T)[:, None] >= np.array(lengths)].any()


KINKED: list[tuple[str, dict[str, Any]]] = [
    ("rnn", {"activation": "relu"}),
    ("rnn", {"activation": "leaky_relu"}),
    ("lstm", {"gate_activation": "hard_sigmoid", "activation": "relu"}),
    ("gru", {"activation": "relu"}),
]


@pytest.mark.parametrize("module", [bptt, reference], ids=lambda m: m.__name__)
@pytest.mark.parametrize(("cell", "options"), KINKED, ids=str)
def test_both_directions_take_the_same_side_of_a_kink(
    cell: str, options: dict[str, Any], module: Any
) -> None:
    """All sums are 0, where relu has no derivative."""
    c = problem(Case("", cell, options), (4, 2, 3, 5))
    zero = {name: each(np.zeros_like, value) for name, value in c.arrays.items()}
    c, v = c._replace(arrays=zero), Directions(c)
    tangents = jvp(c, v, module)[1]
    forth = dot(c.dy, tangents["y"])
    forth += sum(dot(d, tangents[f"state[{i}]"]) for i, d in enumerate(flat(c.dstate)))
    _, _, tape = getattr(module, f"{cell}_forward")(**c.arrays, **c.options)
    grads = getattr(module, f"{cell}_backward")(tape, c.dy, c.dstate)._asdict()
    back = sum(dot(v.arrays[name], grads[name]) for name in c.arrays)
    assert abs(forth - back) <= 1e-12
