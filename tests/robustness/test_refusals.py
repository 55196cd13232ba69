# SPDX-License-Identifier: MIT
"""Refusals that depend on more than the kind of one argument; `test_arguments` tries the kinds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt

LSTM = bptt.LSTM(2, 3, seed=0)
X = np.ones((4, 2, 2))
W = np.full((3, 3), np.nan)
DOUBLE = bptt.RNN(2, 2, dtype="float64", seed=0)


def spectrum(lengths: list[int]) -> Any:
    tape = LSTM.forward(X, lengths=lengths)[2].cells[0]
    return bptt.lyapunov_spectrum(tape)


def checked(**options: Any) -> Any:
    inputs = {"x": np.ones((2, 1, 2))}
    return bptt.gradcheck(DOUBLE.forward, DOUBLE.backward, inputs, **options)


def rnn(**options: Any) -> Any:
    return bptt.rnn_forward(np.ones((3, 2, 4)), np.ones((3, 4)), np.ones((3, 3)), **options)


def lstm(items: int, **options: Any) -> Any:
    state = (np.zeros((2, 3)),) * items
    return bptt.lstm_forward(
        np.ones((3, 2, 4)), np.ones((12, 4)), np.ones((12, 3)), None, None, state, **options
    )


ROWS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: rnn(compute=True), ValueError, "rnn_forward: compute is True, expected one of"),
    (lambda: rnn(compute=False), ValueError, "rnn_forward: compute is False, expected one of"),
    (
        lambda: rnn(activation="\ud800"),
        ValueError,
        "rnn_forward: activation is '\\ud800', expected one of",
    ),
    (
        lambda: rnn(activation="x\0y"),
        ValueError,
        "rnn_forward: activation is 'x\\x00y', expected one of",
    ),
    (
        lambda: rnn(activation=("relu", 0.1)),
        ValueError,
        "rnn_forward: activation is ('relu', 0.1), expected 'relu' alone",
    ),
    (
        lambda: rnn(activation=("elu", 1, 2)),
        ValueError,
        "rnn_forward: activation is ('elu', 1, 2), expected at most 'elu' and scale",
    ),
    (
        lambda: rnn(activation=("affine", 1, "2")),
        TypeError,
        "rnn_forward: offset of activation is '2', expected a number",
    ),
    (
        lambda: rnn(activation=["leaky_relu", np.nan]),
        ValueError,
        "rnn_forward: slope of activation is nan, expected a finite number",
    ),
    (lambda: rnn(activation=()), ValueError, "rnn_forward: activation is (), expected one of"),
    (
        lambda: bptt.LSTM(3, 4, gate_activation=("hard", 0.2)),
        ValueError,
        "LSTM: gate_activation is ('hard', 0.2), expected one of",
    ),
    (lambda: lstm(3), TypeError, "lstm_forward: state is 3 items, expected a tuple (h, c)"),
    (lambda: lstm(3, threads=1), TypeError, "lstm_forward: state is 3 items, expected a tuple"),
    (
        lambda: bptt.LSTM(2, 3, dropout="0.5"),
        TypeError,
        "LSTM: dropout is '0.5', expected a number",
    ),
    (lambda: bptt.LSTM(2, 3, dropout=None), TypeError, "LSTM: dropout is None, expected a number"),
    (lambda: bptt.LSTM(2, 3, dropout=True), TypeError, "LSTM: dropout is True, expected a number"),
    (lambda: bptt.LSTM(2, 3, zoneout=("x", 0)), TypeError, "LSTM: zoneout[0] is 'x', expected a"),
    (lambda: bptt.LSTM(2, True), TypeError, "LSTM: hidden_size is True, expected a whole number"),
    (
        lambda: bptt.LSTM(2, 3, 10**9),
        ValueError,
        "LSTM: num_layers is 1000000000, expected 1..65536",
    ),
    (lambda: bptt.LSTM(2, 2**40), ValueError, "LSTM: weight_hh_l0 has shape (4398046511104, 10"),
    (lambda: bptt.LSTM(2, 3, dtype="abc"), TypeError, "LSTM: dtype is 'abc', expected float32 or"),
    (lambda: bptt.LSTM(2, 3, dtype="f2"), TypeError, "LSTM: dtype is float16, expected float32 or"),
    (lambda: bptt.LSTM(2, 3, dtype=None), TypeError, "LSTM: dtype is None, expected float32 or"),
    (lambda: bptt.LSTM(2, 3, seed=-1), ValueError, "LSTM: seed is -1, expected 0 or more"),
    (
        lambda: bptt.LSTM(2, 3, seed=[1]),
        TypeError,
        "LSTM: seed is [1], expected a whole number, a n",
    ),
    (lambda: bptt.init.spectral(W), ValueError, "spectral: w is nan at (0, 0), expected finite"),
    (
        lambda: bptt.init.nearest_orthogonal(W),
        ValueError,
        "nearest_orthogonal: w is nan at (0, 0),",
    ),
    (
        lambda: bptt.init.normal(W[0], mean=10**5000),
        ValueError,
        "normal: mean is of type int, ex",
    ),
    (lambda: spectrum([4, 0]), ValueError, "lyapunov_spectrum: tape has a sequence of no steps"),
    (lambda: checked(eps=0), ValueError, "gradcheck: eps is 0, expected more than 0"),
    (lambda: checked(eps=-1e-6), ValueError, "gradcheck: eps is -1e-06, expected more than 0"),
    (
        lambda: checked(params={"a": 1}),
        TypeError,
        "gradcheck: params['a'] has dtype int64, expecte",
    ),
    (lambda: bptt.load(5), TypeError, "load: path is 5, expected a path"),
    (
        lambda: bptt.load("a\0b"),
        ValueError,
        "load: path is 'a\\x00b', expected 1..4096 characters, ",
    ),
    (
        lambda: bptt.save("a.npz", {"\ud800": X}),
        ValueError,
        "save: arrays has '\\ud800', expected Unicode text",
    ),
    (
        lambda: bptt.save_c_header("a.h", LSTM, cell="gru"),
        ValueError,
        "save_c_header: cell is 'gru', expected None: the layer has its own",
    ),
    (
        lambda: bptt.gradient_flow(LSTM, X, loss=lambda y: y.sum()),
        TypeError,
        "gradient_flow: loss returns np.float32(",
    ),
    (
        lambda: bptt.gradient_flow(LSTM, X, loss=lambda y: (y, y)),
        TypeError,
        "gradient_flow: value of loss is array([[[",
    ),
    (
        lambda: bptt.slstm_forward(X, np.ones((12, 2)), np.ones((12, 3)), heads=np.ones(2)),
        TypeError,
        "slstm_forward: heads is array([1., 1.]), expected a whole number",
    ),
    (
        lambda: bptt.rnn_forward(X, np.ones((3, 2)), np.eye(3), dilation=True),
        TypeError,
        "rnn_forward: dilation is True, expected a whole number",
    ),
    (
        lambda: bptt.lstm_forward(X, np.ones((12, 2)), np.ones((12, 3)), forget_gate=None),
        TypeError,
        "lstm_forward: forget_gate is None, expected its name",
    ),
]  # type: ignore


@pytest.mark.parametrize(("call", "kind", "text"), ROWS, ids=[row[2] for row in ROWS])
def test_refused(
    call: Callable[[], Any],
    kind: type[Exception],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=re.escape(text)):
        call()
    assert not list(tmp_path.iterdir())


def test_defaults_that_are_given_leave_a_call_as_it_is() -> None:
    arguments = X, np.ones((12, 2)), np.ones((12, 3))
    plain = bptt.lstm_forward(*arguments)[2]
    given = {"forget_gate": "".join(["o", "wn"]), "dilation": np.int64(1), "skip": np.int32(0)}
    tape = bptt.lstm_forward(*arguments, **given)[2]
    assert plain is not None
    assert tape is not None
    assert plain.options is tape.options is None


def test_masks_are_refused_where_they_were_dropped(tmp_path: Path) -> None:
    masked = np.ma.masked_array(np.ones((2, 3)), mask=True)
    grads = {"w": masked}
    stream = LSTM.stream(2)
    calls: list[Callable[[], Any]] = [
        lambda: bptt.mse(np.ones((2, 3)), masked),
        lambda: bptt.cross_entropy(np.ones((2, 3, 4)), masked.astype(int)),
        lambda: bptt.SGD(grads),
        lambda: bptt.SGD({"w": np.ones((2, 3))}).step(grads),
        lambda: bptt.clip_grad_norm(grads, 1.0),
        lambda: bptt.save(tmp_path / "a.npz", grads),
        lambda: bptt.save_c_header(tmp_path / "a.h", grads),
        lambda: bptt.init.orthogonal(masked),
        lambda: bptt.init.irnn({"weight_hh_l0": masked}),
        lambda: bptt.gradient_flow(LSTM, np.ma.masked_array(X, mask=True)),
        lambda: stream.reset(np.ma.masked_array([True, True], mask=True)),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="is a masked array, expected one without a mask"):
            call()


def test_no_memory_is_no_wrong_argument() -> None:
    class Large:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        bptt.LSTM(3, 4)(Large())


def test_zoneout_of_any_array() -> None:
    class Wrapped:
        def __init__(self, array: Any) -> None:
            self.array = array

        def __array__(self, *_: Any, **__: Any) -> Any:
            return self.array

    rng = np.random.default_rng(0)
    x, w_ih, w_hh = rng.normal(size=(6, 2, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 4))
    zones = (rng.random((6, 2, 4)) < 0.5).astype(float)
    want = bptt.rnn_forward(x, w_ih, w_hh, zoneout=zones)[0]
    np.testing.assert_array_equal(bptt.rnn_forward(x, w_ih, w_hh, zoneout=Wrapped(zones))[0], want)
    want = bptt.rnn_forward(x, w_ih, w_hh, zoneout=0.25)[0]
    for number in (np.float32(0.25), np.array(0.25)):
        np.testing.assert_array_equal(bptt.rnn_forward(x, w_ih, w_hh, zoneout=number)[0], want)
