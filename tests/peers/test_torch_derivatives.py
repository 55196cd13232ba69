# SPDX-License-Identifier: MIT
"""jvp, hvp and vjp give what torch.func gives for PyTorch's modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

import bptt
from support.compare import assert_close
from support.directions import Directions
from support.problems import Case, problem

MODULES = {
    "rnn": lambda I, H: nn.RNN(I, H, dtype=torch.float64),
    "rnn-relu": lambda I, H: nn.RNN(I, H, nonlinearity="relu", dtype=torch.float64),
    "lstm": lambda I, H: nn.LSTM(I, H, dtype=torch.float64),
    "gru": lambda I, H: nn.GRU(I, H, dtype=torch.float64),
}
NAMES = ("x", "w_ih", "w_hh", "b_ih", "b_hh")


@pytest.mark.filterwarnings("ignore")  # of deprecations inside torch
@pytest.mark.parametrize("name", MODULES)
def test_derivatives_are_those_of_torch(name: str) -> None:
    T, B, I, H = 7, 3, 4, 6
    cell, _, activation = name.partition("-")
    options = {"activation": activation} if activation else {}
    c = problem(Case("", cell, options), (T, B, I, H))
    module, forward = MODULES[name](I, H), getattr(bptt, f"{cell}_forward")
    given = {n: c.arrays[n] for n in NAMES}
    along = {n: Directions(c).arrays[n] for n in NAMES}
    target = np.zeros((T, B, H))

    def tensors(arrays: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(torch.tensor(a) for a in arrays.values())

    def outputs(x: Any, *weights: Any) -> Any:
        named = {f"{n}_l0": w for n, w in zip(("weight_ih", "weight_hh", "bias_ih"), weights)}
        named["bias_hh_l0"] = weights[3]
        return torch.func.functional_call(module, named, (x,))[0]

    def loss(*arrays: Any) -> Any:
        return ((outputs(*arrays) - torch.tensor(target)) ** 2).mean()

    def gradient(*arrays: Any) -> Any:
        return torch.func.grad(loss, argnums=tuple(range(5)))(*arrays)

    want = dict(zip(("y", "dy"), torch.func.jvp(outputs, tensors(given), tensors(along))))
    y, _, dy, _ = bptt.jvp(forward, given, along, **options)
    assert_close({"y": y, "dy": dy}, {k: a.numpy() for k, a in want.items()}, 1e-12)

    g, Hv = torch.func.jvp(gradient, tensors(given), tensors(along))
    grads, grads_tangent = bptt.hvp(
        forward,
        given,
        along,
        lambda y, dy: (2 * (y - target) / y.size, 2 * dy / y.size),
        **options,
    )
    for ours, theirs in ((grads, g), (grads_tangent, Hv)):
        got = {n: getattr(ours, n) for n in NAMES}
        assert_close(got, {n: a.numpy() for n, a in zip(NAMES, theirs)}, 1e-12)

    _, back = torch.func.vjp(outputs, *tensors(given))
    _, pullback = bptt.vjp(forward, given, **options)
    pulled = pullback(c.dy)
    got = {n: getattr(pulled, n) for n in NAMES}
    assert_close(got, {n: a.numpy() for n, a in zip(NAMES, back(torch.tensor(c.dy)))}, 1e-12)
