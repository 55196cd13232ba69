# SPDX-License-Identifier: MIT
"""A leak of each unit: each unit is that of a layer whose units all have its leak."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from support.compare import DTYPES, assert_close
from support.problems import Case, problem, results

H = 19


def test_equal_leaks_are_one_leak(isa: str) -> None:
    for extra in ({}, {"layer_norm": True}, {"zoneout": 0.3, "resets": True}, {"skip": 2}):
        for dtype in DTYPES:
            p = problem(Case("", "rnn", extra), (9, 5, 3, H)).cast(dtype)
            leaks = np.full(H, 0.3, dtype)
            got, want = results(bptt, p.given(leak=leaks)), results(bptt, p.given(leak=0.3))
            assert_close(got, want, {"float64": 1e-14, "float32": 1e-5}[dtype])


def test_a_unit_without_recurrence_keeps_to_its_own_leak() -> None:
    leaks = np.geomspace(0.01, 1, H)
    x = np.random.default_rng(0).standard_normal((12, 3, 2))
    w_ih, none = np.random.default_rng(1).standard_normal((H, 2)), np.zeros((H, H))
    y, _, tape = bptt.rnn_forward(x, w_ih, none, leak=leaks)
    grads = bptt.rnn_backward(tape, np.ones_like(y))
    for k, leak in enumerate(leaks):
        one, _, other = bptt.rnn_forward(x, w_ih[k : k + 1], np.zeros((1, 1)), leak=float(leak))
        np.testing.assert_allclose(y[:, :, k], one[:, :, 0], 1e-12, 1e-14)
        g = bptt.rnn_backward(other, np.ones_like(one))
        np.testing.assert_allclose(grads.w_ih[k], g.w_ih[0], 1e-12)


@pytest.mark.parametrize("how", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
def test_layers(how: Any) -> None:
    leaks = np.linspace(0.1, 1, 4)
    layer = bptt.RNN(3, 4, leak=leaks, dtype="float64", seed=0, **how)
    assert layer.leak == tuple(leaks)
    assert "leak=(0.1, 0.4, " in repr(layer)
    x = np.random.default_rng(0).standard_normal((6, 2, 3))
    y, _, tape = layer.forward(x)
    w = [
        layer.parameters[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    assert np.array_equal(bptt.rnn_forward(x, *w, leak=leaks)[0], tape.cells[0].h)
    assert np.array_equal(layer.prepare()(x)[0], y)
    if not how:
        assert np.array_equal(layer.stream(2).process(x), y)
        assert np.isfinite(bptt.gradient_flow(layer, x).cells[0].curve.norms).all()
    v = {"weight_hh_l0": np.ones((4, 4))}
    _, along = bptt.layer_hvp(layer, x, v, dy=np.ones_like(y))
    step, ends = 1e-6, []
    for sign in (1, -1):
        layer.parameters["weight_hh_l0"] += sign * step
        ends.append(layer.backward(layer.forward(x)[2], np.ones_like(y)).params["weight_ih_l0"])
        layer.parameters["weight_hh_l0"] -= sign * step
    difference = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(along.params["weight_ih_l0"], difference, 1e-5, 1e-7)


def test_refused() -> None:
    x, w = np.ones((2, 1, 3)), np.ones((4, 3))
    for leak, kind, text in [
        (
            np.full(3, 0.5),
            ValueError,
            r"rnn_forward: leak has shape \(3,\), expected \(H,\) = \(4,",
        ),
        ([0.5, 0, 1, 1], ValueError, "rnn_forward: leak has 0.0, expected more than 0 and at most"),
        ([0.5, np.nan, 1, 1], ValueError, "rnn_forward: leak has nan, expected more than 0"),
        (np.ones((2, 2)), ValueError, "rnn_forward: leak has 2 dimensions, expected at most 1"),
        (["a"] * 4, TypeError, "rnn_forward: leak has dtype <U1, expected real numbers"),
    ]:
        with pytest.raises(kind, match=text):
            bptt.rnn_forward(x, w, np.ones((4, 4)), leak=leak)
    with pytest.raises(ValueError, match=r"RNN: leak has shape \(3,\), expected \(H,\) = \(4,\)"):
        bptt.RNN(3, 4, leak=[0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match=r"RNN: leak has 1\.5, expected more than 0 and at most 1"):
        bptt.RNN(3, 1, leak=[1.5])
