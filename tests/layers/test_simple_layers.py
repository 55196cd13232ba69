# SPDX-License-Identifier: MIT
"""Dropout, LayerNorm, Last and MeanPool: PyTorch, complex steps, and brute force."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest

import bptt
from support.compare import DTYPES, TOLERANCE_OF_TORCH, assert_close, error

T, B, H = 7, 4, 6
LENGTHS = [7, 0, 1, 4]
STEP = 1e-30


def normal(*shape: int, dtype: str = "float64", seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# --- LayerNorm ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(H,), (B, H), (T, B, H), (0, H)])
def test_layer_norm_is_torchs(shape: tuple[int, ...], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    layer = bptt.LayerNorm(H, eps=1e-3, dtype=dtype)
    layer.parameters.update({"weight": normal(H, seed=1), "bias": normal(H, seed=2)})
    x, dy = 3 + normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=3)
    theirs = torch.nn.LayerNorm(H, eps=1e-3, dtype=getattr(torch, dtype))
    theirs.load_state_dict({name: torch.tensor(a) for name, a in layer.parameters.items()})
    tensor = torch.tensor(x, requires_grad=True)
    out = theirs(tensor)
    out.backward(torch.tensor(dy))
    y, tape = layer.forward(x)
    g = layer.backward(tape, dy)
    got = {"y": y, "x": g.x, **g.params}
    assert all(array.dtype == dtype for array in got.values())
    want = {"y": out.detach(), "x": tensor.grad, "weight": theirs.weight.grad}
    want = {**want, "bias": theirs.bias.grad}
    assert_close(got, {k: v.numpy() for k, v in want.items()}, TOLERANCE_OF_TORCH[dtype])
    assert layer(x).tobytes() == y.tobytes()


def test_gradients_of_layer_norm_are_those_of_complex_steps() -> None:
    layer = bptt.LayerNorm(H, dtype="float64")
    layer.parameters.update({"weight": normal(H, seed=1), "bias": normal(H, seed=2)})
    given = {"x": normal(B, H), **layer.parameters}
    dy = normal(B, H, seed=3)

    def loss(x: Any, weight: Any, bias: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
        return ((scaled * weight + bias) * dy).sum()

    want = {}
    for name, array in given.items():
        want[name] = np.empty(array.shape)
        for index in np.ndindex(array.shape):
            moved = array.astype(complex)
            moved[index] += 1j * STEP
            want[name][index] = loss(**{**given, name: moved}).imag / STEP
    g = layer.backward(layer.forward(given["x"])[1], dy)
    assert_close({"x": g.x, **g.params}, want, 1e-12)


def test_layer_norm_of_a_large_mean_keeps_its_digits() -> None:
    x = 1e4 + normal(B, H, dtype="float32")
    want = bptt.LayerNorm(H, dtype="float64")(x)
    assert error(bptt.LayerNorm(H)(x), want) < 1e-3


# --- Dropout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout_multiplies_by_one_mask_both_ways(p: float, dtype: str) -> None:
    layer, x = bptt.Dropout(p, seed=0), normal(50, 60, dtype=dtype)
    dy = normal(50, 60, dtype=dtype, seed=1)
    y, tape = layer.forward(x)
    dx = layer.backward(tape, dy).x
    kept = y != 0
    scale = np.dtype(dtype).type(1 / (1 - p) if p < 1 else 0)
    assert y.dtype == dx.dtype == dtype
    assert np.array_equal(y[kept], (x * scale)[kept])
    assert np.array_equal(dx, np.where(kept, dy * scale, 0))
    assert abs(kept.mean() - (1 - p)) < 4 * np.sqrt(p * (1 - p) / x.size) + 1e-9
    assert layer(x).tobytes() == x.tobytes()


def test_the_next_call_has_other_masks_and_a_state_dict_repeats_them() -> None:
    layer, x = bptt.Dropout(0.5, seed=3), np.ones((9, 9))
    first = layer.forward(x)[0]
    state, twins = layer.state_dict(), [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    second = layer.forward(x)[0]
    assert (first != second).any()
    other = bptt.Dropout(0.5, seed=4)
    other.load_state_dict(state)
    for twin in (*twins, other):
        assert np.array_equal(twin.forward(x)[0], second)
    assert np.array_equal(bptt.Dropout(0.5, seed=3).forward(x)[0], first)
    assert bptt.Dropout(0.0).state_dict() == {}


# --- Last and MeanPool ----------------------------------------------------------------------------


def pooled(kind: str, x: Any, lengths: Any, bidirectional: bool, reverse: bool) -> Any:
    """One sequence after the other; x is (T, B, H)."""
    y = np.zeros(x.shape[1:])
    for b, n in enumerate(lengths):
        if n and kind == "MeanPool":
            y[b] = sum(x[t, b] for t in range(n)) / n
        elif n:
            y[b] = x[0 if reverse else n - 1, b]
            if bidirectional:
                y[b, H // 2 :] = x[0, b, H // 2 :]
    return y


@pytest.mark.parametrize("lengths", [None, LENGTHS, [0] * B])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("MeanPool", {}),
        ("Last", {}),
        ("Last", {"bidirectional": True}),
        ("Last", {"reverse": True}),
    ],
)
def test_pools_are_brute_force(
    kind: str, options: Any, dtype: str, batch_first: bool, lengths: Any
) -> None:
    layer, x = getattr(bptt, kind)(), normal(T, B, H, dtype=dtype)
    ends = [T] * B if lengths is None else lengths
    for b, n in enumerate(ends):
        x[n:, b] = np.nan  # padding is not read
    given = np.ascontiguousarray(x.swapaxes(0, 1)) if batch_first else x
    call = {"lengths": lengths, "batch_first": batch_first, **options}
    y, tape = layer.forward(given, **call)
    both = {"bidirectional": False, "reverse": False, **options}
    want = pooled(kind, x.astype("float64"), ends, **both)
    assert y.dtype == dtype
    assert error(y, want) < 1e-6
    assert layer(given, **call).tobytes() == y.tobytes()
    if kind == "Last":
        assert bptt.last(given, **call).tobytes() == y.tobytes()
    # The pool is linear: its gradient is the transposed map, for every unit vector.
    dy = normal(B, H, dtype=dtype, seed=1)
    dx = layer.backward(tape, dy).x
    assert dx.dtype == dtype
    assert dx.shape == given.shape
    dx = dx.swapaxes(0, 1) if batch_first else dx
    for t, b in np.ndindex(T, B):
        unit = np.zeros((T, B, H))
        unit[t, b] = 1
        assert error(dx[t, b], (pooled(kind, unit, ends, **both) * dy)[b]) < 1e-6
    assert layer.backward(tape, dy, grads=()).x is None


def test_the_last_step_of_a_layer_of_two_directions_is_its_final_state() -> None:
    x = normal(T, B, 3, dtype="float32")
    for options in ({}, {"reverse": True}, {"bidirectional": True}):
        gru = bptt.GRU(3, H, seed=0, **options)
        y, state = gru(x, lengths=LENGTHS)
        want = np.concatenate(list(state), axis=-1)
        assert bptt.last(y, LENGTHS, **options).tobytes() == want.tobytes()


def test_no_steps_pool_to_zeros() -> None:
    for layer in (bptt.Last(), bptt.MeanPool()):
        y, tape = layer.forward(np.zeros((0, B, H)))
        assert not y.any()
        assert layer.backward(tape, y).x.shape == (0, B, H)


@pytest.mark.parametrize("lengths", [None, [0, 0]])
@pytest.mark.parametrize("ends", [{}, {"bidirectional": True}, {"reverse": True}])
def test_no_steps_have_no_last_one(ends: Any, lengths: Any) -> None:
    y, tape = bptt.Last().forward(np.ones((0, 2, 4)), lengths, **ends)
    assert not y.any()
    assert y.shape == (2, 4)
    assert bptt.Last().backward(tape, y).x.shape == (0, 2, 4)


ERRORS = [
    (lambda: bptt.Dropout(1.5), "Dropout: p is 1.5, expected a probability 0..1"),
    (lambda: bptt.Dropout("x"), "Dropout: p is 'x', expected a number"),
    (lambda: bptt.Dropout(0.5).forward(["a"]), "Dropout: x has dtype <U1, expected real numbers"),
    (lambda: bptt.LayerNorm(0), "LayerNorm: size is 0, expected 1 or more"),
    (lambda: bptt.LayerNorm(2, eps=0), "LayerNorm: eps is 0, expected more than 0"),
    (
        lambda: bptt.LayerNorm(2)([[1.0]]),
        "LayerNorm: x has shape (1, 1), expected (..., size) = (..., 2)",
    ),
    (lambda: bptt.Last()([[1.0]]), "Last: x has shape (1, 1), expected (T, B, H)"),
    (lambda: bptt.MeanPool()([1.0], batch_first=True), "MeanPool: x has shape (1,), expected (B, "),
    (
        lambda: bptt.Last()(np.ones((2, 1, 3)), bidirectional=True),
        "Last: x has 3 features, expected an even number of two directions",
    ),
    (lambda: bptt.Last()(np.ones((2, 1, 3)), [3]), "Last: lengths has values 3..3, expected 0..T "),
    (lambda: bptt.Last().backward(None, 1), "Last: tape is None, expected the second result of"),
    (
        lambda: bptt.Last().backward(bptt.MeanPool().forward(np.ones((2, 1, 3)))[1], [[1] * 3]),
        "Last: tape is MeanTape(",
    ),
    (lambda: bptt.Dropout().backward(3, 1), "Dropout: tape is 3, expected the second result of"),
    (lambda: bptt.LayerNorm(2).backward((), 1), "LayerNorm: tape is (), expected the second res"),
    (lambda: bptt.Last().dtype, "Last has no attribute 'dtype'"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[row[1][:40] for row in ERRORS])
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError), match=re.escape(message)):
        call()
