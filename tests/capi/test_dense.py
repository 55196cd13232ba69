# SPDX-License-Identifier: MIT
"""`bptt_linear` and `bptt_layer_norm`: against NumPy in a wider type; any batch, any misuse."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import _core
from bptt.layers.activations import ACTIVATIONS
from support import toolchain
from support.embedded import INVALID_ARGUMENT, OK, TOO_LARGE

SIZE, POINTER = ctypes.c_ssize_t, ctypes.c_void_p
DTYPES = ("float32", "float64")


@pytest.fixture(scope="module")
def library() -> Any:
    found = toolchain.shared_library()
    sizes = (SIZE, SIZE, SIZE)
    found.bptt_linear.argtypes = (ctypes.c_int, ctypes.c_char_p, *sizes, *4 * [POINTER])
    found.bptt_layer_norm.argtypes = (
        ctypes.c_int, SIZE, SIZE, ctypes.c_double, *4 * [POINTER]
    )  # fmt: skip
    return found


def at(array: Any) -> Any:
    return None if array is None else array.ctypes.data


def made(dtype: str, *shape: int, seed: int = 0) -> Any:
    return (2 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def linear(library: Any, activation: str, x: Any, weight: Any, bias: Any) -> Any:
    y = np.full((len(x), len(weight)), np.nan, x.dtype)
    kind = DTYPES.index(x.dtype.name)
    sizes = (len(x), x.shape[1], len(weight))
    status = library.bptt_linear(
        kind, activation.encode(), *sizes, at(weight), at(bias), at(x), at(y)
    )
    assert status == OK
    return y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["identity", *ACTIVATIONS])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (7, 3), (8, 17), (65, 5)])
def test_linear(library: Any, activation: str, dtype: str, inputs: int, outputs: int) -> None:
    x, weight = made(dtype, 3, inputs), made(dtype, outputs, inputs, seed=1)
    for bias in (None, made(dtype, outputs, seed=2)):
        y = linear(library, activation, x, weight, bias)
        a = x.astype(np.longdouble) @ weight.astype(np.longdouble).T
        a = (a if bias is None else a + bias).astype(dtype).astype(np.longdouble)
        want = a if activation == "identity" else ACTIVATIONS[activation][0](a)
        # The arguments are rounded once; their rounding passes through the activation.
        tolerance = (4 if dtype == "float32" else 40) * np.finfo(dtype).eps
        assert np.abs(y - want).max() <= tolerance * max(1, float(np.abs(a).max()))
        assert y.tobytes() == _core.linear(x, weight, bias, activation).tobytes()
        rows = [linear(library, activation, row[None].copy(), weight, bias) for row in x]
        assert np.concatenate(rows).tobytes() == y.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 7, 8, 65])
def test_layer_norm(library: Any, dtype: str, size: int) -> None:
    x, weight, bias = 5 + made(dtype, 3, size), made(dtype, size, seed=1), made(dtype, size, seed=2)
    y = np.empty_like(x)
    kind = DTYPES.index(dtype)
    arguments = (kind, 3, size, 1e-5, at(weight), at(bias))
    assert library.bptt_layer_norm(*arguments, at(x), at(y)) == OK
    wide = x.astype(np.longdouble)
    d = wide - wide.mean(1, keepdims=True)
    want = d / np.sqrt((d * d).mean(1, keepdims=True) + 1e-5) * weight + bias
    assert np.abs(y - want).max() <= 20 * np.finfo(dtype).eps * float(np.abs(want).max())
    assert y.tobytes() == _core.layer_norm(x, weight, bias, 1e-5).tobytes()
    assert library.bptt_layer_norm(*arguments, at(x), at(x)) == OK
    assert x.tobytes() == y.tobytes()


def test_what_is_not_finite_stays_so(library: Any) -> None:
    x = np.array([[np.nan, 1.0], [np.inf, 1.0], [-np.inf, 1.0]])
    for activation in ("identity", *ACTIVATIONS):
        y = linear(library, activation, x, np.eye(2), None)
        with np.errstate(invalid="ignore"):
            want = x @ np.eye(2)
            want = want if activation == "identity" else ACTIVATIONS[activation][0](want)
        assert np.isnan(y[0]).any() == np.isnan(want[0]).any()
    tiny = np.array([[1e-310, 0.0]])
    assert linear(library, "identity", tiny, np.eye(2), None)[0, 0] == 1e-310


def test_a_softmax_of_large_numbers() -> None:
    x = np.array([[1e4, -1e4, 1e4], [-800.0, -801.0, -1e300]])
    np.testing.assert_allclose(_core.softmax(x), bptt.softmax(x), rtol=1e-14, atol=1e-300)
    assert _core.softmax(np.ones((1, 2), "f")).tolist() == [[0.5, 0.5]]


MISUSE = [
    ({"dtype": 2}, INVALID_ARGUMENT, "dtype is 2, expected BPTT_FLOAT32 or BPTT_FLOAT64"),
    ({"activation": b"softplus"}, INVALID_ARGUMENT, "activation is 'softplus', expected identity"),
    ({"batch": -1}, INVALID_ARGUMENT, "batch is -1, expected 0 or more"),
    ({"inputs": 0}, INVALID_ARGUMENT, "inputs is 0, expected 1 or more"),
    ({"outputs": -(2**63)}, INVALID_ARGUMENT, "outputs is -9223372036854775808, expected 1 or mo"),
    ({"outputs": 2**61}, TOO_LARGE, "batch, outputs, inputs are 1, 2305843009213693952, 3, expec"),
    ({"batch": 2**60}, TOO_LARGE, "batch, outputs, inputs are 1152921504606846976, 2, 3, expected"),
    ({"weight": None}, INVALID_ARGUMENT, "weight is null, expected 48 bytes"),
    ({"x": None}, INVALID_ARGUMENT, "x is null, expected 24 bytes"),
    ({"y": 8 * 1000 + 1}, INVALID_ARGUMENT, "y is not aligned, expected a multiple of 8 bytes"),
]


@pytest.mark.parametrize(("change", "status", "text"), MISUSE, ids=[row[2] for row in MISUSE])
def test_misuse_of_linear(library: Any, change: Any, status: int, text: str) -> None:
    x, weight, bias, y = np.ones(3), np.ones((2, 3)), np.ones(2), np.full(2, 7.0)
    arguments = {
        "dtype": 1, "activation": None, "batch": 1, "inputs": 3, "outputs": 2,
        "weight": at(weight), "bias": at(bias), "x": at(x), "y": at(y),
    }  # fmt: skip
    assert library.bptt_linear(*(arguments | change).values()) == status
    assert library.bptt_last_error().decode().startswith(f"bptt_linear: {text}")
    assert (y == 7).all()
    assert library.bptt_linear(*arguments.values()) == OK
    assert (y == 4).all()


@pytest.mark.parametrize(
    ("eps", "size", "text"),
    [(0.0, 3, "eps is not positive"), (float("nan"), 3, "eps is not"), (1e-5, 0, "size is 0, exp")],
)
def test_misuse_of_layer_norm(library: Any, eps: float, size: int, text: str) -> None:
    x = np.full(3, 7.0)
    status = library.bptt_layer_norm(1, 1, size, eps, at(x), at(x), at(x), at(x))
    assert status == INVALID_ARGUMENT
    assert library.bptt_last_error().decode().startswith(f"bptt_layer_norm: {text}")
    assert (x == 7).all()


def test_misuse_in_python_is_no_crash() -> None:
    x, weight = np.ones((1, 3)), np.ones((2, 3))
    for arguments in ((x, weight[:, :2].copy(), None), (x[0], weight, None), (x, weight, x)):
        with pytest.raises(ValueError, match="the shapes do not fit"):
            _core.linear(*arguments, "identity")
    with pytest.raises(TypeError, match="C-contiguous arrays of one type"):
        _core.linear(x.astype("f"), weight, None, "identity")
    with pytest.raises(ValueError, match="activation is 'x', expected identity"):
        _core.linear(x, weight, None, "x")
    with pytest.raises(TypeError, match="C-contiguous arrays of one type"):
        _core.layer_norm(x, None, [1], 1e-5)
    with pytest.raises(ValueError, match="the shapes do not fit"):
        _core.layer_norm(x, None, None, 1e-5)
    with pytest.raises(ValueError, match="the shapes do not fit"):
        _core.softmax(np.ones((1, 0)))
