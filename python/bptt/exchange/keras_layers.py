# SPDX-License-Identifier: MIT
"""Layers of Keras 2 and 3, from their configuration and arrays, as layers of bptt.

Kernels are (I, G*H), the transpose of ours. The gates are i f c o and z r h. There is one bias,
but two, (2, 3*H), in a GRU that resets after the product. Keras 2's hard sigmoid has slope 0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .._cells import CELLS
from .._types import Array
from .._validate import check_shape
from .._words import brief, listed, shown
from ..layers.activations import ACTIVATIONS
from ..layers.base import Layer
from ..layers.embedding import Embedding
from ..layers.linear import Linear
from .conventions import (
    LIKE_OURS,
    Convention,
    Weights,
    check_options,
    filled,
    scaled_gates,
)
from .entries import Entry, Where, unsupported

__all__ = ["GATES", "OLD_HARD_SIGMOID", "RECURRENT", "entry_of", "guessed_entry", "settings"]

RECURRENT = {
    "SimpleRNN": "rnn", "LSTM": "lstm", "GRU": "gru", "CuDNNLSTM": "lstm", "CuDNNGRU": "gru",
    "SimpleRNNCell": "rnn", "LSTMCell": "lstm", "GRUCell": "gru",
}  # fmt: skip
GATES = {"rnn": ("h",), "lstm": ("i", "f", "g", "o"), "gru": ("z", "r", "n")}
OLD_HARD_SIGMOID = (0.2, 0.5)  # slope and offset in Keras 1 and 2
OTHERS: dict[str, type[Any]] = {"Dense": Linear, "Embedding": Embedding}
LOADABLE = {*RECURRENT, *OTHERS, "Bidirectional", "TimeDistributed", "RNN"}


def entry_of(
    where: Where,
    name: str,
    title: str,
    config: Mapping[str, Any],
    arrays: Sequence[Array],
    old: bool,
    others: Callable[[], Iterable[str]],
) -> Entry:
    """The entry of one layer; `old`: of Keras 1 or 2; `others` as in `unsupported`."""
    if title not in LOADABLE:
        return unsupported(where, name, title, others)
    inner = settings(config, "layer") if title in ("TimeDistributed", "Bidirectional") else config
    place = f"{where.caller}: {brief(name)} ({title})"
    if title == "TimeDistributed":
        kind = str(inner.get("class_name"))
        if kind not in OTHERS:
            return unsupported(where, name, f"TimeDistributed({kind})", others)
        return entry_of(where, name, kind, settings(inner, "config"), arrays, old, others)
    if title in OTHERS:
        return Entry(title, partial(_dense, place, OTHERS[title], config, arrays), False)
    return Entry(title, partial(_recurrent, place, title, config, arrays, old))


def settings(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under a key; empty if there is none, so that what needs it is refused."""
    value = config.get(key)
    return value if isinstance(value, Mapping) else {}


def loadable(entries: Mapping[str, Entry]) -> list[str]:
    return [name for name, entry in entries.items() if entry.title in LOADABLE]


# --- recurrent layers -----------------------------------------------------------------------------


