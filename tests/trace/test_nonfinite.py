# SPDX-License-Identifier: MIT
"""The first value that is not finite is found, and called by its place."""

from __future__ import annotations

import numpy as np
import pytest

import bptt
from bptt import NonFinite, find_nonfinite, functional

T, B, I, H = 12, 3, 4, 5
GATES = {"rnn": 1, "lstm": 4, "gru": 3, "mgu": 2, "slstm": 4}


def arguments(cell, **more):
    rng, G = np.random.default_rng(0), GATES[cell]
    shapes = {"x": (T, B, I), "w_ih": (G * H, I), "w_hh": (G * H, H), "b_ih": (G * H,)}
    return {name: 0.5 * rng.standard_normal(shape) for name, shape in shapes.items()} | more


def tape_of(cell, given):
    return getattr(functional, f"{cell}_forward")(**given)[2]


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("reverse", [False, True])
def test_nan_in_x_is_met_at_its_step(cell, reverse):
    given = arguments(cell, reverse=reverse)
    assert find_nonfinite(tape_of(cell, given)) is None
    given["x"][7, 1, 2] = np.nan
    tape = tape_of(cell, given)
    assert find_nonfinite(tape) == ("forward", 0, 7, 1, "x", 2)
    given["x"][7, 1, 2] = 0  # the tape refers to it; its own values are as they were
    assert find_nonfinite(tape) == ("forward", 0, 7, 1, tape.names[0], 0)


@pytest.mark.parametrize("name", ["w_ih", "w_hh", "b_ih"])
def test_a_parameter_comes_first(name):
    given = arguments("gru")
    given[name][11] = -np.inf
    given["x"][0] = np.nan
    assert find_nonfinite(tape_of("gru", given)) == (
        "forward", 0, None, None, name, 11,
    )  # fmt: skip


def test_gains_are_parameters():
    gru = bptt.GRU(I, H, layer_norm=True, seed=0)
    gru.parameters["gain_hh_l0"][8] = np.nan
    tape = gru.forward(np.ones((T, B, I)))[2]
    assert find_nonfinite(tape) == ("forward", 0, None, None, "layer_norm[1]", 8)


@pytest.mark.parametrize("part", [0, 1])
def test_initial_state(part):
    state = [np.zeros((B, H)), np.zeros((B, H))]
    state[part][2, 4] = np.inf
    given = arguments("lstm", state=tuple(state))
    assert find_nonfinite(tape_of("lstm", given)) == NonFinite(
        "forward", 0, None, 2, f"state[{part}]", 4
    )


def test_overflow_by_hand():
    """h doubles every step: 2^t, more than float32 holds after 2^127, from step 128 on."""
    for reverse in (False, True):
        x = np.zeros((140, 2, 1), np.float32)
        x[-1 if reverse else 0, 1] = 1
        one = np.ones((1, 1), np.float32)
        _, h, tape = bptt.rnn_forward(x, one, 2 * one, activation="identity", reverse=reverse)
        assert h[1] == np.inf
        step = 139 - 128 if reverse else 128
        assert find_nonfinite(tape) == ("forward", 0, step, 1, "h", 0)


def test_of_one_step_the_gates_come_in_order():
    """c overflows, not its gates: i = f = 1, g = 1e38 each."""
    ones = np.ones((9, 1, 1), np.float32)
    w = np.array([[50], [50], [1e38], [0]], np.float32)
    zero = np.zeros((4, 1), np.float32)
    tape = bptt.lstm_forward(ones, w, zero, activation="identity")[2]
    assert find_nonfinite(tape) == ("forward", 0, 3, 0, "c", 0)


def test_padding_is_not_looked_at():
    given = arguments("lstm", lengths=np.array([12, 4, 0]))
    given["x"][4:, 1] = np.nan
    given["x"][:, 2] = np.inf
    tape = tape_of("lstm", given)
    assert find_nonfinite(tape) is None
    del given["lengths"]
    tape = tape_of("lstm", given)
    assert find_nonfinite(tape) == ("forward", 0, 0, 2, "x", 0)


def test_a_tape_with_checkpoints_has_h():
    given = arguments("lstm", checkpoint="sqrt")
    given["x"] = np.tile(given["x"], (200, 1, 1))
    given["x"][900, 2] = np.nan
    tape = tape_of("lstm", given)
    with pytest.raises(ValueError, match="segments"):
        _ = tape.i
    assert find_nonfinite(tape) == ("forward", 0, 900, 2, "x", 0)
    given["x"][900, 2] = 0
    assert find_nonfinite(tape) == ("forward", 0, 900, 2, "h", 0)


@pytest.mark.parametrize("batch_first", [False, True])
def test_layers(batch_first):
    lstm = bptt.LSTM(I, H, 2, bidirectional=True, batch_first=batch_first, seed=0)
    x = np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32)
    lengths = np.array([12, 6, 9])
    x[8:, 1] = np.nan  # padding
    x[5, 2, 3] = np.nan
    given = x.swapaxes(0, 1) if batch_first else x
    tape = lstm.forward(given, lengths=lengths)[2]
    assert find_nonfinite(tape) == ("forward", 0, 5, 2, "x", 3)
    x[5, 2, 3] = 0
    tape = lstm.forward(given, lengths=lengths)[2]
    assert find_nonfinite(tape) is None
    h, c = np.zeros((4, B, H)), np.zeros((4, B, H))
    c[3, 1, 2] = np.nan
    tape = lstm.forward(given, (h, c), lengths)[2]
    assert find_nonfinite(tape) == ("forward", 3, None, 1, "state[1]", 2)
    lstm.parameters["weight_hh_l1"][7, 1] = np.nan
    tape = lstm.forward(given, lengths=lengths)[2]
    assert find_nonfinite(tape) == ("forward", 2, None, None, "w_hh", 7)


def test_the_backward_direction_is_met_from_its_end():
    rnn = bptt.RNN(1, 1, bidirectional=True, activation="identity", seed=0)
    for name, p in rnn.parameters.items():
        p[...] = {"weight_ih_l0_reverse": 1, "weight_hh_l0_reverse": 2}.get(name, 0)
    tape = rnn.forward(np.ones((140, 1, 1)))[2]
    # 2^n - 1 after n steps: 2^128 - 1 rounds to 2^128, which is none
    assert find_nonfinite(tape) == ("forward", 1, 140 - 128, 0, "h", 0)


def test_no_steps_and_no_sequences():
    for shape in ((0, 2, 1), (3, 0, 1)):
        tape = bptt.rnn_forward(np.ones(shape), np.ones((2, 1)), np.ones((2, 2)))[2]
        assert find_nonfinite(tape) is None


def test_bad_input():
    with pytest.raises(TypeError, match="find_nonfinite: tape is None, expected that of a forward"):
        find_nonfinite(None)


def test_clipping_tells_how_to_look():
    with pytest.raises(FloatingPointError, match=r"bptt\.find_nonfinite\(tape\) finds the first"):
        bptt.clip_grad_norm({"w": np.array([np.nan])}, 1.0)
