# SPDX-License-Identifier: MIT
"""Layers that run step by step: the bits of the whole sequence, and clear errors."""

from __future__ import annotations

import itertools
import re
import signal
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.layers import GRU, LSTM, LSTM1997, RNN, Recurrent
from support.problems import flat, state_of

LAYERS = [
    lambda **o: RNN(3, 17, **o),
    lambda **o: RNN(5, 80, activation="relu", bias=False, **o),
    lambda **o: LSTM(3, 8, **o),
    lambda **o: LSTM(7, 33, 2, **o),
    lambda **o: GRU(40, 48, 3, bias=False, **o),
    lambda **o: LSTM(5, 37, 2, proj_size=19, **o),
    lambda **o: LSTM1997(5, 37, 2, **o),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 2, 9])
@pytest.mark.parametrize("make", LAYERS)
def test_however_cut_the_bits_of_the_whole(make: Any, batch: int, dtype: str, isa: str) -> None:
    layer: Recurrent = make(dtype=dtype, seed=0)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((75, batch, layer.input_size)).astype(dtype)
    state = state_of([rng.standard_normal(s.shape).astype(dtype) for s in flat(layer(x)[1])])
    y, final = layer(x, state)
    stream = layer.stream(batch, state)
    cuts = [0, 1, 2, 2, 5, 38, 75]
    pieces = [stream.process(x[a:b]) for a, b in itertools.pairwise(cuts)]
    assert np.array_equal(np.concatenate(pieces), y)
    assert all(np.array_equal(a, b) for a, b in zip(flat(stream.state), flat(final)))
    stream = layer.stream(batch, state)
    assert np.array_equal([stream.step(x_t) for x_t in x], y)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LSTM(300, 310, seed=0),
        lambda: LSTM(300, 310, proj_size=99, seed=0),
        lambda: LSTM1997(50, 310, seed=0),
    ],
)
def test_threads_that_share_a_large_layer_give_the_same_bits(make: Any) -> None:
    layer = make()
    x = np.random.default_rng(0).standard_normal((5, 2, layer.input_size)).astype(np.float32)
    y, before = layer(x)[0], bptt.get_num_threads()
    try:
        for threads in (1, 2, 3):
            bptt.set_num_threads(threads)
            stream = layer.stream(2)
            assert np.array_equal([stream.step(x_t) for x_t in x], y)
    finally:
        bptt.set_num_threads(before)


def test_it_is_a_copy() -> None:
    layer = LSTM(2, 4, seed=0)
    x = np.ones((3, 1, 2), np.float32)
    y = layer(x)[0]
    stream = layer.stream()
    for array in layer.parameters.values():
        array[...] = 7
    assert np.array_equal(stream.process(x), y)
    h, _ = stream.state
    h[...] = 7
    assert not (stream.state[0] == 7).any()


def test_other_inputs_are_converted() -> None:
    layer = GRU(3, 5, batch_first=True, seed=0)
    x = np.random.default_rng(0).standard_normal((1, 6, 3))
    y = layer(x)[0]
    assert np.array_equal(layer.stream().process(x), y)
    stream = layer.stream()
    inputs = [x[0, 0], x[:, 1].tolist(), x[:, 2].astype(">f8"), np.asfortranarray(x[:, 3])]
    steps = [np.reshape(stream.step(x_t), (1, 5)) for x_t in inputs]
    assert np.array_equal(np.stack(steps, 1), y[:, :4])
    assert stream.step(np.zeros(3, np.float32)).shape == (5,)
    assert stream.process(np.zeros((1, 0, 3))).shape == (1, 0, 5)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("LSTM.stream: batch is 0, expected 1..", lambda: LSTM(2, 3).stream(0)),
        ("LSTM.stream: batch is 1.5, expected a whole", lambda: LSTM(2, 3).stream(1.5)),  # type: ignore[arg-type]
        ("is bidirectional", lambda: LSTM(2, 3, bidirectional=True).stream()),
        ("expected (B, I) with B = 1, I = 2", lambda: LSTM(2, 3).stream().step(np.zeros((2, 2)))),
        ("x has shape (3,)", lambda: LSTM(2, 3).stream().step(np.zeros(3))),
        ("x has shape (2,)", lambda: LSTM(2, 3).stream(2).step(np.zeros(2))),
        ("with B = 1, I = 2", lambda: LSTM(2, 3).stream().process(np.zeros((4, 2)))),
        ("stream.step: x", lambda: LSTM(2, 3).stream().step(np.zeros((1, 2), complex))),
        ("state", lambda: GRU(2, 3).stream(2, np.zeros((1, 1, 3)))),
    ],
)
def test_errors(message: str, call: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        call()


def test_the_state_can_be_assigned() -> None:
    layer = LSTM(2, 3, 2, seed=0)
    x = np.random.default_rng(0).standard_normal((4, 1, 2)).astype(np.float32)
    stream = layer.stream()
    first, state, second = stream.process(x[:2]), stream.state, stream.process(x[2:])
    stream.state = state
    assert np.array_equal(stream.process(x[2:]), second)
    stream.state = (np.zeros((2, 1, 3)),) * 2
    assert np.array_equal(stream.process(x[:2]), first)
    with pytest.raises(ValueError, match=re.escape("(num_layers, B, H) = (2, 1, 3)")):
        stream.state = (np.zeros((1, 1, 3)),) * 2
    with pytest.raises(TypeError, match=re.escape("expected a tuple (h, c)")):
        stream.state = np.zeros((2, 1, 3))
    with pytest.raises(TypeError, match=re.escape("expected a tuple (h, c, i, o)")):
        LSTM1997(2, 3).stream().state = (np.zeros((1, 1, 3)),) * 2
    with pytest.raises(ValueError, match=re.escape("(num_layers, B, P) = (1, 1, 2)")):
        LSTM(2, 3, proj_size=2).stream().state = (np.zeros((1, 1, 3)),) * 2


def test_repr() -> None:
    assert repr(bptt.GRU(2, 3, 2).stream(4)) == (
        "Stream(batch=4, input_size=2, num_layers=2, float32)"
    )


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX signals")
def test_a_stopped_call_leaves_the_state_as_it_was() -> None:
    def stop(*_: Any) -> None:
        raise InterruptedError

    stream = GRU(64, 256, 3, seed=0).stream(16)
    stream.process(np.ones((5, 16, 64)))
    before = stream.state
    kept = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(InterruptedError):
            stream.process(np.ones((30_000, 16, 64), np.float32))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, kept)
    assert stream.state.tobytes() == before.tobytes()


def test_a_step_takes_an_array_of_any_layout() -> None:
    x = np.random.default_rng(0).standard_normal((3, 2)).astype("f4")
    first, second = (GRU(3, 4, seed=1).stream(2) for _ in range(2))
    assert np.array_equal(first.step(x.T), second.step(np.ascontiguousarray(x.T)))
