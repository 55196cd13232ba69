# SPDX-License-Identifier: MIT
"""One row per message of the functions: the wrong argument, the exception, the text."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import _core

T, B, I, H = 5, 3, 4, 6
GOOD = {
    "x": np.zeros((T, B, I)),
    "w_ih": np.zeros((4 * H, I)),
    "w_hh": np.zeros((4 * H, H)),
    "b_ih": np.zeros(4 * H),
    "b_hh": np.zeros(4 * H),
    "state": (np.zeros((B, H)), np.zeros((B, H))),
}
OBJECTS = np.full((T, B, I), None)

THREADS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"threads": 0}, ValueError, "threads is 0, expected 1"),
    ({"threads": -1}, ValueError, "threads is -1, expected 1"),
    ({"threads": 1025}, ValueError, "threads is 1025, expected 1..1024"),
    ({"threads": 2**40}, ValueError, "threads is 1099511627776, expected 1..1024"),
    ({"threads": 1.5}, TypeError, "threads is 1.5, expected a whole number"),
    ({"threads": True}, TypeError, "threads is True, expected a whole number"),
    ({"threads": "2"}, TypeError, "threads is '2', expected a whole number"),
]
FORWARD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": None}, TypeError, "lstm_forward: x is None, expected an array"),
    (
        {"x": np.zeros((T, I))},
        ValueError,
        "lstm_forward: x has shape (5, 4), expected (T, B, I), 3 dimensions",
    ),
    (
        {"x": np.zeros((1, T, B, I))},
        ValueError,
        "lstm_forward: x has 4 dimensions, expected at most 3",
    ),
    ({"x": np.zeros((T, B, 0))}, ValueError, "x has shape (5, 3, 0), expected I of 1 or more"),
    (
        {"x": np.zeros((T, B, I), complex)},
        TypeError,
        "lstm_forward: x has dtype complex128, expected real numbers",
    ),
    (
        {"x": np.ma.masked_array(np.zeros((T, B, I)), mask=True)},
        TypeError,
        "lstm_forward: x is a masked array, expected one without a mask",
    ),
    ({"reverse": "yes"}, TypeError, "lstm_forward: reverse is 'yes', expected True or False"),
    ({"keep_tape": None}, TypeError, "lstm_forward: keep_tape is None, expected True or False"),
    (
        {"x": [[[1.0], [1.0, 2.0]]]},
        ValueError,
        "lstm_forward: x is not an array: setting an array el",
    ),
    ({"x": OBJECTS}, TypeError, "lstm_forward: x has dtype object, expected real numbers"),
    ({"x": "text"}, TypeError, "lstm_forward: x has dtype <U4, expected real numbers"),
    (
        {"w_ih": np.zeros((4 * H, I + 1))},
        ValueError,
        "lstm_forward: w_ih has shape (24, 5), expected (4*H, I) = (24, 4)",
    ),
    (
        {"w_ih": np.zeros((4 * H, I)).T},
        ValueError,
        "lstm_forward: w_ih has shape (4, 24), expected (4*H, I) = (24, 4)",
    ),
    ({"w_ih": np.zeros(4)}, ValueError, "w_ih has shape (4,), expected (4*H, I), 2 dimensions"),
    (
        {"w_hh": np.zeros((H, 4 * H))},
        ValueError,
        "lstm_forward: w_hh has shape (6, 24), expected (4*H, H) = (96, 24)",
    ),
    ({"w_hh": np.zeros(())}, ValueError, "w_hh has shape (), expected (4*H, H), 2 dimensions"),
    ({"w_hh": np.zeros((0, 0))}, ValueError, "w_hh has shape (0, 0), expected H of 1 or more"),
    ({"b_ih": np.zeros(H)}, ValueError, "b_ih has shape (6,), expected (4*H,) = (24,)"),
    ({"b_hh": np.zeros((1, 4 * H))}, ValueError, "b_hh has shape (1, 24), expected (4*H,) = (24,)"),
    ({"state": np.zeros((2, B, H))}, TypeError, "state is ndarray, expected a tuple (h, c)"),
    ({"state": (np.zeros((B, H)),)}, TypeError, "state is 1 items, expected a tuple (h, c)"),
    (
        {"state": (np.zeros((B, H)), np.zeros((1, H)))},
        ValueError,
        "lstm_forward: state[1] has shape (1, 6), expected (B, H) = (3, 6)",
    ),
    ({"lengths": [1, 2]}, ValueError, "lengths has shape (2,), expected (B,) = (3,)"),
    ({"lengths": 5}, ValueError, "lengths has shape (), expected (B,) = (3,)"),
    ({"lengths": [1, 6, 2]}, ValueError, "lstm_forward: lengths[1] is 6, expected 0..T = 0..5"),
    ({"lengths": [1, 2, -1]}, ValueError, "lstm_forward: lengths[2] is -1, expected 0..T = 0..5"),
    (
        {"lengths": np.array([1, 2, 2**64 - 1], np.uint64)},
        ValueError,
        "lengths[2] is 9223372036854775807, expected 0..T = 0..5",
    ),
    ({"lengths": [1.0, 2.0, 3.0]}, TypeError, "lengths has dtype float64, expected integers"),
    (
        {"lengths": [1, [2, 3]]},
        ValueError,
        "lstm_forward: lengths is not an array: setting an array",
    ),
    ({"lengths": np.ma.masked_array([1, 2, 3])}, TypeError, "lstm_forward: lengths is a masked"),
    ({"lengths": np.zeros((1, 1, 1, 3), int)}, ValueError, "lengths has 4 dimensions, expected at"),
    (
        {"resets": [[True], [False, True]]},
        ValueError,
        "lstm_forward: resets is not an array: setting",
    ),
    *THREADS,
    ({"checkpoint": "log"}, ValueError, "checkpoint is 'log', expected None, 'sqrt' or a number"),
    (
        {"checkpoint": True},
        ValueError,
        "checkpoint is True, expected None, 'sqrt' or a number of",
    ),
    ({"checkpoint": ["sqrt"]}, ValueError, "checkpoint is ['sqrt'], expected None, 'sqrt' or a"),
    ({"checkpoint": np.ones(2)}, ValueError, "checkpoint is array([1., 1.]), expected None, 'sqrt"),
    (
        {"checkpoint": -1},
        ValueError,
        "checkpoint is -1, expected None, 'sqrt' or a number of",
    ),
    ({"checkpoint": 1e9}, ValueError, "checkpoint is 1000000000.0, expected None, 'sqrt' or a num"),
    ({"checkpoint": 999}, ValueError, "lstm_forward: checkpoint is 999, expected at least "),
]

BACKWARD: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"tape": None},
        TypeError,
        "lstm_backward: tape is None, expected that of lstm_forward(keep_tape=True)",
    ),
    (
        {"grads": "x"},
        TypeError,
        "lstm_backward: grads is 'x', expected some of ['x', 'w_ih', 'w_hh', 'b_ih', 'b_hh', 'sta",
    ),
    ({"grads": 3}, TypeError, "lstm_backward: grads is 3, expected some of ['x', 'w_ih', 'w_hh'"),
    (
        {"grads": ("x", "w", None)},
        ValueError,
        "lstm_backward: grads has ['w', None], expected some of ['x', 'w_ih', 'w_hh', 'b_ih', 'b_",
    ),
    ({"grads": ("trace",)}, ValueError, "lstm_backward: grads has ['trace'], expected some of"),
    ({"tape": "gru"}, TypeError, "lstm_backward: tape is Tape(gru, T=1, B=1, I=1, H=1, float64"),
    (
        {"dy": np.zeros((T, B, H + 1))},
        ValueError,
        "lstm_backward: dy has shape (5, 3, 7), expected (T, B, H) = (5, 3, 6)",
    ),
    ({"dy": np.zeros((T, B, H), complex)}, TypeError, "lstm_backward: dy has dtype complex128"),
    ({"dstate": np.zeros((B, H))}, TypeError, "dstate is ndarray, expected a tuple (h, c)"),
    (
        {"dstate": (np.zeros((B, H)), np.zeros((H, B)))},
        ValueError,
        "lstm_backward: dstate[1] has shape (6, 3), expected (B, H) = (3, 6)",
    ),
    ({"step_clip": 1.0}, ValueError, "step_clip is 1.0, expected ('value', bound) or ('norm', bou"),
    ({"step_clip": ("max", 1.0)}, ValueError, "step_clip is ('max', 1.0), expected ('value', boun"),
    ({"step_clip": ("norm",)}, ValueError, "step_clip is ('norm',), expected ('value', bound) or "),
    ({"step_clip": ("norm", 0)}, ValueError, "step_clip has bound 0, expected more than 0"),
    ({"step_clip": ("value", -1.0)}, ValueError, "step_clip has bound -1.0, expected more than 0"),
    ({"step_clip": ("norm", np.nan)}, ValueError, "step_clip has bound nan, expected more than 0"),
    ({"step_clip": (np.ones(2), 1.0)}, ValueError, "expected ('value', bound) or ('norm', bound)"),
    ({"step_clip": ("norm", "1")}, TypeError, "step_clip has bound '1', expected a number"),
    *THREADS,
]


@pytest.mark.parametrize(("wrong", "kind", "text"), FORWARD, ids=[row[2] for row in FORWARD])
def test_forward_refuses(wrong: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=re.escape(text)) as info:
        bptt.lstm_forward(**{**GOOD, **wrong})
    assert str(info.value).startswith("lstm_forward: ")


@pytest.mark.parametrize(("wrong", "kind", "text"), BACKWARD, ids=[row[2] for row in BACKWARD])
def test_backward_refuses(wrong: dict[str, Any], kind: type[Exception], text: str) -> None:
    good = {"tape": bptt.lstm_forward(**GOOD)[2], "dy": np.zeros((T, B, H))}
    if wrong.get("tape") == "gru":
        one = np.zeros((1, 1, 1))
        wrong = {"tape": bptt.gru_forward(one, np.zeros((3, 1)), np.zeros((3, 1)))[2]}
    with pytest.raises(kind, match=re.escape(text)) as info:
        bptt.lstm_backward(**{**good, **wrong})
    assert str(info.value).startswith("lstm_backward: ")


def test_names_of_other_cells() -> None:
    x, w = np.zeros((T, B, I)), np.zeros((3 * H, H))
    with pytest.raises(
        ValueError, match=re.escape("gru_forward: w_ih has shape (18, 6), expected")
    ):
        bptt.gru_forward(x, w, w)
    with pytest.raises(
        ValueError, match=re.escape("rnn_forward: w_hh has shape (18, 6), expected (H, H) = (6, 6)")
    ):
        bptt.rnn_forward(x, np.zeros((H, I)), w)
    with pytest.raises(
        ValueError,
        match=re.escape("rnn_forward: activation is 'selu', expected one of ('tanh', 'relu', "),
    ):
        bptt.rnn_forward(x, np.zeros((H, I)), np.zeros((H, H)), activation="selu")
    with pytest.raises(ValueError, match="rnn_forward: activation is None, expected one of"):
        bptt.rnn_forward(x, np.zeros((H, I)), np.zeros((H, H)), activation=None)  # type: ignore
    with pytest.raises(ValueError, match=re.escape("state has shape (3,), expected (B, H)")):
        bptt.rnn_forward(x, np.zeros((H, I)), np.zeros((H, H)), state=np.zeros(3))


def test_sizes_too_large_to_address() -> None:
    huge = np.broadcast_to(np.float32(0), (2**40, 2**20, 1))
    one = np.zeros((1, 1), np.float32)
    with pytest.raises((ValueError, MemoryError)):
        bptt.rnn_forward(huge, one, one)


WIDE: list[tuple[dict[str, Any], str]] = [
    ({"w_hr": np.zeros(H)}, "w_hr has shape (6,), expected (P, H), 2 dimensions"),
    ({"w_hr": np.zeros((3, H))}, "w_hr has shape (3, 6), expected (P, H) = (2, 6)"),
    ({"w_hh": np.zeros((4 * H, 3))}, "w_hr has shape (2, 6), expected (P, H) = (3, 6)"),
    ({"w_hh": np.zeros((H, 2))}, "w_hh has shape (6, 2), expected (4*H, P) = (24, 2)"),
    ({"h_mask": np.ones((B, H))}, "h_mask has shape (3, 6), expected (B, P) = (3, 2)"),
    (
        {"state": (np.zeros((B, H)), np.zeros((B, H)))},
        "state[0] has shape (3, 6), expected (B, P) = (3, 2)",
    ),
]


@pytest.mark.parametrize(("wrong", "text"), WIDE, ids=lambda v: v if isinstance(v, str) else "")
def test_a_projection_refuses(wrong: dict[str, Any], text: str) -> None:
    good = {**GOOD, "w_hh": np.zeros((4 * H, 2)), "w_hr": np.zeros((2, H)), "state": None}
    y, (h, c), _ = bptt.lstm_forward(**good)
    assert (y.shape, h.shape, c.shape) == ((T, B, 2), (B, 2), (B, H))
    with pytest.raises(ValueError, match=re.escape("lstm_forward: " + text)):
        bptt.lstm_forward(**{**good, **wrong})


ROWS, UNITS = np.ones(4 * H), np.ones(H)
NORM: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"layer_norm": True}, TypeError, "layer_norm is bool, expected a tuple (g_ih, g_hh), and"),
    ({"layer_norm": (ROWS,)}, ValueError, "layer_norm has 1 items, expected (g_ih, g_hh), and for"),
    (
        {"layer_norm": (ROWS, ROWS)},
        ValueError,
        "layer_norm[2] is left out, expected 4 arrays",
    ),
    (
        {"layer_norm": (ROWS, None, UNITS, UNITS)},
        TypeError,
        "layer_norm[1] has dtype object, expected real numbers",
    ),
    (
        {"layer_norm": (UNITS, ROWS, UNITS, UNITS)},
        ValueError,
        "layer_norm[0] has shape (6,), expected (4*H,) = (24,)",
    ),
    (
        {"layer_norm": (ROWS, ROWS, UNITS, ROWS)},
        ValueError,
        "layer_norm[3] has shape (24,), expected (H,) = (6,)",
    ),
]


@pytest.mark.parametrize(("wrong", "kind", "text"), NORM, ids=[row[2] for row in NORM])
def test_a_normalisation_refuses(wrong: dict[str, Any], kind: type[Exception], text: str) -> None:
    good = {**GOOD, "layer_norm": (ROWS, ROWS, UNITS, UNITS)}
    assert bptt.lstm_forward(**good)[0].shape == (T, B, H)
    with pytest.raises(kind, match=re.escape("lstm_forward: " + text)):
        bptt.lstm_forward(**{**good, **wrong})


def test_a_normalisation_needs_the_reset_after_the_product() -> None:
    x, w, u, gain = (np.zeros(s) for s in ((T, B, I), (3 * H, I), (3 * H, H), 3 * H))
    text = "gru_forward: layer_norm is given with reset_after=False, expected reset_after=True"
    for module in (bptt, bptt.reference):
        with pytest.raises(ValueError, match=text):
            module.gru_forward(x, w, u, layer_norm=(gain, gain), reset_after=False)
    with pytest.raises(
        ValueError, match=re.escape("gru_forward: layer_norm[2] is given, expected 2 arrays")
    ):
        bptt.gru_forward(x, w, u, layer_norm=(gain, gain, gain[:H], gain[:H]))


@pytest.mark.skipif(not _core.has_bf16(), reason="this CPU has no products in bfloat16")
def test_a_normalisation_has_no_products_in_bfloat16() -> None:
    x, w, u, gain = (np.zeros(s, "f") for s in ((T, B, I), (H, I), (H, H), H))
    with pytest.raises(ValueError, match="compute is bf16, which rnn has no kernels for"):
        bptt.rnn_forward(x, w, u, layer_norm=(gain, gain), compute="bf16")
    y, _, _ = bptt.rnn_forward(x, w, u, layer_norm=(gain, gain), compute="bf16_if_available")
    assert y.dtype == np.float32


def test_other_widths_refuse() -> None:
    x, w = np.zeros((T, B, I)), np.zeros((3 * H, I))
    with pytest.raises(TypeError, match="gru_forward: reset_after is 1, expected True or False"):
        bptt.gru_forward(x, w, np.zeros((3 * H, H)), reset_after=1)  # type: ignore
    text = "lstm1997_forward: w_hh has shape (18, 6), expected (3*H, 3*H) = (6, 6)"
    with pytest.raises(ValueError, match=re.escape(text)):
        bptt.lstm1997_forward(x, w, np.zeros((3 * H, H)))
