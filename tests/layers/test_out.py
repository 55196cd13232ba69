# SPDX-License-Identifier: MIT
"""Results that are written to an array of the caller."""

from __future__ import annotations

import numpy as np
import pytest

from bptt import GRU, LSTM

RNG = np.random.default_rng(0)
T, B, I, H = 7, 3, 4, 5


def arrays_for(y):
    """Arrays of the shape of y: as the core writes them, and others."""
    twice = np.full((*y.shape[:-1], 2 * y.shape[-1]), np.nan, y.dtype)
    kinds = {
        "core": np.full_like(y, np.nan),
        "strided": twice[..., ::2],
        "float64": np.full(y.shape, np.nan),
        "float16": np.full(y.shape, np.nan, np.float16),
        "fortran": np.full(y.shape, np.nan, y.dtype, order="F"),
    }
    return [pytest.param(out, id=kind) for kind, out in kinds.items()]


OUTS = arrays_for(np.zeros((T, B, H), np.float32))


@pytest.mark.parametrize("out", OUTS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_process_writes_there(out, batch_first, num_layers):
    layer = LSTM(I, H, num_layers, batch_first=batch_first, seed=0)
    x = RNG.normal(size=(T, B, I)).astype(np.float32)
    x, out = (x.swapaxes(0, 1), out.copy("K").swapaxes(0, 1)) if batch_first else (x, out.copy("K"))
    expected = layer(x)[0]
    stream = layer.stream(B)
    assert stream.process(x, out=out) is out
    assert np.array_equal(out, expected.astype(out.dtype))
    assert np.array_equal(stream.state[0], layer(x)[1][0])


@pytest.mark.parametrize("out", arrays_for(np.zeros((B, H), np.float32)))
def test_step_writes_there(out):
    gru = GRU(I, H, seed=0)
    x = RNG.normal(size=(T, B, I)).astype(np.float32)
    stream, y = gru.stream(B), gru(x)[0]
    for x_t, y_t in zip(x, y):
        assert stream.step(x_t, out) is out
        assert np.array_equal(out, y_t.astype(out.dtype))


@pytest.mark.parametrize("out", arrays_for(np.zeros(H, np.float32)))
def test_step_of_one_sequence(out):
    gru = GRU(I, H, seed=0)
    x = RNG.normal(size=(T, I))
    stream, y = gru.stream(), gru(x[:, None])[0]
    for x_t, y_t in zip(x, y):
        assert stream.step(x_t, out) is out
        assert np.array_equal(out, y_t[0].astype(out.dtype))


@pytest.mark.parametrize("weights", [None, "int8"])
@pytest.mark.parametrize("out", arrays_for(np.zeros((T, B, 2 * H), np.float32)))
def test_prepared_writes_there(out, weights):
    layer = LSTM(I, H, 2, bidirectional=True, seed=0)
    x, infer = RNG.normal(size=(T, B, I)).astype(np.float32), layer.prepare(weights)
    resets = RNG.random((T, B)) < 0.2
    lengths = np.array([7, 0, 4])
    state = tuple(RNG.normal(size=(4, B, H)).astype(np.float32) for _ in "hc")
    for given in ({}, {"lengths": lengths}, {"resets": resets}, {"state": state}):
        expected, last = infer(x, **given)
        y, final = infer(x, **given, out=out)
        assert y is out
        assert np.array_equal(out, expected.astype(out.dtype))
        assert all(np.array_equal(a, b) for a, b in zip(final, last))


@pytest.mark.parametrize("out", OUTS)
def test_prepared_batch_first(out):
    gru = GRU(I, H, batch_first=True, seed=0)
    x, out = RNG.normal(size=(B, T, I)).astype(np.float32), out.copy("K").swapaxes(0, 1)
    assert gru.prepare()(x, out=out)[0] is out
    assert np.array_equal(out, gru(x)[0].astype(out.dtype))


def test_memory_of_the_arguments():
    """The result may take the place of x or of the state."""
    gru = GRU(H, H, 2, seed=0)
    x = RNG.normal(size=(T, B, H)).astype(np.float32)
    y = gru(x)[0]
    for run in (
        lambda x, out: gru.stream(B).process(x, out),
        lambda x, out: gru.prepare()(x, out=out)[0],
    ):
        same = x.copy()
        assert run(same, out=same) is same
        assert np.array_equal(same, y)
        longer = np.concatenate([x, x])
        run(longer[:T], out=longer[1 : T + 1])
        assert np.array_equal(longer[1 : T + 1], y)
    stream, row = gru.stream(B), x[0].copy()
    stream.step(row, row)
    assert np.array_equal(row, y[0])
    state = RNG.normal(size=(2, B, H)).astype(np.float32)
    expected = gru(x[:2], state)[0]
    assert np.array_equal(gru.prepare()(x[:2], state, out=state)[0], expected)


def refused(y):
    """What cannot take the place of y."""
    frozen = y.copy()
    frozen.flags.writeable = False
    return [
        (y[..., :-1].copy(), ValueError, r"out has shape .*expected \(.*H\) = \("),
        (y[None], ValueError, "out has shape"),
        (frozen, ValueError, "out is read-only"),
        (y.astype(int), TypeError, "out has dtype int64, expected float32"),
        (y.tolist(), TypeError, "out is list, expected a NumPy array"),
    ]


@pytest.mark.parametrize("case", range(5))
def test_refused_before_anything_changes(case):
    gru = GRU(I, H, seed=0)
    x, stream = RNG.normal(size=(T, B, I)).astype(np.float32), gru.stream(B)
    y = stream.process(x)
    state = stream.state
    calls = {
        "stream.process": lambda out: stream.process(x, out),
        "stream.step": lambda out: stream.step(x[0], out),
        "GRU": lambda out: gru.prepare()(x, out=out),
    }
    for caller, call in calls.items():
        out, error, message = refused(y[0] if caller == "stream.step" else y)[case]
        with pytest.raises(error, match=f"{caller}: {message}"):
            call(out)
        assert np.array_equal(stream.state, state)


def test_nothing_is_allocated():
    """The result of the core goes into the array itself."""
    gru = GRU(I, H, seed=0)
    x, out = np.ones((T, B, I), np.float32), np.empty((T, B, H), np.float32)
    assert gru.stream(B)._core.process(x, out) is out
    assert gru.prepare()._kept[0](x, None, None, None, out)[0] is out
    assert gru.stream(B)._core.process(x, out[:, :, ::-1]) is None
    assert gru.stream(B)._core.process(x, out.astype(float)) is None
    assert gru.stream(B)._core.process(x, out[1:]) is None
    out.flags.writeable = False
    assert gru.stream(B)._core.process(x, out) is None
