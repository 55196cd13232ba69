# SPDX-License-Identifier: MIT
"""A good call of every public function and method, and which odd values each argument may take.

`test_arguments` replaces the arguments of each call one after the other by values of all kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import bptt
from bptt import functional

T, B, I, H = 4, 2, 3, 4

# Kinds of values that are right for many arguments; see WRONG in test_arguments.
ANY = "minus big half"  # any finite number
MORE = "big half"  # from 0 on
SEED = "none big"
MAYBE = "none"  # may be left out
STATES = "none none_inside"  # of several, one may be left out
SHAPED = "shape shape_inside"  # of any shape
NAMED = "dict shape_inside long_name other_name"  # arrays of any names and shapes


class Call(NamedTuple):
    function: Callable[..., Any]
    arguments: dict[str, Any]
    allowed: dict[str, str]
    where: tuple[str, ...] = ()  # how else messages may begin


CALLS: dict[str, Callable[[Path], Call]] = {}


def call(*names: str, **allowed: str) -> Callable[[Any], Any]:
    """Register what makes the function and its arguments, or also other starts of messages."""

    def register(make: Callable[..., tuple[Any, ...]]) -> Callable[..., Any]:
        for name in names:

            def build(folder: Path, name: str = name) -> Call:
                function, arguments, *where = make(folder, name)
                return Call(function, arguments, allowed, tuple(where))

            CALLS[name] = build
        return make

    return register


def rows(cell: str) -> tuple[int, int]:
    """Of w_ih, and columns of w_hh, per unit."""
    gates = {"rnn": 1, "lstm": 4, "gru": 3, "mgu": 2, "slstm": 4, "lstm1997": 3}[cell]
    return gates, 3 if cell == "lstm1997" else 1


def weights(cell: str) -> dict[str, Any]:
    gates, wide = rows(cell)
    rng = np.random.default_rng(0)
    shapes = {"x": (T, B, I), "w_ih": (gates * H, I), "w_hh": (gates * H, wide * H)}
    arrays: dict[str, Any] = {name: rng.standard_normal(s) for name, s in shapes.items()}
    states = len(bptt._cells.CELLS[cell].states)
    state = tuple(np.ones((B, H)) for _ in range(states))
    biases = {"b_ih": np.zeros(gates * H), "b_hh": np.zeros(gates * H)}
    return {**arrays, **biases, "state": state if states > 1 else state[0]}


def lstm(**options: Any) -> bptt.LSTM:
    return bptt.LSTM(I, H, **{"seed": 0, **options})


X, Y = np.ones((T, B, I)), np.ones((T, B, H))
STATE = (np.zeros((1, B, H)), np.zeros((1, B, H)))

# --- recurrences ----------------------------------------------------------------------------------

FORWARD = {"b_ih": MAYBE, "b_hh": MAYBE, "state": STATES}
FORWARD |= {"leak": MAYBE, "peepholes": MAYBE, "w_hr": MAYBE, "h_mask": MAYBE, "layer_norm": MAYBE}
FORWARD |= {"cell_clip": "none big half inf", "preact_clip": "none big half inf"}
FORWARD |= {"lengths": MAYBE, "resets": MAYBE, "reverse": "true", "keep_tape": "true"}
FORWARD |= {"zoneout": MAYBE, "threads": MAYBE, "checkpoint": "none big", "compute": MAYBE}
FORWARD |= {"reset_after": "true"}
WANTED = {"grads": "none list dict generator"}  # none of the names
BACKWARD = {**WANTED, "dy": MAYBE, "dstate": STATES, "step_clip": MAYBE, "trace": "none true"}
BACKWARD |= {"cut": "none big", "threads": MAYBE}
CELLS = ("rnn", "lstm", "gru", "mgu", "slstm", "lstm1997")


@call(*(f"{cell}_forward" for cell in CELLS), **FORWARD)
def _(_: Path, name: str) -> tuple[Any, ...]:
    cell, function = name.removesuffix("_forward"), getattr(bptt, name)
    return function, {**weights(cell), "lengths": [T, 2]}


@call(*(f"{cell}_backward" for cell in CELLS), **BACKWARD)
def _(_: Path, name: str) -> tuple[Any, ...]:
    cell = name.removesuffix("_backward")
    y, state, tape = getattr(bptt, f"{cell}_forward")(**weights(cell))
    return getattr(bptt, name), {"tape": tape, "dy": np.ones_like(y), "dstate": state}


DUALS = {**WANTED, "dy": MAYBE, "dstate": STATES, "dy_tangent": MAYBE, "dstate_tangent": STATES}
DUALS |= {"step_clip": MAYBE, "cut": "none big", "state": STATES}
DUALS |= {"tangents": "dict list none_inside"}


@call("jvp", "vjp", "hvp", **DUALS)
def _(_: Path, name: str) -> tuple[Any, ...]:
    p = {name: value for name, value in weights("rnn").items() if name[0] in "xw"}
    good: dict[str, Any] = {"forward": bptt.rnn_forward, "primals": p}
    if name != "vjp":
        good["tangents"] = {"w_hh": np.ones((H, H))}
    if name == "hvp":
        good |= {"dy": Y, "dy_tangent": Y, "dstate": Y[0], "dstate_tangent": Y[0]}
    return getattr(bptt, name), good, "rnn_forward", "rnn_backward"


@call("layer_hvp", **DUALS)
def _(_: Path, name: str) -> tuple[Any, ...]:
    good = {"x": X, "tangents": {"weight_hh_l0": np.ones((4 * H, H))}, "dy": Y, "dstate": STATE}
    more = {"state": STATE, "dy_tangent": Y, "dstate_tangent": STATE}
    return bptt.layer_hvp, {"layer": lstm(), **good, **more}, "LSTM", "lstm_backward"


ATTENTION = dict.fromkeys(("lengths", "dcontext", "dweights", "scale"), MAYBE) | WANTED


@call("dot_attention_forward", **ATTENTION | {"scale": "none minus big half"})
def _(_: Path, name: str) -> tuple[Any, ...]:
    return functional.dot_attention_forward, {"x": Y, "query": Y[0], "lengths": [T, 2]}


@call("additive_attention_forward", **ATTENTION, b=MAYBE)
def _(_: Path, name: str) -> tuple[Any, ...]:
    more = {"query": Y[0], "w_query": np.ones((5, H)), "b": np.ones(5), "lengths": [T, 2]}
    good = {"x": Y, "w_key": np.ones((5, H)), "w_score": np.ones(5), **more}
    return functional.additive_attention_forward, good


@call("dot_attention_backward", "additive_attention_backward", **ATTENTION)
def _(_: Path, name: str) -> tuple[Any, ...]:
    kind = name.split("_")[0]
    given = {"w_key": np.ones((5, H)), "w_score": np.ones(5)} if kind == "additive" else {}
    forward = getattr(functional, f"{kind}_attention_forward")
    tape = forward(Y, **given if given else {"query": Y[0]})[2]
    good = {"tape": tape, "dcontext": Y[0], "dweights": np.ones((T, B))}
    return getattr(functional, name), good


# --- layers ---------------------------------------------------------------------------------------

SWITCHES = ("bias", "batch_first", "bidirectional", "residual", "variational_dropout")
SWITCHES += ("reset_after", "peepholes", "layer_norm", "reverse", "learn_state")
LAYER = {**dict.fromkeys(SWITCHES, "true"), "seed": SEED, "compute": MAYBE}
LAYER |= {"leak": MAYBE, "preact_clip": "none big half inf", "cell_clip": "none big half inf"}


@call("RNN", "LSTM", "GRU", "MGU", "SLSTM", "LSTM1997", **LAYER)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return getattr(bptt, name), {"input_size": I, "hidden_size": H, "num_layers": 2}


@call("Recurrent.__call__", "Recurrent.forward", **FORWARD)
def _(_: Path, name: str) -> tuple[Any, ...]:
    method = getattr(lstm(), name.split(".")[1])
    return method, {"x": X, "state": STATE, "lengths": [T, 2]}, "LSTM", "lstm_forward"


@call("Recurrent.backward", **BACKWARD)
def _(_: Path, name: str) -> tuple[Any, ...]:
    layer = lstm()
    good = {"tape": layer.forward(X)[2], "dy": Y, "dstate": STATE}
    return layer.backward, good, "LSTM", "lstm_backward"


@call("Recurrent.stream", state=MAYBE)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return lstm().stream, {"batch": B, "state": STATE}, "LSTM.stream", "stream"


@call("Recurrent.prepare", weights=MAYBE)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return lstm().prepare, {"weights": "int8"}, "LSTM.prepare"


@call("Prepared.__call__", out=MAYBE, **FORWARD)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return lstm().prepare(), {"x": X, "state": STATE, "lengths": [T, 2]}, "LSTM"


@call("Stream.step", "Stream.process", "StreamBase.reset", mask=MAYBE, out=MAYBE)
def _(_: Path, name: str) -> tuple[Any, ...]:
    kind = name.split(".")[1]
    good = {"step": {"x": X[0]}, "process": {"x": X}, "reset": {"mask": np.ones(B, bool)}}[kind]
    return getattr(lstm().stream(B), kind), good, f"stream.{kind}"


@call("Layer.load")
def _(_: Path, name: str) -> tuple[Any, ...]:
    return lstm().load, {"arrays": lstm().state_dict()}, "LSTM", "LSTM.load"


@call("Linear", bias="true", seed=SEED)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.Linear, {"in_features": 3, "out_features": 2}


@call("Embedding", seed=SEED)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.Embedding, {"num_embeddings": 3, "embedding_dim": 2}


@call("Attention", seed=SEED, scale=MAYBE)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.Attention, {"hidden_size": H}


@call("Linear.__call__", "Linear.forward", "Linear.backward", **WANTED)
def _(_: Path, name: str) -> tuple[Any, ...]:
    layer, kind = bptt.Linear(3, 2), name.split(".")[1]
    good = {"tape": layer.forward(X)[1], "dy": np.ones((T, B, 2))}
    return getattr(layer, kind), good if kind == "backward" else {"x": X}, "Linear"


@call(
    "Embedding.__call__", "Embedding.forward", "Embedding.backward", x="list dict shape", **WANTED
)
def _(_: Path, name: str) -> tuple[Any, ...]:
    layer, kind = bptt.Embedding(5, 2), name.split(".")[1]
    x = np.array([[1, 2], [0, 4]])
    good = {"tape": layer.forward(x)[1], "dy": np.ones((2, 2, 2))}
    return getattr(layer, kind), good if kind == "backward" else {"x": x}, "Embedding"


@call("Attention.__call__", "Attention.forward", query=MAYBE, lengths=MAYBE)
def _(_: Path, name: str) -> tuple[Any, ...]:
    method = getattr(bptt.Attention(H), name.split(".")[1])
    return method, {"x": Y, "query": Y[0], "lengths": [T, 2]}, "Attention"


@call("Attention.backward", **ATTENTION)
def _(_: Path, name: str) -> tuple[Any, ...]:
    layer = bptt.Attention(H)
    good = {"tape": layer.forward(Y)[2], "dcontext": Y[0], "dweights": np.ones((T, B))}
    return layer.backward, good, "Attention", "additive_attention_backward"
