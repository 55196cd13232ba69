# SPDX-License-Identifier: MIT
"""The reference's gradients are the derivatives of its forward functions; tiny cases by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bptt import reference
from support import textbook
from support.compare import assert_close
from support.complex_step import gradients
from support.problems import CELLS, OPTIONS, Case, Options, flat, problem, reference_results

SHAPES = [(4, 2, 3, 4), (5, 3, 1, 2)]
UNCLIPPED = [o for o in OPTIONS if o.step_clip is None]  # clipping makes it no gradient of anything


@pytest.mark.parametrize("options", UNCLIPPED, ids=lambda o: o.id)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_backward_is_the_complex_step_derivative(cell: Case, options: Options) -> None:
    for seed, shape in enumerate(SHAPES):
        p = problem(cell, shape, options, seed=seed)
        got, want = reference_results(p), gradients(p)
        assert_close({name: got[name] for name in want}, want, 1e-12)
        missing = {"d b_ih", "d b_hh"} - want.keys()
        assert not missing & got.keys()


@pytest.mark.parametrize("options", UNCLIPPED, ids=lambda o: o.id)
@pytest.mark.parametrize("cell", [c for c in CELLS if c.cell in textbook.UNITS], ids=lambda c: c.id)
def test_forward_is_that_of_the_textbook(cell: Case, options: Options) -> None:
    p = problem(cell, (4, 3, 2, 3), options)
    got, want = reference_results(p), textbook.outputs(p)
    assert_close({name: got[name] for name in want}, want, 1e-13)


def linear(w_h: float, T: int) -> float:
    """dh_T/dh_0 of a linear unit."""
    x, w_ih = np.zeros((T, 1, 1)), np.ones((1, 1))
    _, _, tape = reference.rnn_forward(x, w_ih, np.full((1, 1), w_h), activation="identity")
    return float(reference.rnn_backward(tape, dstate=np.ones((1, 1))).state.item())


def test_a_linear_unit_fades_and_grows_exponentially() -> None:
    assert linear(0.9, 10) == pytest.approx(0.3486784401, rel=1e-12)
    assert linear(0.9, 50) == pytest.approx(0.00515377520732, rel=1e-10)
    assert linear(1.1, 50) == pytest.approx(117.390852879, rel=1e-10)


def test_three_tanh_steps_by_hand() -> None:
    w_in, w_h, x = 0.7, -0.4, [1.0, 0.0, -2.0]
    y1 = np.tanh(w_in * x[0])
    y2 = np.tanh(w_in * x[1] + w_h * y1)
    y3 = np.tanh(w_in * x[2] + w_h * y2)
    d3 = 1 - y3**2
    d2 = d3 * w_h * (1 - y2**2)
    d1 = d2 * w_h * (1 - y1**2)
    _, h, tape = reference.rnn_forward(
        np.array(x).reshape(3, 1, 1), np.array([[w_in]]), np.array([[w_h]])
    )
    grads = reference.rnn_backward(tape, dstate=np.ones((1, 1)))
    assert h.item() == pytest.approx(y3, rel=1e-14)
    assert grads.x.ravel() == pytest.approx([d1 * w_in, d2 * w_in, d3 * w_in], rel=1e-13)
    assert grads.w_ih.item() == pytest.approx(d1 * x[0] + d2 * x[1] + d3 * x[2], rel=1e-13)
    assert grads.w_hh.item() == pytest.approx(d2 * y1 + d3 * y2, rel=1e-13)
    assert grads.state.item() == pytest.approx(d1 * w_h, rel=1e-13)


def test_an_open_lstm_carries_c_and_its_gradient() -> None:
    """Forget gate 1, input gate 0: c and dL/dc pass 100 steps unchanged."""
    b = np.array([-100.0, 100.0, 0.0, 0.0])
    zeros = np.zeros((4, 1))
    state = (np.zeros((1, 1)), np.full((1, 1), 0.5))
    _, (_, c), tape = reference.lstm_forward(np.zeros((100, 1, 1)), zeros, zeros, b, state=state)
    grads = reference.lstm_backward(tape, dstate=(None, np.ones((1, 1))))
    assert c.item() == 0.5
    assert grads.state[1].item() == 1.0


def test_a_closed_update_gate_keeps_the_state_of_a_gru() -> None:
    b = np.array([0.0, 100.0, 0.0])
    zeros = np.zeros((3, 1))
    _, h, tape = reference.gru_forward(
        np.ones((100, 1, 1)), zeros, zeros, b, state=np.full((1, 1), 0.5)
    )
    assert h.item() == 0.5
    assert reference.gru_backward(tape, dstate=np.ones((1, 1))).state.item() == 1.0


def test_clipping_by_value_bounds_elements_and_turns_the_direction() -> None:
    dh = np.array([[3.0, -0.5], [0.2, 0.1]])
    clipped = reference.clip_step(dh, ("value", 1.0))
    assert clipped.tolist() == [[1.0, -0.5], [0.2, 0.1]]


def test_clipping_by_norm_bounds_each_sequence_and_keeps_its_direction() -> None:
    dh = np.array([[3.0, -4.0], [0.3, 0.4]])
    clipped = reference.clip_step(dh, ("norm", 1.0))
    assert clipped == pytest.approx(np.array([[0.6, -0.8], [0.3, 0.4]]), rel=1e-15)
    assert reference.clip_step(np.zeros((1, 2)), ("norm", 1.0)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("kind", ["value", "norm"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_step_clip_bounds_what_reaches_the_initial_state(cell: Case, kind: str) -> None:
    plain = problem(cell, (6, 3, 2, 5))
    free = reference_results(plain)
    tight = reference_results(plain.clipped(kind, 0.01))
    loose = reference_results(plain.clipped(kind, 1e9))
    for name, value in free.items():
        assert np.array_equal(loose[name], value), name
    dh = flat(tight["d state[0]"])[0]
    size = np.abs(dh).max() if kind == "value" else np.sqrt((dh * dh).sum(axis=-1)).max()
    assert size <= 0.01 * (1 + 1e-12)
    assert not np.allclose(tight["d w_hh"], free["d w_hh"])
