# SPDX-License-Identifier: MIT
"""The table of cells: gates, states, options. Code that depends on the kind of a cell reads it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ._activations import as_activation
from ._types import Activation
from ._validate import (
    as_bools,
    as_bound,
    as_choice,
    as_count,
    as_flag,
    as_layer_norm,
    as_leak,
    as_leaks,
    as_name,
    as_number,
    as_real,
    as_zoneout,
    as_zoneout_of_h,
    as_zoneout_rate,
    as_zoneout_rates,
)  # fmt: skip

Check = Callable[[str, str, Any], Any]  # (caller, name, value): the value, or an error


class Option(NamedTuple):
    """An argument of `<cell>_forward` that changes the equations.

    Attributes
    ----------
    default
        None for an option that most calls leave out.
    convert : callable
        Checks the kind of a function's argument. The core checks its range.
    check : callable
        Checks kind and range of a layer's argument, once. Layers that keep the option as parameters
        do not use it.
    kept : bool
        Does a tape refer to the array? Then the tape needs its own.
    """

    default: Any
    convert: Check
    check: Check
    kept: bool = False


class Cell(NamedTuple):
    """What the rest of the package knows of a cell.

    Attributes
    ----------
    name : str
        The functions are `<name>_forward` and `<name>_backward`.
    gates : dict of str to str
        The activation of each gate, or the option that names it, in the order of the rows of w_ih.
        `activations` leaves out f for an LSTM without its own forget gate.
    states : tuple of str
        The first is h.
    options : dict of str to Option
        In the order of the function's signature.
    layer_norm : tuple of str
        The arrays that a function takes together as `layer_norm`, in order.
    retains : str or None
        The gate whose mean says how much of the state a step keeps.
    split_gate : str or None
        The gate whose input and recurrent pre-activations stay separate; in a GRU only with
        `reset_after`.
    operand : tuple of str
        The states that w_hh multiplies, side by side.
    truncated : bool
        Does the gradient end at the product with w_hh?
    bf16 : frozenset of str, or None
        The options that its kernels with bfloat16 products support; None if it has no such kernels.
    """

    name: str
    gates: dict[str, str]
    states: tuple[str, ...]
    options: dict[str, Option]
    layer_norm: tuple[str, ...] = ("g_ih", "g_hh")
    retains: str | None = None
    split_gate: str | None = None
    operand: tuple[str, ...] = ("h",)
    truncated: bool = False
    bf16: frozenset[str] | None = None

    def activations(self, **options: Any) -> dict[str, Activation]:
        """The activation of each gate that exists with these options, in the order of the rows."""
        absent = "f" if options.get("forget_gate", "own") != "own" else ""
        given = self.defaults | options
        return {gate: given.get(name, name) for gate, name in self.gates.items() if gate != absent}

    @property
    def defaults(self) -> dict[str, Any]:
        """The options' defaults, in the order of the function's signature."""
        return {name: option.default for name, option in self.options.items()}

    @property
    def wide_as_h(self) -> bool:
        """Has w_hh a column for each unit of h, whatever the options?"""
        return self.operand == ("h",) and "heads" not in self.options


# --- options --------------------------------------------------------------------------------------


def _same(default: Any, check: Check, kept: bool = False) -> Option:
    return Option(default, check, check, kept)


def _choice(default: str, choices: tuple[str, ...]) -> Option:
    return Option(default, as_name, partial(as_choice, choices=choices))


def _bound(most: float = float("inf")) -> Option:
    return Option(None, as_number, partial(as_bound, most=most))


FORGET_GATES = ("own", "coupled", "none")

# The options of every cell; the same for cells that have states beside h; and the few that the LSTM
# of 1997 supports.
COMMON = {
    "resets": _same(None, as_bools, kept=True),
    "dilation": _same(1, partial(as_count, least=1)),
    "skip": _same(0, partial(as_count, least=0)),
    "zoneout": Option(None, as_zoneout_of_h, as_zoneout_rate, kept=True),
    "h_mask": _same(None, as_real, kept=True),
    "layer_norm": _same(None, as_layer_norm),
}
OF_STATES = COMMON | {"zoneout": Option(None, as_zoneout, as_zoneout_rates, kept=True)}
OF_1997 = {name: OF_STATES[name] for name in ("resets", "dilation", "skip", "zoneout")}

# --- the table ------------------------------------------------------------------------------------

CELLS = {
    cell.name: cell
    for cell in (
        Cell(
            "rnn",
            gates={"h": "activation"},
            states=("h",),
            options={
                "activation": _same("tanh", as_activation),
                "leak": Option(None, as_leak, as_leaks, kept=True),
                "preact_clip": _bound(),
                **COMMON,
            },
            bf16=frozenset({"activation", "resets", "dilation"}),
        ),
        Cell(
            "lstm",
            gates={
                "i": "gate_activation",
                "f": "gate_activation",
                "g": "activation",
                "o": "gate_activation",
            },
            states=("h", "c"),
            options={
                "peepholes": _same(None, as_real),
                "w_hr": _same(None, as_real),
                "forget_gate": _choice("own", FORGET_GATES),
                "gate_activation": _same("sigmoid", as_activation),
                "activation": _same("tanh", as_activation),
                "output_activation": _same("tanh", as_activation),
                "cell_clip": _bound(),
                "preact_clip": _bound(),
                **OF_STATES,
            },
            layer_norm=("g_ih", "g_hh", "g_c", "b_c"),
            retains="f",
            bf16=frozenset({"resets", "dilation"}),
        ),
        Cell(
            "gru",
            gates={"r": "gate_activation", "z": "gate_activation", "n": "activation"},
            states=("h",),
            options={
                "reset_after": _same(True, as_flag),
                "gate_activation": _same("sigmoid", as_activation),
                "activation": _same("tanh", as_activation),
                "preact_clip": _bound(),
                **COMMON,
            },
            retains="z",
            split_gate="n",
            bf16=frozenset({"resets", "dilation"}),
        ),
        Cell(
            "mgu",
            gates={"f": "sigmoid", "n": "tanh"},
            states=("h",),
            options={"preact_clip": _bound(), **COMMON},
            split_gate="n",
        ),
        Cell(
            "slstm",
            gates={"i": "exp", "f": "sigmoid", "z": "tanh", "o": "sigmoid"},
            states=("h", "c", "n", "m"),
            options={"heads": _same(1, partial(as_count, least=1)), **OF_STATES},
        ),
        Cell(
            "lstm1997",
            gates={"i": "sigmoid", "o": "sigmoid", "g": "sigmoid"},
            states=("h", "c", "i", "o"),
            options=OF_1997,
            layer_norm=(),
            operand=("h", "i", "o"),
            truncated=True,
        ),
    )
}

# --- parameters -----------------------------------------------------------------------------------

# The layers' names of the parameters, by the functions' names.
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
# Initial values of a layer's gains and offsets of layer normalisation.
LAYER_NORM = {"g_ih": 1.0, "g_hh": 1.0, "g_c": 1.0, "b_c": 0.0}
