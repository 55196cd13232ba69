# SPDX-License-Identifier: MIT
"""The inputs, outputs and attributes of a recurrent node of ONNX."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._words import brief, listed, shown
from .activations import DEFAULTS, OPTIONS, number_of, options_of

__all__ = ["INPUTS", "OUTPUTS", "QUANTIZED", "Attributes", "attributes_of", "is_recurrent", "label"]

QUANTIZED = "DynamicQuantizeLSTM"  # of the domain com.microsoft
COMMON = ("X", "W", "R", "B", "sequence_lens", "initial_h")
INPUTS = {
    "RNN": COMMON,
    "GRU": COMMON,
    "LSTM": (*COMMON, "initial_c", "P"),
    QUANTIZED: (
        *COMMON, "initial_c", "P", "W_scale", "W_zero_point", "R_scale", "R_zero_point",
    ),
}  # fmt: skip
OUTPUTS = {
    "RNN": ("Y", "Y_h"),
    "GRU": ("Y", "Y_h"),
    "LSTM": ("Y", "Y_h", "Y_c"),
    QUANTIZED: ("Y", "Y_h", "Y_c"),
}
DOMAINS = {QUANTIZED: ("com.microsoft",)}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
# The kinds of the attributes' values. output_sequence, of opset 1, only says that Y is used.
KINDS: dict[str, Any] = {
    "activations": list,
    "activation_alpha": list,
    "activation_beta": list,
    "clip": float,
    "direction": bytes,
    "hidden_size": int,
    "input_forget": int,
    "layout": int,
    "linear_before_reset": int,
    "output_sequence": int,
}
ONLY = {"input_forget": "LSTM", "linear_before_reset": "GRU"}


class Attributes(NamedTuple):
    """The attributes of a node, checked.

    Attributes
    ----------
    op : {"RNN", "GRU", "LSTM"}
    hidden_size : int or None
        None if the node does not have it; the weights then show it.
    reverse : tuple of bool
        For each direction, whether it reads the sequences from their ends.
    batch_first : bool
        Layout 1.
    options : tuple of dict
        For each direction, the options of the cell that differ from their defaults.
    """

    op: str
    hidden_size: int | None
    reverse: tuple[bool, ...]
    batch_first: bool
    options: tuple[dict[str, Any], ...]

    @property
    def coupled(self) -> bool:
        """Is the forget gate 1 - i?"""
        return "forget_gate" in self.options[0]


def is_recurrent(node: Any) -> bool:
    """Is it a node of an operator in `INPUTS`?"""
    return node.op_type in INPUTS and node.domain in DOMAINS.get(node.op_type, ("", "ai.onnx"))


def label(node: Any) -> str:
    """A node for messages: its name and operator, as "encoder (LSTM)"."""
    name = node.name or next((f"the node of {o}" for o in node.output if o), "a node")
    return f"{brief(name, 60)} ({brief(node.op_type)})"


def attributes_of(caller: str, node: Any) -> Attributes:
    """Read the attributes of a recurrent node; `caller` names it."""
    op = "LSTM" if node.op_type == QUANTIZED else node.op_type
    values = {a.name: _value(caller, op, a) for a in node.attribute}
    direction = values.get("direction", b"forward").decode("utf-8", "replace")
    if direction not in DIRECTIONS:
        raise ValueError(
            f"{caller}: direction is {shown(direction)}, expected one of {listed(DIRECTIONS)}"
        )
    reverse = DIRECTIONS[direction]
    for name in ("layout", *ONLY):
        if values.get(name, 0) not in (0, 1):
            raise ValueError(f"{caller}: {name} is {shown(values[name])}, expected 0 or 1")
    size = values.get("hidden_size")
    if size is not None and size < 1:
        raise ValueError(f"{caller}: hidden_size is {size}, expected 1 or more")
    more: dict[str, Any] = {}
    if "clip" in values:
        more |= _clip(caller, values["clip"])
    if values.get("input_forget"):
        more["forget_gate"] = "coupled"
    if op == "GRU" and not values.get("linear_before_reset"):
        more["reset_after"] = False
    options = options_of(
        caller, op, _activations(caller, op, values.get("activations"), len(reverse)),
        values.get("activation_alpha", ()), values.get("activation_beta", ()),
    )  # fmt: skip
    layout = bool(values.get("layout", 0))
    return Attributes(op, size, reverse, layout, tuple(own | more for own in options))


def _value(caller: str, op: str, attribute: Any) -> Any:
    """The value of one attribute, of the kind that its name needs."""
    name, kind = attribute.name, KINDS.get(attribute.name)
    if kind is None or ONLY.get(name, op) != op:
        raise ValueError(f"{caller}: the node has the attribute {shown(name)}, expected none such")
    if attribute.ref_attr_name:
        raise ValueError(f"{caller}: {name} refers to an attribute of a function, expected a value")
    types = type(attribute)
    if kind is list:
        wanted = types.STRINGS if name == "activations" else types.FLOATS
        value: Any = list(attribute.strings if name == "activations" else attribute.floats)
    else:
        wanted = {float: types.FLOAT, bytes: types.STRING, int: types.INT}[kind]
        value = {float: attribute.f, bytes: attribute.s, int: attribute.i}[kind]
    if attribute.type != wanted:
        raise ValueError(
            f"{caller}: {name} is of kind {types.AttributeType.Name(attribute.type)}, expected "
            f"{types.AttributeType.Name(wanted)}"
        )
    return value


def _clip(caller: str, value: float) -> dict[str, float]:
    if not value > 0:
        raise ValueError(f"{caller}: clip is {value:.9g}, expected more than 0")
    return {} if value >= np.finfo(np.float32).max else {"preact_clip": number_of(value)}


def _activations(caller: str, op: str, given: list[bytes] | None, directions: int) -> list[str]:
    count = len(OPTIONS[op]) * directions
    if given is None:
        return list(DEFAULTS[op]) * directions
    if op == "RNN" and len(given) == 2:  # the default that ONNX states, for either direction
        given = given[:count]
    if len(given) != count:
        raise ValueError(
            f"{caller}: activations has {len(given)} names, expected {count}: "
            f"{len(OPTIONS[op])} for each direction"
        )
    return [name.decode("utf-8", "replace") for name in given]
