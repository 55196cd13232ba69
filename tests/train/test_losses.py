# SPDX-License-Identifier: MIT
from __future__ import annotations

import re

import numpy as np
import pytest

from bptt.derivatives.gradcheck import gradcheck
from bptt.losses import binary_cross_entropy, cross_entropy, mse, quantile_loss


def check_against_torch(ours, theirs, prediction, tolerance=1e-12):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(prediction, requires_grad=True)
    expected = theirs(torch, tensor)
    expected.backward()
    value, grad = ours(prediction)
    assert type(value) is float
    assert grad.dtype == prediction.dtype
    assert value == pytest.approx(expected.item(), rel=tolerance, abs=tolerance)
    np.testing.assert_allclose(grad, tensor.grad.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(5,), (4, 3, 2), ()])
def test_mse_is_torchs(shape):
    rng = np.random.default_rng(0)
    target = rng.standard_normal(shape)
    check_against_torch(
        lambda p: mse(p, target),
        lambda torch, p: torch.nn.functional.mse_loss(p, torch.tensor(target)),
        np.asarray(rng.standard_normal(shape)),
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1, 1e3, 1e30])
@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_cross_entropy_is_torchs(ignore_index, scale, dtype):
    rng = np.random.default_rng(1)
    logits = (scale * rng.standard_normal((4, 5, 6))).astype(dtype)
    target = rng.integers(0, 6, (4, 5))
    target[0, :2] = ignore_index

    def theirs(torch, p):
        return torch.nn.functional.cross_entropy(
            p.reshape(-1, 6), torch.tensor(target.reshape(-1)), ignore_index=ignore_index
        )

    check_against_torch(
        lambda p: cross_entropy(p, target, ignore_index=ignore_index),
        theirs,
        logits,
        1e-12 if dtype == "float64" else 1e-6,
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1, 30, 1e30])
def test_binary_cross_entropy_is_torchs(scale, dtype):
    rng = np.random.default_rng(2)
    logits = (scale * rng.standard_normal((4, 5))).astype(dtype)
    target = np.concatenate([rng.integers(0, 2, (2, 5)), rng.random((2, 5))]).astype(dtype)
    check_against_torch(
        lambda p: binary_cross_entropy(p, target),
        lambda torch, p: torch.nn.functional.binary_cross_entropy_with_logits(
            p, torch.tensor(target)
        ),
        logits,
        1e-12 if dtype == "float64" else 1e-6,
    )


