# SPDX-License-Identifier: MIT
"""Wrong pairs of functions that could pass as right ones: each is caught."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bptt import gradcheck

RNG = np.random.default_rng(0)
X = RNG.uniform(0.5, 1.5, (3, 4))
Pair = tuple[Callable[..., Any], Callable[..., Any]]


def square(x: Any) -> Any:
    return x * x, x


def square_backward(tape: Any, dy: Any) -> Any:
    return {"x": 2 * tape * dy}


def caught(pair: Pair, message: str, **options: Any) -> None:
    with pytest.raises(AssertionError) as error:
        gradcheck(*pair, {"x": X}, **options)
    assert message in str(error.value)


def test_the_right_pair_passes() -> None:
    assert gradcheck(square, square_backward, {"x": X})["x"] < 1e-8


# --- a backward pass that works in place


def test_a_right_backward_may_work_in_its_cotangent() -> None:
    def backward(tape: Any, dy: Any) -> Any:
        dy *= 2
        dy *= tape
        return {"x": dy}

    assert gradcheck(square, backward, {"x": X})["x"] < 1e-8


def test_a_factor_multiplied_into_the_cotangent() -> None:
    def backward(tape: Any, dy: Any) -> Any:
        dy *= 2
        return {"x": dy}

    caught((lambda x: (x.copy(), None), backward), "gradient of x is ")


def test_columns_dropped_in_the_cotangent() -> None:
    def backward(tape: Any, dy: Any) -> Any:
        dy[:, 1:] = 0
        return {"x": dy * np.cos(tape)}

    caught((lambda x: (np.sin(x), x), backward), "(9 of 12 elements are wrong)")


def test_the_input_moved_to_where_the_gradient_is_right() -> None:
    def backward(tape: Any, dy: Any) -> Any:
        tape[...] = 0
        return {"x": np.zeros_like(dy)}

    caught((square, backward), "gradcheck: backward changes x, expected it as it was")


def test_a_parameter_moved_to_where_the_gradient_is_right() -> None:
    w = np.full(3, 2.0)

    def backward(tape: Any, dy: Any) -> Any:
        w[...] = 0
        return {"x": np.ones(3) * dy, "params": {"w": np.zeros(3)}}

    with pytest.raises(AssertionError, match="gradcheck: backward changes w, expected it as it"):
        gradcheck(lambda x: (x + w * w, None), backward, {"x": np.ones(3)}, {"w": w})
    assert w.tolist() == [2, 2, 2]


def test_a_tape_that_serves_once() -> None:
    def backward(tape: Any, dy: Any) -> Any:
        gradient = 2 * tape * dy
        tape[...] = 0
        return {"x": gradient}

    caught((lambda x: (x * x, x.copy()), backward), "gradient of x is another when backward is")


def test_gradients_summed_up_over_calls() -> None:
    total = np.zeros_like(X)

    def backward(tape: Any, dy: Any) -> Any:
        nonlocal total
        total = total + 2 * tape * dy
        return {"x": total}

    caught((square, backward), "gradient of x is another when backward is called again")


# --- memory that calls share


def test_gradients_in_a_buffer_of_all_calls() -> None:
    buffer = np.zeros_like(X)

    def backward(tape: Any, dy: Any) -> Any:
        np.multiply(2 * tape, dy, out=buffer)
        return {"x": buffer[:]}

    caught((square, backward), "backward changes the gradient of x of the call before")


def test_outputs_in_a_buffer_of_all_calls() -> None:
    buffer = np.zeros_like(X)

    def forward(x: Any) -> Any:
        np.multiply(x, x, out=buffer)
        return buffer, x

    caught((forward, square_backward), "forward changes output[0] of the call before")


def test_tapes_in_a_buffer_of_all_calls() -> None:
    buffer = np.zeros_like(X)

    def forward(x: Any) -> Any:
        buffer[...] = x
        return x * x, buffer

    caught((forward, square_backward), "gradient of x is ")


def test_a_backward_of_the_last_call_in_place_of_the_tapes() -> None:
    last: list[Any] = []

    def forward(x: Any) -> Any:
        last[:] = [x]
        return x * x, None

    caught((forward, lambda tape, dy: {"x": 2 * last[0] * dy}), "gradient of x is ")


def test_a_forward_that_changes_its_argument() -> None:
    def forward(x: Any) -> Any:
        x *= 2
        return x * x, x.copy()

    caught((forward, lambda tape, dy: {"x": 4 * tape * dy}), "forward changes x, expected it as")


def test_a_forward_that_changes_a_parameter() -> None:
    w = np.ones(3)

    def forward(x: Any) -> Any:
        w.__iadd__(1)
        return x * 2, None

    def backward(tape: Any, dy: Any) -> Any:
        return {"x": 2 * dy, "params": {"w": np.zeros(3)}}

    with pytest.raises(AssertionError, match="gradcheck: forward changes w, expected it as it"):
        gradcheck(forward, backward, {"x": np.ones(3)}, {"w": w})


def test_a_random_forward() -> None:
    rng = np.random.default_rng(0)

    def forward(x: Any) -> Any:
        mask = (rng.random(x.shape) < 0.5) * 2.0
        return x * mask, mask

    message = "forward gives another output[0] when it is called again, expected the same"
    caught((forward, lambda tape, dy: {"x": tape * dy}), message)


# --- gradients that are wrong only sometimes


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        (lambda d: np.clip(d, -5, 5), "the size of the cotangents)"),
        (lambda d: np.where(np.abs(d) < 5e-3, 0, d), "the size of the cotangents)"),
        (lambda d: d * np.all(d != 0), "the size of the cotangents)"),
        (lambda d: d + 1e-3, "elements are wrong)"),
    ],
    ids=["large", "small", "zeros", "constant"],
)
def test_wrong_with_some_cotangents(wrong: Any, where: str) -> None:
    with pytest.raises(AssertionError, match="gradient of x is") as error:
        gradcheck(square, lambda tape, dy: {"x": 2 * tape * wrong(dy)}, {"x": X})
    assert where in str(error.value)


def test_wrong_along_a_direction_orthogonal_to_the_first_cotangents() -> None:
    first = np.random.default_rng(0).standard_normal(X.shape)  # those of seed 0
    other = np.random.default_rng(1).standard_normal(X.shape)
    other -= first * np.vdot(first, other) / np.vdot(first, first)

    def backward(tape: Any, dy: Any) -> Any:
        return {"x": 2 * tape * dy + np.vdot(other, dy)}

    assert np.abs(backward(X, first)["x"] - 2 * X * first).max() < 1e-12
    caught((square, backward), "the size of the cotangents)")


def test_a_small_gradient_beside_large_ones() -> None:
    scale = np.array([1e4, 1e-2])

    def forward(x: Any) -> Any:
        return np.tanh(x) * scale, x

    def backward(tape: Any, dy: Any) -> Any:
        return {"x": dy * scale * (1 - np.tanh(tape) ** 2)}

    def wrong(tape: Any, dy: Any) -> Any:
        return {"x": backward(tape, dy)["x"] * [1, 0]}

    x = {"x": np.array([0.1, 0.2])}
    gradcheck(forward, backward, x)
    with pytest.raises(AssertionError, match=r"gradient of x is -?0 at \(1,\)"):
        gradcheck(forward, wrong, x)


def test_elements_in_which_a_small_step_is_lost() -> None:
    x = {"x": np.array([1e12, 3.0, -1e9])}
    assert gradcheck(lambda x: (3 * x, None), lambda tape, dy: {"x": 3 * dy}, x)["x"] < 1e-6
    with pytest.raises(AssertionError, match=re.escape("(2 of 3 elements are wrong)")):
        gradcheck(lambda x: (3 * x, None), lambda tape, dy: {"x": 3 * dy * [0, 1, 0]}, x)


# --- gradients that are missing or no numbers


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (lambda d: d[:1], "has shape (1, 4) and dtype float64, expected (3, 4) and float64"),
        (lambda d: d[0], "has shape (4,) and dtype float64, expected (3, 4) and float64"),
        (lambda d: 1.0, "has shape () and dtype float64, expected (3, 4) and float64"),
        (lambda d: d.astype("f4"), "has shape (3, 4) and dtype float32, expected (3, 4) and fl"),
        (lambda d: d.astype(complex), "has shape (3, 4) and dtype complex128, expected (3, 4)"),
        (lambda d: None, "has shape () and dtype object, expected (3, 4) and float64"),
        (lambda d: d * np.nan, "is nan at (0, 0), expected"),
        (lambda d: np.where(np.arange(4) == 2, np.inf, d), "is inf at (0, 2), expected"),
    ],
)
def test_no_gradient_of_the_input(gradient: Any, message: str) -> None:
    pair = lambda x: (x.copy(), None), lambda tape, dy: {"x": gradient(dy)}
    caught(pair, f"gradcheck: gradient of x {message}")


@pytest.mark.parametrize(
    ("found", "missing"),
    [
        ({"x": np.ones(2), "params": {"w": np.ones(2)}}, "state"),
        ({"x": np.ones(2), "state": (np.ones(2),), "params": {"w": np.ones(2)}}, "state[1]"),
        ({"x": np.ones(2), "state": (np.ones(2),) * 2, "params": {}}, "w"),
        ({"x": np.ones(2), "state": (np.ones(2),) * 2}, "params"),
    ],
)
def test_a_missing_gradient(found: Any, missing: str) -> None:
    def forward(x: Any, state: Any) -> Any:
        return x + state[0] + state[1], None

    inputs = {"x": np.ones(2), "state": (np.ones(2), np.ones(2))}
    with pytest.raises(AssertionError, match=re.escape(f"gradient of {missing}")):
        gradcheck(forward, lambda tape, dy: found, inputs, {"w": np.ones(2)})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_not_finite(value: float) -> None:
    def forward(x: Any) -> Any:
        y = x * x
        y[0, 0] = value
        return y, x

    caught((forward, square_backward), "gradcheck: output[0] is not finite, expected finite")


def test_a_step_that_leaves_the_domain_does_not_excuse_the_others() -> None:
    def forward(x: Any) -> Any:  # finite at 0, infinite right of it
        return np.where(x > 0, np.inf, 0) + 0 * x, None

    x = {"x": np.array([-1.0, 0.0])}
    with pytest.raises(AssertionError, match="gradient of x is 7 at"):
        gradcheck(forward, lambda tape, dy: {"x": np.full(2, 7.0)}, x)


def test_outputs_that_change_their_shape() -> None:
    def forward(x: Any) -> Any:
        return x[: 2 if x[0] > 1 else 1], None

    with pytest.raises(AssertionError, match=re.escape("gradcheck: outputs have shapes [(2,)]")):
        gradcheck(forward, lambda tape, dy: {"x": np.zeros(3)}, {"x": np.ones(3)})


# --- arguments with which anything would pass

ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"eps": 0.5}, ValueError, "gradcheck: eps is 0.5, expected at most 0.01"),
    ({"eps": 0}, ValueError, "gradcheck: eps is 0, expected more than 0"),
    ({"eps": np.nan}, ValueError, "gradcheck: eps is nan, expected more than 0"),
    ({"eps": None}, TypeError, "gradcheck: eps is None, expected a number"),
    ({"rtol": 1}, ValueError, "gradcheck: rtol is 1, expected 0 <= rtol < 1"),
    ({"rtol": np.nan}, ValueError, "gradcheck: rtol is nan, expected 0 <= rtol < 1"),
    ({"atol": np.inf}, ValueError, "gradcheck: atol is inf, expected 0 <= atol < inf"),
    ({"inputs": {}}, ValueError, "gradcheck: inputs has no element, expected one at least"),
    ({"inputs": {"x": np.ones((0, 3))}}, ValueError, "gradcheck: inputs has no element, expected"),
    ({"params": {"x": X}}, ValueError, "gradcheck: params has ['x'] of inputs, expected other"),
    (
        {"inputs": {"x": np.ma.masked_array(X)}},
        TypeError,
        " is a masked array, expected one without a mask",
    ),
]


@pytest.mark.parametrize(("options", "error", "message"), ARGUMENTS, ids=lambda v: str(v)[:40])
def test_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        gradcheck(square, square_backward, **{"inputs": {"x": X}, **options})
