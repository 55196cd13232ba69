# SPDX-License-Identifier: MIT
"""Clipping by norm and optimisers of the C interface: Python's numbers, and refusals."""

from __future__ import annotations

from ctypes import POINTER, byref, c_double, c_size_t, c_void_p
from typing import Any

import numpy as np
import pytest

import bptt
from support import toolchain
from support.compare import DTYPES
from support.embedded import INVALID_ARGUMENT, OK, array


@pytest.fixture(scope="module")
def library() -> Any:
    return toolchain.shared_library()


def numbers(dtype: str, n: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(n).astype(dtype)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sgd_is_that_of_python(library: Any, dtype: str, momentum: float) -> None:
    (p, p_memory), (v, v_memory) = array(numbers(dtype, 1000, 0)), array(np.zeros(1000, dtype))
    want = {"p": p.copy()}
    optimiser = bptt.SGD(want, lr=0.1, momentum=momentum)
    for step in range(5):
        g = numbers(dtype, 1000, step + 1)
        optimiser.step({"p": g})
        velocity = v_memory.address if momentum else None
        code = int(dtype == "float64")
        assert 0 == library.bptt_sgd(
            code, 1000, p_memory.address, g.ctypes.data, velocity, 0.1, momentum
        )
        assert p.tobytes() == want["p"].tobytes()
        if momentum:
            assert v.tobytes() == optimiser.state["momentum_buffer"]["p"].tobytes()
    p_memory.check()
    v_memory.check()


@pytest.mark.parametrize("dtype", DTYPES)
def test_adam_is_that_of_python(library: Any, dtype: str) -> None:
    (p, p_memory), (m, m_memory), (v, v_memory) = (
        array(numbers(dtype, 1000, 0)), array(np.zeros(1000, dtype)), array(np.zeros(1000, dtype)),
    )  # fmt: skip
    want = {"p": p.copy()}
    optimiser = bptt.Adam(want, lr=0.01, betas=(0.8, 0.95), eps=1e-6)
    for step in range(1, 12):
        g = numbers(dtype, 1000, step) * 10.0 ** (step - 6)
        g = g.astype(dtype)
        optimiser.step({"p": g})
        assert 0 == library.bptt_adam(
            int(dtype == "float64"), 1000, p_memory.address, g.ctypes.data, m_memory.address,
            v_memory.address, step, 0.01, 0.8, 0.95, 1e-6,
        )  # fmt: skip
        assert p.tobytes() == want["p"].tobytes()
        assert m.tobytes() == optimiser.state["exp_avg"]["p"].tobytes()
        assert v.tobytes() == optimiser.state["exp_avg_sq"]["p"].tobytes()
    for memory in (p_memory, m_memory, v_memory):
        memory.check()


def clip(library: Any, arrays: list[Any], max_norm: float) -> tuple[int, float]:
    pointers = (c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
    sizes = (c_size_t * len(arrays))(*[a.size for a in arrays])
    norm = c_double(-1)
    dtype = int(arrays[0].dtype == np.float64)
    status = library.bptt_clip_grad_norm(dtype, len(arrays), pointers, sizes, max_norm, byref(norm))
    return status, norm.value


# Rounded once to the type of the numbers.
CLIPPED = {"float32": 1e-7, "float64": 1e-15}


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
@pytest.mark.parametrize("dtype", DTYPES)
def test_clipping_is_that_of_python(library: Any, dtype: str, scale: float) -> None:
    arrays = [scale * numbers(dtype, n, n) for n in (100, 1, 0, 33)]
    arrays = [a.astype(dtype) for a in arrays]
    for max_norm in (1e3 * scale, 0.5 * scale, np.inf):
        mine, its = [a.copy() for a in arrays], {str(i): a.copy() for i, a in enumerate(arrays)}
        status, norm = clip(library, mine, max_norm)
        assert status == OK
        assert norm == pytest.approx(bptt.clip_grad_norm(its, max_norm), rel=1e-7)
        for got, want, before in zip(mine, its.values(), arrays):
            np.testing.assert_allclose(got, want, rtol=4 * CLIPPED[dtype])
            assert norm > max_norm or (got == before).all()


def test_squares_of_what_is_clipped_may_overflow_and_vanish(library: Any) -> None:
    for scale in (1e200, 1e-200):
        a = scale * np.array([3.0, 4.0])
        assert clip(library, [a], scale) == (OK, pytest.approx(5 * scale))
        np.testing.assert_allclose(a, [0.6 * scale, 0.8 * scale])
    zeros = np.zeros(3)
    assert clip(library, [zeros], 1.0) == (OK, 0.0)
    assert (zeros == 0).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_that_are_not_finite_change_nothing(library: Any, dtype: str, value: float) -> None:
    a, b = np.ones(4, dtype), np.full(3, 2, dtype)
    b[1] = value
    status, norm = clip(library, [a, b], 0.1)
    assert status == INVALID_ARGUMENT
    assert not np.isfinite(norm)
    assert b"bptt_clip_grad_norm: gradients are not finite" in library.bptt_last_error()
    assert (a == 1).all()
    assert (b[[0, 2]] == 2).all()


def refused(library: Any, status: int, function: str, text: str) -> None:
    assert status == INVALID_ARGUMENT
    assert library.bptt_last_error().decode().startswith(f"{function}: {text}")


def test_arguments_of_clipping(library: Any) -> None:
    a = np.ones(3)
    none = POINTER(c_void_p)()
    for bound in (0.0, -1.0, np.nan):
        status, _ = clip(library, [a], bound)
        refused(library, status, "bptt_clip_grad_norm", "max_norm is not positive, expected more")
    status = library.bptt_clip_grad_norm(1, 1, none, (c_size_t * 1)(3), 1.0, None)
    refused(library, status, "bptt_clip_grad_norm", "gradients is null, expected 1 elements")
    status = library.bptt_clip_grad_norm(1, 1, (c_void_p * 1)(None), (c_size_t * 1)(3), 1.0, None)
    refused(
        library, status, "bptt_clip_grad_norm", "an array of gradients is null, expected 3 elements"
    )
    assert library.bptt_clip_grad_norm(1, 0, none, None, 1.0, None) == OK
    status = library.bptt_clip_grad_norm(2, 0, none, None, 1.0, None)
    refused(library, status, "bptt_clip_grad_norm", "dtype is 2, expected BPTT_FLOAT32 or")


NUMBERS = {
    "sgd": {"lr": 0.1, "momentum": 0.9},
    "adam": {"step": 1, "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8},
}
ARRAYS = {
    "sgd": ["parameters", "gradients", "velocity"],
    "adam": ["parameters", "gradients", "mean", "square"],
}


def update(library: Any, name: str, arrays: list[int | None], dtype: int = 1, **given: Any) -> int:
    """One update of three numbers with some arguments other than the right ones."""
    arguments = [*arrays, *{**NUMBERS[name], **given}.values()]
    return int(getattr(library, f"bptt_{name}")(dtype, 3, *arguments))


@pytest.mark.parametrize(
    ("name", "wrong", "text"),
    [
        ("sgd", {"lr": -0.1}, "lr is out of its range, expected 0 or more"),
        ("sgd", {"lr": np.nan}, "lr is out of its range"),
        ("sgd", {"lr": np.inf}, "lr is out of its range"),
        ("sgd", {"momentum": -0.1}, "momentum is out of its range, expected 0 or more"),
        ("sgd", {"dtype": -1}, "dtype is -1, expected BPTT_FLOAT32 or BPTT_FLOAT64"),
        ("adam", {"lr": -0.1}, "lr is out of its range"),
        ("adam", {"beta1": 1.0}, "beta1 is out of its range, expected 0 or more and less than 1"),
        ("adam", {"beta2": np.nan}, "beta2 is out of its range"),
        ("adam", {"eps": -1e-8}, "eps is out of its range, expected 0 or more"),
        ("adam", {"step": 0}, "step is 0, expected 1 or more"),
        ("adam", {"dtype": 7}, "dtype is 7, expected"),
    ],
)
def test_numbers_of_an_optimiser(library: Any, name: str, wrong: Any, text: str) -> None:
    arrays = [np.ones(3) for _ in ARRAYS[name]]
    status = update(library, name, [a.ctypes.data for a in arrays], **wrong)
    refused(library, status, f"bptt_{name}", text)
    assert all((a == 1).all() for a in arrays)


@pytest.mark.parametrize("name", list(NUMBERS))
def test_arrays_of_an_optimiser(library: Any, name: str) -> None:
    arrays = [np.ones(4) for _ in ARRAYS[name]]
    arrays[1] *= 2
    addresses = [a.ctypes.data for a in arrays]
    for i, which in enumerate(ARRAYS[name]):
        for wrong, text in (
            (None, "null, expected 3 elements"),
            (addresses[i] + 4, "not aligned, expected"),
        ):
            given = [*addresses[:i], wrong, *addresses[i + 1 :]]
            status = update(library, name, given)
            refused(library, status, f"bptt_{name}", f"{which} is {text}")
    changed = [a for i, a in enumerate(arrays) if i != 1]
    assert all((a == 1).all() for a in changed)
    assert update(library, name, addresses) == OK
    assert all((a[:3] != 1).all() and a[3] == 1 for a in changed)
    assert (arrays[1] == 2).all()
    numbers = NUMBERS[name].values()
    nothing = [None] * len(arrays)
    assert getattr(library, f"bptt_{name}")(0, 0, *nothing, *numbers) == OK