@pytest.mark.parametrize("name", ["mse", "cross_entropy", "binary_cross_entropy"])
def test_gradients_agree_with_differences(name):
    rng = np.random.default_rng(3)
    prediction = rng.standard_normal((3, 4, 5))
    loss, target = {
        "mse": (mse, rng.standard_normal((3, 4, 5))),
        "cross_entropy": (cross_entropy, np.where(rng.random((3, 4)) < 0.3, -100, 1)),
        "binary_cross_entropy": (binary_cross_entropy, rng.random((3, 4, 5))),
    }[name]
    gradcheck(
        lambda prediction: loss(prediction, target),
        lambda grad, d: {"prediction": d * grad},
        {"prediction": prediction},
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_logits_neither_overflow_nor_lose_the_gradient(dtype):
    big = np.finfo(dtype).max
    logits = np.array([[big, 0, -big], [-big, -big, -big], [0, -np.inf, 0]], dtype)
    value, grad = cross_entropy(logits, [0, 1, 2])
    assert value == pytest.approx((np.log(3) + np.log(2)) / 3)
    third, half = 1 / 3, 1 / 2
    expected = np.array([[0, 0, 0], [third, third - 1, third], [half, 0, half - 1]]) / 3
    np.testing.assert_allclose(grad, expected, atol=1e-7)

    value, grad = binary_cross_entropy(np.array([big, -big], dtype), [1, 0])
    assert value == 0
    np.testing.assert_array_equal(grad, 0)
    value, grad = binary_cross_entropy(np.array([-big / 4, big / 4], dtype), [1, 0])
    assert value == pytest.approx(float(big) / 4)
    np.testing.assert_array_equal(grad, [-0.5, 0.5])


def test_binary_gradient_keeps_its_digits_where_the_sigmoid_saturates():
    _, grad = binary_cross_entropy(np.array([60.0, -60.0]), [1, 0])
    np.testing.assert_allclose(grad, [-np.exp(-60) / 2, np.exp(-60) / 2], rtol=1e-12)


def test_ignored_positions_are_not_read():
    logits = np.array([[1.0, 2.0], [np.nan, np.inf]])
    value, grad = cross_entropy(logits, [1, -100])
    alone, alone_grad = cross_entropy(logits[:1], [1])
    assert value == alone
    np.testing.assert_array_equal(grad, [*alone_grad, [0, 0]])


@pytest.mark.parametrize(
    ("result", "shape"),
    [
        (lambda: cross_entropy(np.full((3, 4), np.nan), [-100] * 3), (3, 4)),
        (lambda: cross_entropy(np.zeros((0, 4)), []), (0, 4)),
        (lambda: mse(np.zeros((0, 2)), np.zeros((0, 2))), (0, 2)),
        (lambda: binary_cross_entropy([], []), (0,)),
    ],
)
def test_the_mean_of_nothing_is_zero(result, shape):
    value, grad = result()
    assert value == 0
    assert grad.shape == shape
    assert np.all(grad == 0)


def test_one_position_without_a_batch():
    value, grad = cross_entropy([0.0, 0.0], 1)
    assert value == pytest.approx(np.log(2))
    np.testing.assert_array_equal(grad, [0.5, -0.5])


def test_arguments_are_left_alone():
    logits, target = np.array([[1.0, 2.0]]), np.array([1])
    cross_entropy(logits, target)
    binary_cross_entropy(logits, [[1, 0]])
    mse(logits, logits)
    np.testing.assert_array_equal(logits, [[1, 2]])


ERRORS = [
    (
        lambda: mse(np.zeros((3, 1)), np.zeros((3, 2))),
        ValueError,
        "mse: target has shape (3, 2), expected the shape of prediction = (3, 1)",
    ),
    (lambda: mse([1j], [0]), TypeError, "mse: prediction has dtype complex128, expected real"),
    (lambda: mse([1], ["a"]), TypeError, "mse: target has dtype <U1, expected real numbers"),
    (
        lambda: cross_entropy(np.zeros((3, 4)), [[0, 1, 2]]),
        ValueError,
        "cross_entropy: target has shape (1, 3), expected the shape (3, 4) of logits without the l",
    ),
    (lambda: cross_entropy(1.0, 0), ValueError, "cross_entropy: target has shape ()"),
    (
        lambda: cross_entropy(np.zeros((2, 4)), [0, 4]),
        ValueError,
        "cross_entropy: target has values 0..4, expected 0..C-1 = 0..3 or ignore_index = -100",
    ),
    (lambda: cross_entropy(np.zeros((1, 4)), [-1]), ValueError, "target has values -1..-1"),
    (
        lambda: cross_entropy(np.zeros((2, 4)), [0.0, 1.0]),
        TypeError,
        "cross_entropy: target has dtype float64, expected integers",
    ),
    (
        lambda: binary_cross_entropy([0.0, 1.0], [0.0, 2.0]),
        ValueError,
        "binary_cross_entropy: target has values 0.0..2.0, expected 0..1",
    ),
    (lambda: binary_cross_entropy([0.0], [np.nan]), ValueError, "target has values nan..nan"),
    (
        lambda: binary_cross_entropy(np.zeros((2, 1)), [0, 1]),
        ValueError,
        "binary_cross_entropy: target has shape (2,), expected the shape of logits = (2, 1)",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[row[-1][:40] for row in ERRORS])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


QUANTILES = [0.1, 0.5, 0.8]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_quantile_loss_is_its_definition_and_its_gradient_exact(dtype):
    rng = np.random.default_rng(0)
    prediction = rng.standard_normal((4, 5, 3)).astype(dtype)
    target = rng.standard_normal((4, 5)).astype(dtype)
    weight = rng.random((4, 5)).astype(dtype)
    mask = rng.random((4, 5)) < 0.7

    def theirs(torch, p):
        error = torch.tensor(target)[..., None] - p
        q = torch.tensor(QUANTILES, dtype=p.dtype)
        loss = torch.maximum(q * error, (q - 1) * error).mean(-1)
        w = torch.tensor(weight * mask)
        return (w * loss).sum() / w.sum()

    tolerance = 1e-12 if dtype == "float64" else 1e-6
    check_against_torch(
        lambda p: quantile_loss(p, target, QUANTILES, weight=weight, mask=mask),
        theirs,
        prediction,
        tolerance,
    )
    gradcheck(
        lambda prediction: quantile_loss(prediction, target, QUANTILES, lengths=[4, 0, 2, 4, 1]),
        lambda grad, d: {"prediction": d * grad},
        {"prediction": prediction.astype(float)},
    )


def test_the_lowest_quantile_loss_is_at_the_quantiles():
    target = np.random.default_rng(0).gamma(2, size=1001)
    grid = np.sort(target)
    for q in (0.1, 0.5, 0.9):
        losses = [quantile_loss(np.full((1001, 1), y), target, [q])[0] for y in grid]
        assert grid[np.argmin(losses)] == np.quantile(target, q)


def test_quantile_loss_reads_no_padding_and_hides_no_nan():
    prediction, target = np.array([[1.0, 2.0], [np.nan, np.inf]]), np.array([3.0, np.nan])
    value, grad = quantile_loss(prediction, target, [0.2, 0.4], mask=[True, False])
    assert (value, grad.tolist()) == (0.4, [[-0.1, -0.2], [0, 0]])
    assert quantile_loss([[1.0]], [1.0], [0.2])[1] == 0  # between the slopes on both sides
    assert np.isnan(quantile_loss([[np.nan]], [1.0], [0.5])[0])
    assert np.isnan(quantile_loss([[1.0]], [np.nan], [0.5])[0])


@pytest.mark.parametrize(
    ("prediction", "target", "quantiles", "message"),
    [
        ([1.0], [1.0], [0.5], r"prediction has shape (1,), expected the shape of target and the"),
        ([[1.0]], [1.0], [0.0], "quantiles is [0.0], expected numbers between 0 and 1"),
        ([[1.0]], [1.0], 0.5, "quantiles is 0.5, expected a list of numbers"),
        ([[1.0]], [1.0], [], "quantiles is [], expected a list of numbers"),
    ],
)
def test_bad_arguments_of_quantile_loss(prediction, target, quantiles, message):
    with pytest.raises(ValueError, match=re.escape(f"quantile_loss: {message}")):
        quantile_loss(prediction, target, quantiles)
