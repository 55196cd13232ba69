# SPDX-License-Identifier: MIT
"""Initial weights, cells and connections: how far the gradient reaches with each."""

from __future__ import annotations

import numpy as np

import bptt

from .table import Claim, horizon, norm, state_norms

T, B, H = 300, 8, 32


def inputs(size=4):
    return np.random.default_rng(0).standard_normal((T, B, size))


def reach(layers):
    """Measure |dL/d(state)| by lag and its horizon: a row for each named layer."""
    rows, curves = [], {}
    for name, layer in layers.items():
        curves[name] = norms = state_norms(layer, inputs())
        rows.append((name, horizon(norms), *(float(norms[k] / norms[1]) for k in (10, 100))))
    return ("", "memory horizon", "left at lag 10", "left at lag 100"), rows, curves


def starts() -> Claim:
    """A simple network with different initial weights."""
    layers = {}
    for name in (
        "PyTorch's initialisation",
        "orthogonal",
        "0.95 orthogonal",
        "identity, ReLU (IRNN)",
    ):
        relu = "relu" if "IRNN" in name else "tanh"
        layers[name] = rnn = bptt.RNN(4, H, activation=relu, dtype="float64", seed=0)
        if name == "PyTorch's initialisation":
            continue
        bptt.init.normal(rnn.parameters["weight_ih_l0"], 0, 0.001)  # as in the IRNN's paper
        bptt.init.irnn(rnn)
        if relu == "tanh":
            bptt.init.orthogonal(rnn.parameters["weight_hh_l0"], 0)
        if name == "0.95 orthogonal":
            bptt.init.spectral(rnn.parameters["weight_hh_l0"], 0.95)
    return Claim("starts", *reach(layers))


def cells() -> Claim:
    """RNN, GRU and LSTM of 32 units."""
    layers = {
        "RNN": bptt.RNN(4, H, dtype="float64", seed=0),
        "GRU": bptt.GRU(4, H, dtype="float64", seed=0),
        "LSTM": bptt.LSTM(4, H, dtype="float64", seed=0),
        "LSTM, forget bias 1": bptt.LSTM(4, H, dtype="float64", seed=0),
        "LSTM, forget bias 5": bptt.LSTM(4, H, dtype="float64", seed=0),
        "LSTM, chrono to 300": bptt.LSTM(4, H, dtype="float64", seed=0),
        "GRU, chrono to 300": bptt.GRU(4, H, dtype="float64", seed=0),
    }
    bptt.init.forget_bias(layers["LSTM, forget bias 1"], 1)
    bptt.init.forget_bias(layers["LSTM, forget bias 5"], 5)
    bptt.init.chrono(layers["LSTM, chrono to 300"], 300, 0)
    bptt.init.chrono(layers["GRU, chrono to 300"], 300, 0)
    return Claim("cells", *reach(layers))


def input_norms(dx):
    """|dL/dx_t| by lag from the last step."""
    return np.sqrt((dx**2).sum(axis=(1, 2)))[::-1]


def skips() -> Claim:
    """A simple network that adds h_{t-k} to h_t: |dL/dx_t| of L = sum of h_T."""
    rows, curves = [], {}
    for k in (0, 10, 30):
        rnn = bptt.RNN(4, H, skip=k, dtype="float64", seed=0)
        _, h, tape = rnn.forward(inputs())
        dx = rnn.backward(tape, dstate=np.ones_like(h)).x
        name = f"skip over {k} steps" if k else "none"
        curves[name] = input_norms(dx)
        rows.append((name, *(float(curves[name][lag]) for lag in (0, 30, 120, 270))))
    return Claim("skips", ("", "lag 0", "lag 30", "lag 120", "lag 270"), rows, curves)


def depth() -> Claim:
    """Stacks of 16 simple layers, one step: gradients of the input and of two layers."""
    rows = []
    for residual in (False, True):
        rnn = bptt.RNN(H, H, 16, residual=residual, dtype="float64", seed=0)
        y, _, tape = rnn.forward(inputs(H)[:1])
        grads = rnn.backward(tape, np.ones_like(y))
        name = "residual" if residual else "plain"
        first, last = (norm(grads.params[f"weight_ih_l{k}"]) for k in (0, 15))
        rows.append((name, norm(grads.x), first, last))
    head = ("", "norm of dL/dx", "of dL/dW_ih, lowest layer", "of dL/dW_ih, highest layer")
    return Claim("depth", head, rows)


def attention() -> Claim:
    """|dL/dx_t| of a simple network, read from its last state or by attention."""
    rnn = bptt.RNN(4, H, dtype="float64", seed=0)
    pool = bptt.Attention(H, "dot", dtype="float64", seed=0)
    y, h, tape = rnn.forward(inputs())
    context, _, pool_tape = pool.forward(y, h[0])
    pooled = pool.backward(pool_tape, np.ones_like(context))
    ways = {
        "last state": rnn.backward(tape, dstate=np.ones_like(h)),
        "attention": rnn.backward(tape, pooled.x, pooled.query[None]),
    }
    curves = {name: input_norms(g.x) for name, g in ways.items()}
    rows = [(name, *(float(c[k]) for k in (0, 10, 100, 299))) for name, c in curves.items()]
    return Claim("attention", ("", "lag 0", "lag 10", "lag 100", "lag 299"), rows, curves)
