# SPDX-License-Identifier: MIT
"""How jvp, hvp and vjp are called and computed: threads, arguments, layers, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from support.compare import assert_close, same_bits
from support.directions import Directions, each, hvp, jvp
from support.problems import CORE, Case, flat, named, problem

# --- how it is computed


@pytest.mark.parametrize("case", CORE[::5], ids=lambda c: c.id)
def test_threads_and_checkpoints_give_the_same_bits(case: Case) -> None:
    for shape in [(70, 3, 9, 90), (33, 17, 9, 40)]:
        c = problem(case, shape)
        v = Directions(c)
        how = {"step_clip": ("norm", 0.5)}
        for derivative, options in ((jvp, {}), (hvp, how)):
            want = derivative(c, v, threads=1, **options)
            many = derivative(c, v, threads=3, **options)
            for a, b in zip(many, want):
                same_bits(a, b)
        for a, b in zip(hvp(c, v, checkpoint="sqrt", **how), want):
            same_bits(a, b)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_many_sequences_of_one_step(cell: str) -> None:
    """Each row gets the same bits as alone, so steps may be computed as a batch."""
    c = problem(Case("", cell, {}), (1, 500, 4, 9))
    v, forward = Directions(c), getattr(bptt, f"{cell}_forward")
    whole = bptt.hvp(forward, c.arrays, v.arrays, c.dy, c.dstate)[1]

    def of(b: int, state: Any) -> Any:
        return each(lambda s: s[b : b + 1], state)

    def row(b: int, arrays: dict[str, Any]) -> dict[str, Any]:
        return {**arrays, "x": arrays["x"][:, b : b + 1], "state": of(b, arrays["state"])}

    for b in (0, 123, 499):
        one = bptt.hvp(
            forward, row(b, c.arrays), row(b, v.arrays), c.dy[:, b : b + 1], of(b, c.dstate)
        )[1]
        assert np.array_equal(one.x, whole.x[:, b : b + 1])
        for got, want in zip(flat(one.state), flat(of(b, whole.state))):
            assert np.array_equal(got, want)


def test_float32_is_computed_in_float64() -> None:
    c = problem(Case("", "gru", {}), (5, 3, 4, 6))
    narrow = {name: each(np.float32, value) for name, value in c.arrays.items()}
    wide = {name: each(np.float64, value) for name, value in narrow.items()}
    v = Directions(c)
    got, want = (
        hvp(c._replace(arrays=arrays), v)[0] | hvp(c._replace(arrays=arrays), v)[1]
        for arrays in (narrow, wide)
    )
    assert all(a.dtype == np.float64 for a in got.values())
    same_bits(got, want)


def test_arguments_in_order_or_by_name() -> None:
    c = problem(Case("", "lstm", {}), (5, 3, 4, 6))
    v = Directions(c)
    want = bptt.jvp(bptt.lstm_forward, c.arrays, {"w_hh": v.arrays["w_hh"]})
    got = bptt.jvp(bptt.lstm_forward, tuple(c.arrays.values()), (None, None, v.arrays["w_hh"]))
    same_bits(named(got[0], got[1], {}), named(want[0], want[1], {}))
    same_bits(named(got[2], got[3], {}), named(want[2], want[3], {}))


def test_a_state_of_zeros_has_tangents() -> None:
    c = problem(Case("", "lstm", {}), (5, 3, 4, 6))
    given = {**c.arrays, "state": each(np.zeros_like, c.arrays["state"])}
    v = {"state": (None, np.ones((3, 6)))}
    want = bptt.jvp(bptt.lstm_forward, given, {"state": (np.zeros((3, 6)), np.ones((3, 6)))})
    got = bptt.jvp(bptt.lstm_forward, {**c.arrays, "state": None}, v)
    for a, b in zip(got, want):
        same_bits(dict(enumerate(flat(a))), dict(enumerate(flat(b))))


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_cotangents_as_functions(cell: str) -> None:
    """The gradient of the sum of the cubes of all outputs."""
    c = problem(Case("", cell, {}), (5, 3, 4, 6))
    v, forward = Directions(c), getattr(bptt, f"{cell}_forward")

    def cubes(value: Any, tangent: Any) -> Any:
        pair = each(lambda a, t: (3 * a * a, 6 * a * t), value, tangent)
        return tuple(zip(*pair)) if isinstance(value, tuple) else pair

    grads, along = bptt.hvp(forward, c.arrays, v.arrays, cubes, cubes)
    y, state, _, _ = bptt.jvp(forward, c.arrays, v.arrays)
    same = bptt.hvp(
        forward, c.arrays, v.arrays, 3 * y * y, each(lambda a: 3 * a * a, state),
        dy_tangent=6 * y * bptt.jvp(forward, c.arrays, v.arrays)[2],
        dstate_tangent=each(lambda a, t: 6 * a * t, *bptt.jvp(forward, c.arrays, v.arrays)[1::2]),
    )  # fmt: skip
    for got, want in zip((grads, along), same):
        same_bits(named(None, None, got), named(None, None, want))


def test_a_layer_of_the_hessian_by_columns() -> None:
    """The Hessian of a small network, row by row from unit vectors, is symmetric and right."""
    c = problem(Case("", "rnn", {}), (4, 2, 2, 3))
    arrays = {name: c.arrays[name] for name in ("x", "w_ih", "w_hh")}

    def column(index: tuple[int, ...]) -> Any:
        unit = np.zeros((3, 3))
        unit[index] = 1
        return bptt.hvp(bptt.rnn_forward, arrays, {"w_hh": unit}, c.dy)[1].w_hh.ravel()

    H = np.array([column(index) for index in np.ndindex(3, 3)])
    assert np.abs(H - H.T).max() <= 1e-14 * np.abs(H).max()
    assert np.abs(H).max() > 0.1


# --- layers

LAYERS: dict[str, Any] = {
    "stack": lambda: bptt.GRU(3, 4, num_layers=2, dtype="float64", seed=0),
    "both-directions": lambda: bptt.LSTM(
        3, 4, 2, bidirectional=True, dropout=0.3, batch_first=True, dtype="float64", seed=0
    ),
    "options": lambda: bptt.RNN(
        3, 4, 2, residual=True, zoneout=0.2, recurrent_dropout=0.2, skip=2, dtype="float64", seed=0
    ),
    "projected": lambda: bptt.LSTM(3, 4, proj_size=2, peepholes=True, dtype="float64", seed=0),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_of_a_layer(kind: str) -> None:
    rng = np.random.default_rng(3)
    layer, x = LAYERS[kind](), rng.standard_normal((5, 4, 3))
    lengths = np.array([5, 2, 0, 4, 1][: 5 if layer.batch_first else 4]).clip(max=4)
    state = layer(x)[1]
    v = {name: rng.standard_normal(a.shape) for name, a in layer.parameters.items()}
    v |= {"x": rng.standard_normal(x.shape), "state": each(np.ones_like, state)}
    y = layer(x)[0]

    def gradient(e: float) -> dict[str, Any]:
        moved = LAYERS[kind]()  # with the same masks
        for name, a in moved.parameters.items():
            a += e * v[name]
        start = each(lambda s, t: s + e * t, state, v["state"])
        y, _, tape = moved.forward(x + e * v["x"], start, lengths)
        return flattened(moved.backward(tape, 2 * y, start))

    def flattened(grads: Any) -> dict[str, Any]:
        return {**grads.params, "x": grads.x} | dict(enumerate(flat(grads.state)))  # type: ignore

    grads, Hv = bptt.layer_hvp(
        layer, x, v, lambda y, t: (2 * y, 2 * t), state,
        state=state, dstate_tangent=v["state"], lengths=lengths,
    )  # fmt: skip
    assert grads.params.keys() == layer.parameters.keys() == Hv.params.keys()
    assert_close(flattened(grads), gradient(0), 1e-12)
    e = 1e-4
    above, below = gradient(e), gradient(-e)
    differences = {name: (above[name] - below[name]) / (2 * e) for name in above}
    assert_close(flattened(Hv), differences, 1e-6)
    assert np.array_equal(layer(x)[0], y)  # as it was


# --- errors


def small() -> dict[str, Any]:
    return {"x": np.ones((2, 1, 3)), "w_ih": np.ones((4, 3)), "w_hh": np.ones((4, 4))}


ERRORS: list[tuple[Any, type[Exception], str]] = [
    (lambda: bptt.jvp(np.tanh, small(), {}), TypeError, "jvp: forward is .*expected one of .*gru"),
    (
        lambda: bptt.jvp(bptt.rnn_forward, 3, {}),
        TypeError,
        "jvp: primals is int, expected a dict or tuple",
    ),
    (
        lambda: bptt.hvp(bptt.rnn_forward, {**small(), "w_hr": 1}, {}),
        ValueError,
        "hvp: primals has 'w_hr', expected names among x, w_ih, w_hh, b_ih, b_hh, state, layer_no",
    ),
    (
        lambda: bptt.vjp(bptt.rnn_forward, (0,) * 8),
        ValueError,
        "vjp: primals has 8 items, expected at most 7",
    ),
    (
        lambda: bptt.jvp(bptt.rnn_forward, small(), {"b_ih": np.ones(4)}),
        ValueError,
        "jvp: tangents has 'b_ih', expected a primal of that name",
    ),
    (
        lambda: bptt.jvp(bptt.rnn_forward, small(), {"w_hh": np.ones((4, 1))}),
        ValueError,
        r"jvp: the tangent of w_hh has shape \(4, 1\), expected that of w_hh = \(4, 4\)",
    ),
    (
        lambda: bptt.jvp(bptt.rnn_forward, small(), {"w_hh": np.ones((4, 4)) * 1j}),
        TypeError,
        "jvp: the tangent of w_hh has dtype complex128, expected real numbers",
    ),
    (
        lambda: bptt.jvp(bptt.rnn_forward, {**small(), "w_hh": np.ones((4, 3))}, {}),
        ValueError,
        r"rnn_forward: w_hh has shape \(4, 3\)",
    ),
    (
        lambda: bptt.hvp(bptt.rnn_forward, small(), {}, np.ones((2, 1, 3))),
        ValueError,
        r"rnn_backward: dy has shape \(2, 1, 3\), expected \(T, B, H\) = \(2, 1, 4\)",
    ),
    (
        lambda: bptt.hvp(bptt.rnn_forward, small(), {}, lambda y, t: y),
        TypeError,
        "hvp: dy returns ndarray, expected a pair",
    ),
    (
        lambda: bptt.hvp(bptt.rnn_forward, small(), {}, lambda y, t: (y, t), dy_tangent=1),
        ValueError,
        "hvp: dy is a function and dy_tangent is given, expected one",
    ),
    (
        lambda: bptt.hvp(bptt.lstm_forward, small(), {"state": np.ones((1, 1))}),
        TypeError,
        r"hvp: the tangent of state is ndarray, expected a tuple \(h, c\)",
    ),
    (
        lambda: bptt.jvp(bptt.rnn_forward, small(), {}, compute="bf16"),
        ValueError,
        "rnn_forward: compute is 'bf16' with complex128 arrays, expected float32",
    ),
    (
        lambda: bptt.rnn_forward(small()["x"] * 1j, small()["w_ih"], small()["w_hh"]),
        TypeError,
        "rnn_forward: x has dtype complex128, expected real numbers",
    ),
    (
        lambda: bptt.layer_hvp(bptt.Linear(2, 3), np.ones((2, 1, 2)), {}),
        TypeError,
        "layer_hvp: layer is Linear, expected a recurrent layer",
    ),
    (
        lambda: bptt.layer_hvp(bptt.RNN(2, 3), np.ones((2, 1, 2)), {"w_hh": 1}),
        ValueError,
        "layer_hvp: tangents has 'w_hh', expected names among x, state, weight_ih_l0",
    ),
    (
        lambda: bptt.layer_hvp(bptt.RNN(2, 3), np.ones((2, 1, 2)), {"weight_hh_l0": np.ones(3)}),
        ValueError,
        r"layer_hvp: the tangent of weight_hh_l0 has shape \(3,\), expected .* = \(3, 3\)",
    ),
]


@pytest.mark.parametrize(("action", "kind", "message"), ERRORS, ids=[m for _, _, m in ERRORS])
def test_errors(action: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        action()
