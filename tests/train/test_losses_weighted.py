# SPDX-License-Identifier: MIT
"""Lengths, masks and weights of the losses: against the elements taken by hand, and PyTorch."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.derivatives.gradcheck import gradcheck
from support.compare import error

T, B, C = 6, 4, 5
LENGTHS = [6, 0, 2, 5]
LOSSES = {"mse": bptt.mse, "cross_entropy": bptt.cross_entropy,
          "binary_cross_entropy": bptt.binary_cross_entropy}  # fmt: skip


def data(name: str, dtype: str = "float64") -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    prediction = rng.standard_normal((T, B, C)).astype(dtype)
    if name == "cross_entropy":
        return prediction, rng.integers(0, C, (T, B))
    return prediction, rng.integers(0, 2, (T, B, C)).astype(dtype)


def inside(batch_first: bool = False) -> Any:
    steps = np.arange(T)[:, None] < np.array(LENGTHS)
    return steps.T if batch_first else steps


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_lengths_and_masks_are_the_loss_of_the_elements_that_count(
    name: str, dtype: str, batch_first: bool
) -> None:
    loss, (prediction, target) = LOSSES[name], data(name, dtype)
    if batch_first:
        prediction, target = prediction.swapaxes(0, 1).copy(), target.swapaxes(0, 1).copy()
    counts = inside(batch_first)
    prediction[~counts] = np.nan  # padding is not read
    target[~counts] = -7 if name == "cross_entropy" else np.nan
    want, part = loss(prediction[counts], target[counts])
    ways = [{"lengths": LENGTHS, "batch_first": batch_first}, {"mask": counts},
            {"lengths": LENGTHS, "mask": counts, "batch_first": batch_first}]  # fmt: skip
    for how in ways:
        value, grad = loss(prediction, target, **how)
        assert value == want
        assert grad.dtype == dtype
        assert grad[counts].tobytes() == part.tobytes()
        assert not grad[~counts].any()


@pytest.mark.parametrize("name", LOSSES)
def test_no_length_but_zero_is_a_loss_of_nothing(name: str) -> None:
    loss, (prediction, target) = LOSSES[name], data(name)
    value, grad = loss(prediction, target, lengths=[0] * B)
    assert value == 0
    assert grad.shape == prediction.shape
    assert not grad.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_classes_are_torchs(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    logits, target = data("cross_entropy", dtype)
    target[1, :2] = -100
    weight = np.array([0.5, 2, 0, 1, 3], dtype)
    tensor = torch.tensor(logits.reshape(-1, C), requires_grad=True)
    want = torch.nn.functional.cross_entropy(
        tensor, torch.tensor(target.reshape(-1)), torch.tensor(weight)
    )
    want.backward()
    value, grad = bptt.cross_entropy(logits, target, weight=weight)
    tolerance = 1e-12 if dtype == "float64" else 1e-6
    assert value == pytest.approx(want.item(), rel=tolerance)
    assert grad.dtype == dtype
    assert error(grad, tensor.grad.numpy().reshape(grad.shape)) < tolerance


@pytest.mark.parametrize("name", ["mse", "binary_cross_entropy"])
def test_weights_of_elements_are_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    prediction, target = data(name)
    weight = np.random.default_rng(1).random((T, B, C))
    functions = torch.nn.functional
    theirs = {"mse": functions.mse_loss}.get(name, functions.binary_cross_entropy_with_logits)
    tensor = torch.tensor(prediction, requires_grad=True)
    want = theirs(tensor, torch.tensor(target), weight=torch.tensor(weight))
    want.backward()
    value, grad = LOSSES[name](prediction, target, weight=weight)
    assert value == pytest.approx(want.item(), rel=1e-12)
    assert error(grad, tensor.grad.numpy()) < 1e-12


def test_a_sample_of_weight_2_is_a_sample_twice() -> None:
    logits, target = np.random.default_rng(2).standard_normal((3, C)), np.array([0, 3, 3])
    twice = [0, 1, 1, 2, 2, 2]
    weights, weight = np.array([1, 2, 3]), np.arange(1.0, C + 1)
    for more in ({}, {"weight": weight}):
        want, part = bptt.cross_entropy(logits[twice], target[twice], **more)
        value, grad = bptt.cross_entropy(logits, target, sample_weight=weights, **more)
        assert value == pytest.approx(want, rel=1e-14)
        summed = np.array([part[:1].sum(0), part[1:3].sum(0), part[3:].sum(0)])
        assert error(grad, summed) < 1e-14
    want, _ = bptt.mse(logits[twice], np.zeros((6, C)))
    assert bptt.mse(logits, np.zeros((3, C)), weight=weights[:, None])[0] == pytest.approx(want)


def test_samples_of_a_batch_are_weighted_at_every_step() -> None:
    logits, target = data("cross_entropy")
    weights = np.array([1.0, 0, 2, 3])
    value, grad = bptt.cross_entropy(logits, target, sample_weight=weights, lengths=LENGTHS)
    full = np.broadcast_to(weights, (T, B))
    other, same = bptt.cross_entropy(logits, target, sample_weight=full * inside())
    assert value == pytest.approx(other, rel=1e-14)
    assert error(grad, same) < 1e-14
    assert not grad[:, 1].any()


def test_a_weight_of_zero_hides_an_infinite_loss() -> None:
    value, grad = bptt.cross_entropy([[0.0, -np.inf], [0.0, 0.0]], [1, 0], sample_weight=[0, 1])
    assert value == pytest.approx(np.log(2))
    np.testing.assert_array_equal(grad, [[0, 0], [-0.5, 0.5]])
    assert bptt.cross_entropy([[0.0, 1.0]], [1], weight=[1, 0])[0] == 0


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_weighted_losses_agree_with_differences(name: str) -> None:
    loss, (prediction, target) = LOSSES[name], data(name)
    rng = np.random.default_rng(3)
    if name == "cross_entropy":
        more: dict[str, Any] = {"weight": rng.random(C), "sample_weight": rng.random(B)}
    else:
        more = {"weight": rng.random((B, C))}
    gradcheck(
        lambda prediction: loss(prediction, target, lengths=LENGTHS, **more),
        lambda grad, d: {"prediction": d * grad},
        {"prediction": prediction},
    )


def test_softmax_is_torchs_and_does_not_overflow() -> None:
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(4).standard_normal((T, B, C)) * 300
    for axis in (-1, 0):
        want = torch.softmax(torch.tensor(logits), axis).numpy()
        np.testing.assert_allclose(bptt.softmax(logits, axis), want, rtol=1e-13, atol=1e-300)
    big = np.finfo("float32").max
    p = bptt.softmax(np.array([big, -big, big], "float32"))
    assert p.dtype == np.float32
    np.testing.assert_array_equal(p, [0.5, 0, 0.5])
    assert bptt.softmax(np.zeros((0, 3))).shape == (0, 3)


PAIR = (np.zeros((T, B, C)), np.zeros((T, B, C)))
CLASSES = (np.zeros((T, B, C)), np.zeros((T, B), int))
ERRORS = [
    (lambda: bptt.mse(*PAIR, lengths=[1, 2]), "mse: lengths has shape (2,), expected (B,) = (4,)"),
    (lambda: bptt.mse(*PAIR, lengths=[7] * B), "mse: lengths has values 7..7, expected 0..T = 0."),
    (
        lambda: bptt.cross_entropy(np.zeros((B, C)), [0] * B, lengths=LENGTHS),
        "cross_entropy: target has shape (4,), expected (T, B, ...) with lengths",
    ),
    (
        lambda: bptt.mse(*PAIR, mask=np.ones(B, bool)),
        "mse: mask has shape (4,), expected the first axes of prediction = (6, 4, 5)",
    ),
    (lambda: bptt.mse(*PAIR, mask=[1] * T), "mse: mask has dtype int64, expected bool"),
    (
        lambda: bptt.cross_entropy(*CLASSES, weight=np.ones(1)),
        "cross_entropy: weight has shape (1,), expected (5,)",
    ),
    (
        lambda: bptt.cross_entropy(*CLASSES, sample_weight=np.ones(T)),
        "cross_entropy: sample_weight has shape (6,), expected (6, 4) or one that broadcasts to it",
    ),
    (
        lambda: bptt.binary_cross_entropy(*PAIR, weight=-1),
        "binary_cross_entropy: weight has values -1.0..-1.0, expected 0 or more, and finite",
    ),
    (lambda: bptt.mse(*PAIR, batch_first=1), "mse: batch_first is 1, expected True or False"),
    (lambda: bptt.softmax([1.0], 1), "softmax: axis is 1, expected -1..0"),
    (lambda: bptt.softmax(["a"]), "softmax: logits has dtype <U1, expected real numbers"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[row[-1][:40] for row in ERRORS])
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        call()
