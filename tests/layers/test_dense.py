# SPDX-License-Identifier: MIT
from __future__ import annotations

import re

import numpy as np
import pytest

from bptt.derivatives.gradcheck import gradcheck
from bptt.layers.embedding import Embedding
from bptt.layers.linear import Linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("leading", [(), (4,), (3, 2), (2, 1, 3), (0,), (3, 0)])
def test_linear_gives_torchs_numbers_on_any_leading_shape(leading, bias):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    layer = Linear(5, 3, bias, dtype="float64", seed=1)
    x, dy = rng.standard_normal((*leading, 5)), rng.standard_normal((*leading, 3))
    net = torch.nn.Linear(5, 3, bias, dtype=torch.float64)
    net.load_state_dict({k: torch.tensor(v) for k, v in layer.parameters.items()})
    tx = torch.tensor(x, requires_grad=True)
    ty = net(tx)
    ty.backward(torch.tensor(dy))
    y, tape = layer.forward(x)
    grads = layer.backward(tape, dy)
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-12)
    np.testing.assert_array_equal(layer(x), y)
    np.testing.assert_allclose(grads.x, tx.grad.numpy(), rtol=1e-12)
    for name, p in net.named_parameters():
        np.testing.assert_allclose(grads.params[name], p.grad.numpy(), rtol=1e-12, atol=1e-14)
    assert list(grads.params) == list(layer.parameters)


def test_linear_gradients_agree_with_differences():
    layer = Linear(3, 2, dtype="float64", seed=0)
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    gradcheck(layer.forward, layer.backward, {"x": x}, layer.parameters)


ACTIVATIONS = ["identity", "tanh", "relu", "sigmoid", "elu", "softmax"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_gives_torchs_numbers(activation):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    layer = Linear(5, 3, activation=activation, dtype="float64", seed=1)
    x, dy = 3 * rng.standard_normal((4, 2, 5)), rng.standard_normal((4, 2, 3))
    tx = torch.tensor(x, requires_grad=True)
    parameters = {k: torch.tensor(v, requires_grad=True) for k, v in layer.parameters.items()}
    apply = {"identity": lambda a: a, "elu": torch.nn.functional.elu}
    apply["softmax"] = lambda a: torch.softmax(a, -1)
    ty = torch.nn.functional.linear(tx, **parameters)
    ty = apply.get(activation, getattr(torch, activation, None))(ty)
    ty.backward(torch.tensor(dy))
    y, tape = layer.forward(x)
    grads = layer.backward(tape, dy)
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-12)
    np.testing.assert_array_equal(layer(x), y)
    np.testing.assert_allclose(grads.x, tx.grad.numpy(), atol=1e-13)
    for name, p in parameters.items():
        np.testing.assert_allclose(grads.params[name], p.grad.numpy(), atol=1e-13)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_of_large_numbers_is_finite(activation):
    layer = Linear(1, 2, bias=False, activation=activation)
    layer.parameters["weight"][...] = [[1e30], [-1e30]]
    y, tape = layer.forward([[1.0], [-1.0], [0.0]])
    grads = layer.backward(tape, np.ones_like(y))
    assert y.dtype == grads.x.dtype == grads.params["weight"].dtype == np.float32
    assert np.isfinite(y).all()
    assert np.isfinite(grads.x).all()


def test_y_of_an_activation_is_read_only_as_the_tape_refers_to_it():
    y, _ = Linear(3, 2, activation="tanh").forward(np.ones(3))
    with pytest.raises(ValueError, match="read-only"):
        y += 1


def test_embedding_gives_torchs_numbers_with_repeated_indices():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    layer = Embedding(7, 4, dtype="float64", seed=1)
    x, dy = rng.integers(0, 7, (9, 5)), rng.standard_normal((9, 5, 4))
    net = torch.nn.Embedding(7, 4, dtype=torch.float64)
    net.load_state_dict({k: torch.tensor(v) for k, v in layer.parameters.items()})
    ty = net(torch.tensor(x))
    ty.backward(torch.tensor(dy))
    y, tape = layer.forward(x)
    grads = layer.backward(tape, dy)
    np.testing.assert_array_equal(y, ty.detach().numpy())
    np.testing.assert_allclose(grads.params["weight"], net.weight.grad.numpy(), atol=1e-14)
    assert grads.x is None


