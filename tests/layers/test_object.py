# SPDX-License-Identifier: MIT
"""Layers as objects: threads, copies, dtypes, loading, printing, errors."""

from __future__ import annotations

import copy
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bptt.layers import GRU, LSTM, RNN, Recurrent


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_calls_may_run_in_threads(dropout):
    layer = LSTM(4, 16, 2, dropout=dropout, seed=0)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((10, 3, 4)) for _ in range(24)]

    def train(layer, x):
        y, _, tape = layer.forward(x)
        return layer.backward(tape, y), tape.masks

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda x: train(layer, x), inputs))
    masks = [tuple(m.tobytes() for m in masks) for _, masks in together]
    if dropout:  # the order of calls is free, but every call has the masks of one place in it
        copies = LSTM(4, 16, 2, dropout=dropout, seed=0)
        expected = [tuple(m.tobytes() for m in copies.forward(x)[2].masks) for x in inputs]
        assert sorted(masks) == sorted(expected)
        assert len(set(masks)) == len(inputs)
        return
    for x, (grads, _) in zip(inputs, together):
        alone, _ = train(layer, x)
        np.testing.assert_array_equal(grads.x, alone.x)
        for name, value in alone.params.items():
            np.testing.assert_array_equal(grads.params[name], value)


def test_layers_can_be_copied_and_pickled():
    layer = LSTM(3, 4, 2, dropout=0.5, seed=0)
    x = np.ones((5, 2, 3))
    layer.forward(x)
    twins = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    expected = layer.forward(x)[0]
    for twin in twins:
        np.testing.assert_array_equal(twin.forward(x)[0], expected)
        assert not any(np.shares_memory(twin.parameters[k], p) for k, p in layer.parameters.items())


