# SPDX-License-Identifier: MIT
"""Random rows of layers with random calls, and the same layers called by hand."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np

import bptt

__all__ = ["Row", "arrays_of", "by_hand", "random_row"]

CELLS = (bptt.RNN, bptt.LSTM, bptt.GRU, bptt.MGU, bptt.SLSTM, bptt.LSTM1997)
V = 7


@dataclass(frozen=True)
class Row:
    """Layers, which a model is made of, and a call of it."""

    layers: tuple[Any, ...]
    x: Any
    state: Any
    lengths: Any
    resets: Any
    batch_first: bool
    dtype: str
    rng: Any

    @property
    def call(self) -> tuple[Any, ...]:
        return self.x, self.state, self.lengths, self.resets


def arrays_of(value: Any, name: str = "") -> dict[str, Any]:
    """Every array inside lists, tuples and dicts, by its place."""
    if isinstance(value, dict):
        return {k: a for key, v in value.items() for k, a in arrays_of(v, f"{name}.{key}").items()}
    if isinstance(value, (list, tuple)):
        return arrays_of(dict(enumerate(value)), name)
    return {} if value is None else {name: np.asarray(value)}


# --- a random row ---------------------------------------------------------------------------------


def random_row(seed: int, dtype: str | None = None, *, smooth: bool = False) -> Row:
    """A row for a seed; `smooth` leaves out what has no derivative everywhere, and LSTM1997."""
    rng = np.random.default_rng(seed)
    dtype = dtype or str(rng.choice(["float32", "float64"]))
    batch_first, T, B = bool(rng.random() < 0.4), int(rng.integers(0, 9)), int(rng.integers(1, 5))
    if smooth:
        T = max(T, 1)
    layers, size, has_cell = list[Any](), int(rng.integers(1, 6)), False
    takes_ids, width = bool(rng.random() < 0.4), size
    if takes_ids:
        layers.append(bptt.Embedding(V, size, dtype=dtype, seed=rng))
    dilated = bool(rng.random() < 0.15)
    for _ in range(rng.integers(1 - takes_ids, 6)):
        kind = rng.choice(["cell", "cell", "linear", "norm", "dropout"])
        if kind == "cell":
            layers.append(random_cell(rng, size, batch_first, dtype, dilated, smooth))
            of = layers[-1].structure
            size, has_cell = of.directions * of.width, True
        else:
            layers.append(simple(rng, str(kind), size, dtype, smooth))
            size = getattr(layers[-1], "out_features", size)
    pool = rng.choice(["none", "last", "mean", "attention"])
    if pool != "none":
        own = bptt.Attention(size, dtype=dtype, seed=rng) if pool == "attention" else None
        layers.append(own or (bptt.Last() if pool == "last" else bptt.MeanPool()))
    for _ in range(rng.integers(0, 3)):
        layers.append(
            simple(rng, str(rng.choice(["linear", "norm", "dropout"])), size, dtype, smooth)
        )
        size = getattr(layers[-1], "out_features", size)
    if not layers:
        layers.append(simple(rng, "linear", size, dtype, smooth))
    for layer in layers:
        for name, array in layer.parameters.items():
            array += (0.2 * rng.standard_normal(array.shape)).astype(array.dtype)
            if rng.random() < 0.1:
                layer.frozen = {*layer.frozen, name}
    batch_first = batch_first and has_cell
    shape = (B, T) if batch_first else (T, B)
    x = (
        rng.integers(0, V, shape)
        if takes_ids
        else rng.standard_normal((*shape, width)).astype(dtype)
    )
    form = rng.random()
    if form < 0.1:
        x = np.asfortranarray(x)
    elif form < 0.2 and not takes_ids and not smooth:
        x = x.astype("float64" if dtype == "float32" else "float32")
    elif form < 0.3:
        x = np.repeat(x, 2, axis=0)[::2]
    lengths = rng.integers(0, T + 1, B) if rng.random() < 0.5 else None
    resets = rng.random(shape) < 0.3 if not dilated and rng.random() < 0.4 else None
    state = None
    if rng.random() < 0.4:
        final = bptt.Sequential(*copy.deepcopy(layers)).forward(x, None, lengths)[1].state
        state = [None if rng.random() < 0.3 else random_like(rng, one) for one in final]
    return Row(tuple(layers), x, state, lengths, resets, batch_first, dtype, rng)


def random_like(rng: Any, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(random_like(rng, one) for one in value)
    return (0.5 * rng.random(value.shape)).astype(value.dtype)


def simple(rng: Any, kind: str, size: int, dtype: str, smooth: bool) -> Any:
    if kind == "linear":
        names = ["identity", "tanh", "sigmoid", "softmax", *([] if smooth else ["relu", "elu"])]
        return bptt.Linear(
            size, int(rng.integers(1, 6)), bool(rng.random() < 0.7), dtype=dtype, seed=rng,
            activation=str(rng.choice(names)),
        )  # fmt: skip
    if kind == "norm":
        return bptt.LayerNorm(size, 0.1 if smooth else 1e-3, dtype=dtype)
    return bptt.Dropout(float(rng.choice([0, 0.3, 1])), seed=int(rng.integers(99)))


def random_cell(
    rng: Any, size: int, batch_first: bool, dtype: str, dilated: bool, smooth: bool
) -> Any:
    """A recurrent layer with some of its options."""
    kind = CELLS[rng.integers(len(CELLS) - smooth)]
    count = int(rng.integers(1, 3))
    options: dict[str, Any] = {"num_layers": count, "bias": bool(rng.random() < 0.8)}
    hidden = int(rng.integers(1, 6))

    def some(share: float) -> bool:
        return bool(rng.random() < share)

    if some(0.4):
        options["bidirectional"] = True
    elif some(0.3):
        options["reverse"] = True
    for name in ("residual", "learn_state"):
        if some(0.25):
            options[name] = True
    if some(0.2):
        options["zoneout"] = 0.3
    if some(0.2):
        options["recurrent_dropout"] = 0.3
    if some(0.3) and count > 1:
        options |= {"dropout": 0.4, "variational_dropout": some(0.5)}
    if dilated and some(0.7):
        options["dilation"] = 2
    if some(0.1):
        options["skip"] = 2
    if kind in (bptt.RNN, bptt.LSTM, bptt.GRU, bptt.MGU) and some(0.2):
        options["layer_norm"] = True
    if kind is bptt.RNN and some(0.3):
        options |= {"activation": "sigmoid" if smooth else "relu", "leak": 0.5}
    if kind is bptt.LSTM:
        if some(0.2) and not options.get("layer_norm"):
            options["peepholes"] = True
        if some(0.2) and hidden > 1:
            options["proj_size"] = hidden - 1
        if some(0.2):
            options |= {"output_activation": "sigmoid", "gate_activation": "tanh"}
        if some(0.1) and not smooth:
            options["cell_clip"] = 0.3
        options["forget_gate"] = str(rng.choice(["own", "own", "coupled", "none"]))
    if kind is bptt.GRU and some(0.3) and not options.get("layer_norm"):
        options["reset_after"] = False
    if kind is bptt.SLSTM and some(0.3):
        hidden, options["heads"] = 4, 2
    if kind in (bptt.RNN, bptt.LSTM, bptt.GRU) and some(0.1) and not smooth:
        options["preact_clip"] = 0.5
    known = inspect.signature(kind).parameters
    options = {name: value for name, value in options.items() if name in known}
    return kind(
        size, hidden, batch_first=batch_first, dtype=dtype, seed=int(rng.integers(99)), **options
    )


# --- by hand --------------------------------------------------------------------------------------


def by_hand(row: Row, layers: Any) -> tuple[Any, list[Any], list[Any], Any]:
    """Run `layers` one by one, as in training: y, final states, tapes, and a backward pass."""
    y, finals, tapes, states = row.x, list[Any](), list[Any](), iter(row.state or [])
    turned = both = reverse = False
    for layer in layers:
        if isinstance(layer, CELLS):
            y, final, tape = layer.forward(y, next(states, None), row.lengths, row.resets)
            finals.append(final)
            turned, both, reverse = layer.batch_first, layer.bidirectional, layer.reverse
        elif isinstance(layer, bptt.Last):
            y, tape = layer.forward(
                y, row.lengths, batch_first=turned, bidirectional=both, reverse=reverse
            )
        elif isinstance(layer, bptt.MeanPool):
            y, tape = layer.forward(y, row.lengths, batch_first=turned)
        elif isinstance(layer, bptt.Attention):
            y, _, tape = layer.forward(y.swapaxes(0, 1) if turned else y, lengths=row.lengths)
        else:
            y, tape = layer.forward(y)
            both, reverse = both and not isinstance(layer, bptt.Linear), (
                reverse and not isinstance(layer, bptt.Linear))  # fmt: skip
        tapes.append(tape)

    def backward(dy: Any, dstates: Any = None, **how: Any) -> tuple[Any, ...]:
        """Gradients by name, of the states and of x, and a trace of each cell."""
        params, found, left = dict[str, Any](), list[Any](), list(dstates or [None] * len(finals))
        traces = list[Any]()
        d = dy
        for k in range(len(layers) - 1, -1, -1):
            layer = layers[k]
            if isinstance(layer, CELLS):
                g = layer.backward(tapes[k], d, left.pop(), **how)
                found.insert(0, g.state)
                traces = [*(g.trace.cells if g.trace else ()), *traces]
            else:
                g = layer.backward(tapes[k], d)
            d = g.x
            if isinstance(layer, bptt.Attention) and turned:
                d = d.swapaxes(0, 1)
            params |= {f"{k}.{name}": array for name, array in g.params.items()}
        return params, found, d, traces

    return y, finals, tapes, backward