def _recurrent(
    place: str,
    title: str,
    config: Mapping[str, Any],
    arrays: Sequence[Array],
    old: bool,
    given: dict[str, Any],
) -> Layer:
    directions = 1
    if title == "Bidirectional":
        directions, mode = 2, config.get("merge_mode", "concat")
        if mode != "concat":
            raise ValueError(f"{place} has merge_mode={shown(mode)}, expected 'concat'")
        forward, backward = settings(config, "layer"), settings(config, "backward_layer")
        title, config = str(forward.get("class_name")), settings(forward, "config")
        _check_alike(place, forward, backward)
    if config.get("go_backwards"):
        raise ValueError(
            f"{place} has go_backwards=True, expected False: bptt keeps the order of y"
        )
    if title == "RNN":
        cell = settings(config, "cell")
        title, config = str(cell.get("class_name")), settings(cell, "config")
    if title not in RECURRENT:
        raise ValueError(f"{place} has {brief(title)} inside, expected one of {listed(RECURRENT)}")
    kind, cudnn = RECURRENT[title], title.startswith("CuDNN")
    first_bias = arrays[2 : len(arrays) // directions][:1]
    own = _options(place, kind, config, first_bias, cudnn, given)
    bias = cudnn or bool(config.get("use_bias", True))
    if len(arrays) != directions * (2 + bias):
        raise ValueError(
            f"{place} has {len(arrays)} arrays, expected {directions * (2 + bias)}: kernel, "
            f"recurrent kernel{' and bias' * bias}"
        )
    step = len(arrays) // directions
    sides = [
        _weights(place, kind, arrays[k : k + step], cudnn) for k in range(0, len(arrays), step)
    ]
    hard = own.get("gate_activation") == "hard_sigmoid"
    convention = Convention(
        gates=GATES[kind],
        wanted=tuple(CELLS[kind].gates),
        transposed=True,
        hard_sigmoid=OLD_HARD_SIGMOID if hard and old else LIKE_OURS,
        scaled=scaled_gates(kind, GATES[kind]) if hard else (),
    )
    return filled(place, kind, sides, convention, own)


def _check_alike(place: str, forward: Mapping[str, Any], backward: Mapping[str, Any]) -> None:
    """Raise if the backward layer is stated and of another kind."""
    for key in ("class_name", *SAME):
        ours, theirs = (
            of.get(key) if key == "class_name" else settings(of, "config").get(key)
            for of in (forward, backward)
        )
        if backward and ours != theirs:
            raise ValueError(
                f"{place} has a backward layer with {key}={shown(theirs)}, expected {shown(ours)}"
            )


SAME = ("units", "activation", "recurrent_activation", "use_bias", "reset_after")


def _options(
    place: str,
    kind: str,
    config: Mapping[str, Any],
    bias: Sequence[Array],
    cudnn: bool,
    given: dict[str, Any],
) -> dict[str, Any]:
    """The options of the layer: those of the configuration, replaced by those that are given."""
    own: dict[str, Any] = {"batch_first": not config.get("time_major", False)}
    activation = _name(place, "activation", config.get("activation", "tanh"))
    own["activation"] = activation
    if kind == "lstm":
        own["output_activation"] = activation
    if kind != "rnn":
        name = "recurrent_activation"
        own["gate_activation"] = _name(place, name, config.get(name, "sigmoid"))
    if kind == "gru":
        after = cudnn or (bool(bias) and bias[0].ndim == 2)
        stated = bool(config.get("reset_after", after)) or cudnn
        if bias and stated != after:
            raise ValueError(
                f"{place} has reset_after={stated} and a bias of shape {bias[0].shape}, expected "
                "(2, 3*H) where it is True, and (3*H,) where it is False"
            )
        own["reset_after"] = stated
    own |= given
    for name in ("activation", "output_activation", "gate_activation"):
        option = CELLS[kind].options.get(name)
        if option and name in own:
            option.check(place, name, own[name])
    return own


def _name(place: str, label: str, value: Any) -> str:
    """The name of an activation in bptt; a configuration may have it in an object."""
    if isinstance(value, Mapping):
        value = value.get("config") if value.get("class_name") == "function" else value
    if not isinstance(value, str):
        raise ValueError(f"{place} has {label}={shown(value)}, expected the name of an activation")
    if value == "leaky_relu":  # its slope is 0.2 in Keras, 0.01 in bptt
        raise ValueError(f"{place} has {label}='leaky_relu', expected one that bptt has")
    return "identity" if value == "linear" else value


def _weights(place: str, kind: str, arrays: Sequence[Array], cudnn: bool) -> Weights:
    kernel, recurrent, *rest = arrays
    for name, array in (("kernel", kernel), ("recurrent kernel", recurrent)):
        if array.ndim != 2:
            raise ValueError(f"{place}: {name} has shape {array.shape}, expected a matrix")
    bias = rest[0] if rest else None
    G = len(GATES[kind])
    if cudnn and bias is not None:
        kernel, recurrent = _of_cudnn(place, kernel, G), _of_cudnn(place, recurrent, G)
        check_shape(place, "bias", bias, f"(2*{G}*H,)", (2 * kernel.shape[1],))
        bias = np.asarray(bias).reshape(2, -1)
    if bias is not None and bias.ndim == 2:
        check_shape(place, "bias", bias, f"(2, {G}*H)", (2, kernel.shape[1]))
        return Weights(kernel, recurrent, bias[0], bias[1])
    return Weights(kernel, recurrent, bias)


def _of_cudnn(place: str, array: Array, gates: int) -> Array:
    """Rearrange the memory of cuDNN, one matrix (H, I) for each gate, to (I, G*H)."""
    inputs, columns = array.shape
    if columns % gates:
        raise ValueError(f"{place}: kernel has shape {array.shape}, expected (I, {gates}*H)")
    blocks = np.split(array, gates, axis=1)
    return np.hstack([block.reshape(columns // gates, inputs).T for block in blocks])


# --- other layers ---------------------------------------------------------------------------------


def _dense(
    place: str,
    kind: type[Any],
    config: Mapping[str, Any],
    arrays: Sequence[Array],
    given: dict[str, Any],
) -> Layer:
    biased = kind is Linear and bool(config.get("use_bias", True))
    if len(arrays) != 1 + biased or arrays[0].ndim != 2:
        raise ValueError(
            f"{place} has arrays of shapes {[a.shape for a in arrays]}, expected a matrix"
            f"{' and a bias' * biased}"
        )
    weight, *bias = arrays
    check_options(place, kind, given)
    double = all(a.dtype == np.float64 for a in arrays)
    options: dict[str, Any] = {"dtype": "float64" if double else "float32"}
    layer: Layer
    if kind is Embedding:
        layer = Embedding(*weight.shape, **{**options, **given})
        layer.load({"weight": weight})
        return layer
    activation = _name(place, "activation", config.get("activation", "linear"))
    if activation not in ("identity", *ACTIVATIONS):
        raise ValueError(
            f"{place} has activation={shown(activation)}, expected one of {listed(ACTIVATIONS)}"
        )
    options |= {"activation": activation, **given}
    if bias:
        check_shape(place, "bias", bias[0], "(outputs,)", weight.shape[1:])
    layer = Linear(weight.shape[0], weight.shape[1], bool(bias), **options)
    layer.load(dict(zip(("weight", "bias"), (weight.T, *bias))))
    return layer


# --- without a configuration ----------------------------------------------------------------------


def guessed_entry(
    where: Where,
    name: str,
    arrays: Sequence[Array],
    old: bool | None,
    others: Callable[[], Iterable[str]],
) -> Entry:
    """The entry of a layer whose kind only names and shapes show; `old`: None if unknown."""
    title, config = _guess(name, [a.shape for a in arrays])
    if title == "Dense or Embedding":

        def refuse(_: dict[str, Any]) -> Layer:
            raise ValueError(
                f"{where.caller}: {brief(name)} has one matrix, which a Dense without a bias or an "
                "Embedding may have, expected a file with the configuration of the model, or name= "
                f"with one of {listed(others())}"
            )

        return Entry(title, refuse, False)
    entry = entry_of(where, name, title, config, arrays, bool(old), others)
    inner = settings(config, "layer").get("class_name", title)
    if inner not in RECURRENT or RECURRENT[inner] == "rnn" or inner.startswith("CuDNN"):
        return entry  # cuDNN has sigmoids alone

    def make(options: dict[str, Any]) -> Layer:
        activation = options.get("gate_activation")
        if old and activation is None:
            raise ValueError(
                f"{where.caller}: {brief(name)} is of Keras 2, in a file without the "
                "configuration, expected gate_activation='sigmoid' or 'hard_sigmoid': both fit"
            )
        if old is None and activation == "hard_sigmoid":
            raise ValueError(
                f"{where.caller}: gate_activation is 'hard_sigmoid', whose slope is 0.2 in "
                "Keras 2 and 1/6 in Keras 3, expected a file with the configuration of the model"
            )
        return entry.make(options)

    return Entry(entry.title, make)


def _guess(name: str, shapes: list[tuple[int, ...]]) -> tuple[str, dict[str, Any]]:
    """The class and the configuration that fit."""
    matrices = [shape for shape in shapes if len(shape) == 2]
    if len(shapes) == 1 and matrices:
        words = [word for word in ("embedding", "dense") if word in name.lower()]
        if len(words) == 1:
            return words[0].capitalize(), {"use_bias": False}
        return "Dense or Embedding", {}
    if [len(shape) for shape in shapes] == [2, 1]:
        return "Dense", {}
    half = len(shapes) // 2
    if len(shapes) in (4, 6) and shapes[:half] == shapes[half:]:
        title, config = _guess(name, shapes[:half])
        layer = {"class_name": title, "config": config}
        return ("Bidirectional" if title in RECURRENT else "layer"), {"layer": layer}
    if len(shapes) not in (2, 3) or len(matrices) < 2 or shapes[1][0] < 1:
        return "layer", {}
    gates, rest = divmod(shapes[1][1], shapes[1][0])
    kinds = {1: "SimpleRNN", 3: "GRU", 4: "LSTM"}
    if rest or gates not in kinds:
        return "layer", {}
    cudnn = shapes[2:] == [(2 * shapes[1][1],)]
    return "CuDNN" * cudnn + kinds[gates], {"use_bias": len(shapes) == 3}
