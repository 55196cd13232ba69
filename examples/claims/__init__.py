# SPDX-License-Identifier: MIT
"""Statements of articles about vanishing and exploding gradients, each one measured."""

from .activations import relu_slope, slopes
from .clips import angles, learning_rates, overflow, training
from .decay import powers, three_digits, torch_rnn
from .structure import attention, cells, depth, skips, starts

CLAIMS = (
    powers,
    three_digits,
    torch_rnn,
    slopes,
    relu_slope,
    overflow,
    training,
    angles,
    learning_rates,
    starts,
    cells,
    skips,
    depth,
    attention,
)
