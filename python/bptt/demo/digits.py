# SPDX-License-Identifier: MIT
"""The demo's first task: a network of three weights."""

from __future__ import annotations

import numpy as np

from .. import tasks
from .._types import Array
from ..functional import rnn_backward, rnn_forward
from .console import Console, Result

__all__ = ["three_digits"]

RATE = 0.5
INTRODUCTION = """
1  Three digits, one neuron: which digit came first?
   101 -> 1, 001 -> 0, 000 -> 0, 111 -> 1
   O_t = tanh(x_t w_in + O_{t-1} w_h), answer w_out O_T, mean squared error.
   Gradient descent; dL/dw_in is a sum with one term for each time step:"""


def terms(w: dict[str, float], x: Array, target: Array) -> tuple[float, dict[str, float], Array]:
    """The loss, its gradient, and the term of dL/dw_in for each step, shape (T,)."""
    _, h, tape = rnn_forward(x, [[w["in"]]], [[w["h"]]])
    error = w["out"] * h[:, 0] - target
    danswer = 2 * error / error.size
    grads = rnn_backward(tape, dstate=danswer[:, None] * w["out"])
    # grads.x is dL/da_t w_in, with a_t the argument of tanh; the term of step t is dL/da_t x_t.
    shares = (grads.x * x).sum(axis=(1, 2)) / w["in"]
    gradient = {"in": grads.w_ih.item(), "h": grads.w_hh.item(), "out": float(danswer @ h[:, 0])}
    return float(np.mean(error**2)), gradient, shares


def train(
    console: Console, seed: int, T: int, steps: int, shown: list[int]
) -> tuple[float, Array, dict[str, float]]:
    """Train on T digits and print terms; return the last loss, the first terms and the weights."""
    x, target, _ = tasks.three_digits(T, seed)
    x, target = x.astype(np.float64), target.astype(np.float64)
    w = dict(zip(("in", "h", "out"), np.random.default_rng(seed).uniform(0.2, 1, 3).tolist()))
    heads = "".join(f"{f'step {t}':>10}" for t in shown)
    console.print(f"\n   update   loss  dL/dw_in = {heads}")
    for step in range(steps + 1):
        loss, gradient, shares = terms(w, x, target)
        if step == 0:
            first = shares
        if step in (0, 1, 10, 100, steps):
            row = "".join(f"{shares[t - 1]:10.1e}" for t in shown)
            console.print(f"   {step:6d} {loss:6.4f} {gradient['in']:9.1e} = {row}")
        if step < steps:
            w = {name: w[name] - RATE * gradient[name] for name in w}
    return loss, first, w


def three_digits(console: Console, seed: int, steps: int) -> tuple[Array, Result]:
    """Three digits, then a hundred. Returns the terms of dL/dw_in over 100 steps, untrained."""
    console.print(INTRODUCTION)
    loss, _, w = train(console, seed, 3, steps, [1, 2, 3])
    x = tasks.three_digits().x.astype(np.float64)
    answers = w["out"] * rnn_forward(x, [[w["in"]]], [[w["h"]]])[1][:, 0]
    console.print("   answers: " + "  ".join(f"{a:.2f}" for a in answers))
    console.print("\n   With 100 digits, the sum looks healthy, but the first term vanishes.")
    long_loss, shares, _ = train(console, seed, 100, steps, [1, 50, 90, 99, 100])
    console.print(f"   The loss is {long_loss:.2f}; without learning it is 0.25.")
    return shares, Result("three digits", "1 neuron", loss, "MSE", 0.25, goal=0.05)
