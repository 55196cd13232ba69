# SPDX-License-Identifier: MIT
"""The effect of the activation's slope, and of the weight."""

from __future__ import annotations

import numpy as np

import bptt

from .table import Claim, horizon, state_norms


def slope(activation, h_before, x, w_h):
    """dh_t/dh_{t-1} / w_h of one neuron, for each sequence."""
    tape = bptt.rnn_forward(x[None], [[1.0]], [[w_h]], state=h_before, activation=activation)[2]
    return bptt.rnn_backward(tape, dstate=np.ones_like(h_before)).state / w_h


def slopes() -> Claim:
    """Slopes over 10,000 random arguments, and how far a gradient reaches in a layer of 64."""
    rng, rows, curves = np.random.default_rng(0), [], {}
    h, x = rng.standard_normal((2, 10_000, 1))
    for name in ("tanh", "relu", "leaky_relu"):
        s = slope(name, h, x, 0.5)
        rnn = bptt.RNN(1, 64, activation=name, dtype="float64", seed=0)
        bptt.init.orthogonal(rnn.parameters["weight_hh_l0"], 0)
        norms = state_norms(rnn, rng.standard_normal((200, 8, 1)))
        kinds = len(np.unique(s.round(9)))
        rows.append((name, float(s.min()), float(s.max()), kinds, horizon(norms)))
        curves[name] = norms
    head = ("", "smallest slope", "largest", "distinct slopes", "memory horizon, orthogonal W_hh")
    return Claim("slopes", head, rows, curves)


def relu_slope() -> Claim:
    """One ReLU neuron that stays on: dh_T/dh_0 over 100 steps, and the factor from the slopes."""
    rows = []
    for w_h in (0.9, 1.0, 1.1):
        x, one = np.ones((100, 1, 1)), np.ones((1, 1))
        tape = bptt.rnn_forward(x, one, w_h * one, activation="relu")[2]
        gradient = bptt.rnn_backward(tape, dstate=one).state.item()
        product = float(np.prod(slope("relu", tape.h[:, 0], x[:, 0], w_h)))
        rows.append((w_h, gradient, w_h**100, product))
    head = ("w_h", "dh_100/dh_0", "w_h^100", "product of the 100 slopes")
    return Claim("relu_slope", head, rows)
