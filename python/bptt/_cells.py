# SPDX-License-Identifier: MIT
"""The cells of the core: gates, states and options."""

from __future__ import annotations

from typing import Any

# Of the rows of w_ih, in their order; of an LSTM without a forget gate of its own, without "f".
GATES = {
    "rnn": ("h",),
    "lstm": ("i", "f", "g", "o"),
    "gru": ("r", "z", "n"),
    "mgu": ("f", "n"),
    "slstm": ("i", "f", "z", "o"),
    "lstm1997": ("i", "o", "g"),
}
STATES = {"rnn": 1, "lstm": 2, "gru": 1, "mgu": 1, "slstm": 4, "lstm1997": 4}

# Parameters by the functions' names for them.
NAMES = {
    "w_ih": "weight_ih",
    "w_hh": "weight_hh",
    "b_ih": "bias_ih",
    "b_hh": "bias_hh",
    "peepholes": "peephole",
    "w_hr": "weight_hr",
    "g_ih": "gain_ih",
    "g_hh": "gain_hh",
    "g_c": "gain_c",
    "b_c": "bias_c",
}
# Of them those that the functions take together as layer_norm, with what they start from.
LAYER_NORM = {"g_ih": 1.0, "g_hh": 1.0, "g_c": 1.0, "b_c": 0.0}

ACTIVATIONS = ("tanh", "relu", "leaky_relu", "sigmoid", "identity")  # of RNN
GATE_ACTIVATIONS = ("sigmoid", "hard_sigmoid")
CANDIDATE_ACTIVATIONS = ("tanh", "relu", "identity")
FORGET_GATES = ("own", "coupled", "none")


def state_names(cell: str) -> tuple[str, ...]:
    return ("h", "c", "i", "o") if cell == "lstm1997" else ("h", "c", "n", "m")[: STATES[cell]]


def state_count(cell: str) -> int:
    return STATES[cell]


def activations(
    cell: str,
    forget_gate: str = "own",
    activation: str = "tanh",
    gate_activation: str = "sigmoid",
    **_: Any,
) -> dict[str, str]:
    """Of each gate by name, for `Source`."""
    names = [g for g in GATES[cell] if cell != "lstm" or g != "f" or forget_gate == "own"]
    inner = {"lstm": "g", "gru": "n", "mgu": "n", "slstm": "z", "rnn": "h"}.get(cell)
    ranges = {name: activation if name == inner else gate_activation for name in names}
    return ranges | {"i": "exp"} if cell == "slstm" else ranges