def test_one_seed_gives_one_layer_in_both_precisions():
    a, b, c = (GRU(3, 4, dtype=d, seed=s) for d, s in (("f4", 1), ("f8", 1), ("f4", 2)))
    for name in a.parameters:
        np.testing.assert_array_equal(a.parameters[name], b.parameters[name].astype("f4"))
        assert not np.array_equal(a.parameters[name], c.parameters[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_real_input_of_any_kind_converts(dtype):
    layer = LSTM(3, 4, dtype=dtype, seed=0)
    x = np.arange(24).reshape(4, 2, 3) % 2
    expected = layer(x.astype(dtype))[0]
    assert expected.dtype == dtype
    for other in (x, x.astype(bool), x.astype("f2"), x.astype(">f8"), x.tolist(), x.astype("u1")):
        y, _, tape = layer.forward(other)
        np.testing.assert_array_equal(y, expected)
        grads = layer.backward(tape, np.ones(y.shape, "i8"))
        assert {g.dtype for g in (grads.x, *grads.params.values(), *grads.state)} == {
            np.dtype(dtype)
        }


def test_parameters_change_in_place():
    layer = RNN(2, 3, activation="identity", seed=0)
    for array in layer.parameters.values():
        array[...] = 0
    layer.parameters["bias_ih_l0"][...] = 2
    assert np.all(layer(np.ones((1, 1, 2)))[0] == 2)


def test_load_checks_everything_before_it_copies():
    layer = LSTM(3, 4, seed=0)
    good = {k: np.full(v.shape, 0.5) for k, v in layer.parameters.items()}
    before = {k: v.copy() for k, v in layer.parameters.items()}
    arrays = dict(layer.parameters)
    missing = {k: v for k, v in good.items() if k != "bias_hh_l0"} | {"head.weight": np.ones(2)}
    cases = [
        (
            missing,
            ValueError,
            r"missing names \['bias_hh_l0'\] and unexpected names \['head.weight",
        ),
        (
            good | {"bias_hh_l0": np.ones(4)},
            ValueError,
            r"LSTM: bias_hh_l0 has shape \(4,\), expected the parameter's shape = \(16,\)",
        ),
        (
            good | {"bias_hh_l0": np.full(16, 1j)},
            TypeError,
            "LSTM: bias_hh_l0 has dtype complex128",
        ),
    ]
    for bad, error, message in cases:
        with pytest.raises(error, match=message):
            layer.load(bad)
        for name, value in before.items():
            np.testing.assert_array_equal(layer.parameters[name], value)
    layer.load(good)
    for name, array in layer.parameters.items():
        assert array is arrays[name]  # optimisers hold on to the same arrays
        assert array.dtype == np.float32
        assert np.all(array == 0.5)


def test_repr():
    assert repr(GRU(3, 4, seed=0)) == (
        "GRU(3, 4)\n"
        "  weight_ih_l0  (12, 3)\n"
        "  weight_hh_l0  (12, 4)\n"
        "  bias_ih_l0    (12,)\n"
        "  bias_hh_l0    (12,)\n"
        "  108 parameters"
    )
    first = repr(
        RNN(3, 400, 2, False, True, 0.5, True, activation="relu", dtype="float64", seed=0)
    ).split("\n")
    assert first[0] == (
        "RNN(3, 400, num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True, "
        "activation='relu', dtype='float64')"
    )
    assert first[3] == "  weight_ih_l0_reverse  (400, 3)"
    assert first[-1] == f"  {2 * (400 * 403 + 400 * 1200):,} parameters"


ERRORS = [
    (lambda: RNN(0, 3), ValueError, "RNN: input_size is 0, expected 1 or more"),
    (lambda: LSTM(2, 2.5), TypeError, "LSTM: hidden_size is 2.5, expected a whole number"),
    (lambda: GRU(2, 3, num_layers=0), ValueError, "GRU: num_layers is 0, expected 1.."),
    (lambda: GRU(2, 3, 2, dropout=1.5), ValueError, "GRU: dropout is 1.5, expected a probability"),
    (lambda: GRU(2, 3, 2, dropout=np.nan), ValueError, "GRU: dropout is nan, expected a prob"),
    (
        lambda: GRU(2, 3, dtype="f2"),
        TypeError,
        "GRU: dtype is float16, expected float32 or float64",
    ),
    (
        lambda: RNN(2, 3, activation="selu"),
        ValueError,
        "RNN: activation is 'selu', expected one of",
    ),
    (lambda: RNN(2, 3, 1, "relu"), TypeError, "RNN: bias is 'relu', expected True or False"),
    (
        lambda: LSTM(4, 3)(np.zeros((5, 3))),
        ValueError,
        "LSTM: x has shape (5, 3), expected (T, B, input_size) = (T, B, 4)",
    ),
    (
        lambda: LSTM(4, 3, batch_first=True)(np.zeros((5, 2, 3))),
        ValueError,
        "LSTM: x has shape (5, 2, 3), expected (B, T, input_size) = (B, T, 4)",
    ),
    (lambda: LSTM(4, 3)(np.zeros((5, 2, 4), complex)), TypeError, "LSTM: x has dtype complex128"),
    (lambda: LSTM(4, 3)([[["a"] * 4]]), TypeError, "LSTM: x has dtype <U1, expected real numbers"),
    (
        lambda: GRU(4, 3, 2)(np.zeros((5, 2, 4)), np.zeros((2, 3))),
        ValueError,
        "GRU: state has shape (2, 3), expected (num_layers * directions, B, H) = (2, 2, 3)",
    ),
    (
        lambda: LSTM(4, 3)(np.zeros((5, 2, 4)), np.zeros((1, 2, 3))),
        TypeError,
        "LSTM: state is ndarray, expected a tuple (h, c)",
    ),
    (
        lambda: LSTM(4, 3)(np.zeros((5, 2, 4)), (np.zeros((1, 2, 3)), np.zeros((1, 3, 3)))),
        ValueError,
        "LSTM: state[1] has shape (1, 3, 3), expected (num_layers * directions, B, H) = (1, 2, 3)",
    ),
    (
        lambda: RNN(4, 3)(np.zeros((5, 2, 4)), lengths=[5]),
        ValueError,
        "RNN: lengths has shape (1,), expected (B,) = (2,)",
    ),
    (
        lambda: RNN(4, 3)(np.zeros((5, 2, 4)), lengths=[5, 6]),
        ValueError,
        "RNN: lengths has values 5..6, expected 0..T = 0..5",
    ),
    (
        lambda: RNN(4, 3)(np.zeros((5, 2, 4)), lengths=[-1, 5]),
        ValueError,
        "RNN: lengths has values -1..5, expected 0..T = 0..5",
    ),
    (
        lambda: RNN(4, 3)(np.zeros((5, 2, 4)), lengths=[2.0, 5.0]),
        TypeError,
        "RNN: lengths has dtype float64, expected integers",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[row[-1][:40] for row in ERRORS])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_bad_gradients():
    layer = LSTM(4, 3, batch_first=True, bidirectional=True, seed=0)
    y, final, tape = layer.forward(np.zeros((2, 5, 4)))
    with pytest.raises(
        ValueError,
        match=re.escape(
            "LSTM: dy has shape (5, 2, 6), expected (B, T, directions * H) = (2, 5, 6)"
        ),
    ):
        layer.backward(tape, y.swapaxes(0, 1))
    with pytest.raises(
        ValueError, match=re.escape("LSTM: dstate[0] has shape (1, 2, 3), expected")
    ):
        layer.backward(tape, y, (final[0][:1], final[1]))
    with pytest.raises(TypeError, match="LSTM: dy has dtype object"):
        layer.backward(tape, y.astype(object))
    message = r"LSTM: tape is RecurrentTape\(.*, expected the third result of this layer's forward"
    with pytest.raises(TypeError, match=message):
        copy.deepcopy(layer).backward(tape, y)
    with pytest.raises(ValueError, match="step_clip"):
        layer.backward(tape, y, step_clip=("size", 1.0))
    with pytest.raises(TypeError, match="abstract"):
        Recurrent(2, 3)