@pytest.mark.parametrize("x", [3, [], [[2, 2], [2, 2]], np.array([[6]], np.uint8)])
def test_embedding_takes_any_shape_and_sums_over_repeats(x):
    layer = Embedding(7, 2, seed=0)
    y, tape = layer.forward(x)
    assert y.shape == (*np.shape(x), 2)
    expected = np.zeros((7, 2), np.float32)
    np.add.at(expected, np.asarray(x, int), 1)
    np.testing.assert_array_equal(layer.backward(tape, np.ones_like(y)).params["weight"], expected)


def test_initial_parameters_have_torchs_distributions():
    weight = Linear(100, 300, seed=0).parameters["weight"]
    assert 0.099 < np.abs(weight).max() <= 0.1  # U(-1/sqrt(100), 1/sqrt(100))
    assert abs(weight.std() - 0.1 / np.sqrt(3)) < 1e-3
    weight = Embedding(300, 100, seed=0).parameters["weight"]
    assert abs(weight.mean()) < 0.02
    assert abs(weight.std() - 1) < 0.02
    assert np.array_equal(weight, Embedding(300, 100, seed=0).parameters["weight"])
    assert not np.array_equal(weight, Embedding(300, 100, seed=1).parameters["weight"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_is_the_layers(dtype):
    linear, embedding = Linear(3, 2, dtype=dtype), Embedding(5, 3, dtype=dtype)
    v, tape = embedding.forward([[1, 4]])
    y, linear_tape = linear.forward(v.astype("f8"))
    grads = linear.backward(linear_tape, np.ones(y.shape, int))
    arrays = [v, y, grads.x, *grads.params.values()]
    arrays += embedding.backward(tape, grads.x.astype("f4")).params.values()
    assert {a.dtype for a in arrays} == {np.dtype(dtype)}


def test_repr():
    assert repr(Linear(3, 2)) == "Linear(3, 2)\n  weight  (2, 3)\n  bias    (2,)\n  8 parameters"
    assert repr(Linear(3, 2, activation="elu")).startswith("Linear(3, 2, activation='elu')\n")
    assert repr(Linear(3, 2, False)).startswith("Linear(3, 2, bias=False)\n")
    assert repr(Embedding(500, 4, dtype="float64")) == (
        "Embedding(500, 4, dtype='float64')\n  weight  (500, 4)\n  2,000 parameters"
    )


ERRORS = [
    (lambda: Linear(3, 0), ValueError, "Linear: out_features is 0, expected 1 or more"),
    (
        lambda: Linear(3, 2, activation="swish"),
        ValueError,
        "Linear: activation is 'swish', expected one of ('identity', 'tanh', 'relu',",
    ),
    (lambda: Linear(3, 2, dtype=int), TypeError, "Linear: dtype is int64, expected float32 or"),
    (
        lambda: Linear(3, 2)(np.zeros((4, 2))),
        ValueError,
        "Linear: x has shape (4, 2), expected (..., in_features) = (..., 3)",
    ),
    (lambda: Linear(3, 2)(1.0), ValueError, "Linear: x has shape (), expected (..., in_features)"),
    (lambda: Linear(3, 2)(np.zeros(3, complex)), TypeError, "Linear: x has dtype complex128"),
    (
        lambda: Linear(3, 2).backward(Linear(3, 2).forward(np.zeros((4, 3)))[1], np.zeros((2, 4))),
        ValueError,
        "Linear: dy has shape (2, 4), expected the shape of y = (4, 2)",
    ),
    (
        lambda: Embedding(5, 2)([[0, 5]]),
        ValueError,
        "Embedding: x has values 0..5, expected 0..num_embeddings - 1 = 0..4",
    ),
    (lambda: Embedding(5, 2)([-1]), ValueError, "Embedding: x has values -1..-1, expected 0"),
    (
        lambda: Embedding(5, 2)([1.0]),
        TypeError,
        "Embedding: x has dtype float64, expected integers",
    ),
    (
        lambda: Embedding(5, 2).backward(np.array([1, 2]), np.zeros((2, 3))),
        ValueError,
        "Embedding: dy has shape (2, 3), expected the shape of y = (2, 2)",
    ),
    (
        lambda: Linear(3, 2).load({"weight": np.zeros((2, 3))}),
        ValueError,
        "Linear: arrays has missing names ['bias'] and unexpected names []",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[row[-1][:40] for row in ERRORS])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
