# SPDX-License-Identifier: MIT
"""Products of factors below 1: the gradient that is left after many steps."""

from __future__ import annotations

import numpy as np

import bptt

from .table import Claim, norm, state_norms


def powers() -> Claim:
    """h_t = 0.9 h_{t-1}: dL/dh_0 of L = h_T."""
    rows = []
    for T in (10, 50):
        zero, w = np.zeros((1, 1)), np.array([[0.9]])
        tape = bptt.rnn_forward(np.zeros((T, 1, 1)), zero, w, activation="identity")[2]
        gradient = bptt.rnn_backward(tape, dstate=[[1.0]]).state.item()
        rows.append((f"0.9^{T}", f"{gradient:.12f}", f"{0.9**T:.12f}"))
    return Claim("powers", ("", "dL/dh_0 by BPTT", "0.9 multiplied"), rows)


def train(T, updates, rate=0.1):
    """Return the steps' shares in dL/dw_in at the first update, and the last loss.

    As examples/three_digits.py, whose rate of 0.5 makes the loss jump at times.
    """
    x, target, _ = bptt.tasks.three_digits(T, seed=0)
    x, target = x.astype(np.float64), target.astype(np.float64)
    w_in, w_h, w_out, shares = 0.7, 0.4, 0.2, None
    for _ in range(updates + 1):
        _, h, tape = bptt.rnn_forward(x, [[w_in]], [[w_h]])
        loss, danswer = bptt.mse(w_out * h[:, 0], target)
        trace = "full" if shares is None else None
        grads = bptt.rnn_backward(tape, dstate=danswer[:, None] * w_out, trace=trace)
        if trace:
            shares = grads.trace.shares.w_ih.share
        w_in -= rate * grads.w_ih.item()
        w_h -= rate * grads.w_hh.item()
        w_out -= rate * (danswer @ h[:, 0])
    return shares, loss


def three_digits() -> Claim:
    """101 -> 1, 001 -> 0, 000 -> 0, 111 -> 1, and in the second row 97 random digits follow."""
    rows, curves = [], {}
    for T in (3, 100):
        shares, loss = train(T, updates=2000)
        rows.append((T, *(float(shares[k]) for k in (0, 1, -2, -1)), float(loss)))
        curves[f"T = {T}"] = shares
    head = ("steps", "first", "second", "last but one", "last", "loss after 2000 updates")
    return Claim("three_digits", head, rows, curves)


def torch_rnn() -> Claim:
    """RNN(4, 16), PyTorch's initialisation, 100 seeds: T = 200, B = 8, L = sum of the last h."""
    norms, curves = [], {}
    for seed in range(100):
        rnn = bptt.RNN(4, 16, seed=seed)  # from U(-1/4, 1/4), as in PyTorch
        x = np.random.default_rng(seed).standard_normal((200, 8, 4))
        _, h, tape = rnn.forward(x)
        grads = rnn.backward(tape, dstate=np.ones_like(h))
        norms.append((norm(grads.params["weight_hh_l0"]), norm(grads.state)))
        if seed == 1:
            wide = bptt.RNN(4, 16, dtype="float64")
            wide.load(rnn.parameters)
            curves = {"float64": state_norms(wide, x), "float32": state_norms(rnn, x)}
    w_hh, state = np.array(norms).T
    rows = [
        ("norm of dL/dW_hh", *(float(f(w_hh)) for f in (np.min, np.median, np.max)), 0),
        (
            "norm of dL/dh_0",
            *(float(f(state)) for f in (np.min, np.median, np.max)),
            sum(state == 0),
        ),
    ]
    return Claim("torch_rnn", ("", "least", "median", "most", "exactly 0"), rows, curves)
