# SPDX-License-Identifier: MIT
"""Layers of Keras 2 and 3, from their configuration and arrays, as layers of bptt.

Kernels are (I, G*H), the transpose of ours. The gates are i f c o and z r h. There is one bias,
but two, (2, 3*H), in a GRU that resets after the product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .._cells import CELLS
from .._types import Activation, Array
from .._validate import check_shape
from .._words import brief, listed, shown
from ..layers.activations import ACTIVATIONS as OF_LINEAR
from ..layers.base import Layer
from ..layers.embedding import Embedding
from ..layers.linear import Linear
from .conventions import Convention, Weights, check_options, filled
from .entries import Entry, Where, unsupported

__all__ = ["ACTIVATIONS", "GATES", "entry_of", "guessed_entry", "settings"]

RECURRENT = {
    "SimpleRNN": "rnn", "LSTM": "lstm", "GRU": "gru", "CuDNNLSTM": "lstm", "CuDNNGRU": "gru",
    "SimpleRNNCell": "rnn", "LSTMCell": "lstm", "GRUCell": "gru",
}  # fmt: skip
GATES = {"rnn": ("h",), "lstm": ("i", "f", "g", "o"), "gru": ("z", "r", "n")}
# By Keras' name: the activation of a recurrent layer here.
ACTIVATIONS: dict[str, Activation] = {
    "linear": "identity",
    "leaky_relu": ("leaky_relu", 0.2),
    **{
        name: name
        for name in ("tanh", "relu", "sigmoid", "hard_sigmoid", "elu", "softsign", "softplus")
    },
}
IN_KERAS_2: dict[str, Activation] = {**ACTIVATIONS, "hard_sigmoid": ("hard_sigmoid", 0.2, 0.5)}
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
    """The entry of one layer; `old`: perhaps of Keras 1 or 2; `others` as in `unsupported`."""
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
    if old and given.get("gate_activation") == "hard_sigmoid":
        raise ValueError(
            f"{place}: gate_activation is 'hard_sigmoid', expected ('hard_sigmoid', 0.2), which is "
            "Keras 2's, or ('hard_sigmoid', 1/6), Keras 3's"
        )
    own = _options(place, kind, config, first_bias, cudnn, old) | given
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
    convention = Convention(GATES[kind], tuple(CELLS[kind].gates), transposed=True)
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
    old: bool,
) -> dict[str, Any]:
    """The options of the layer that the configuration states."""
    own: dict[str, Any] = {"batch_first": not config.get("time_major", False)}
    activation = _activation(place, "activation", config.get("activation", "tanh"), old)
    own["activation"] = activation
    if kind == "lstm":
        own["output_activation"] = activation
    if kind != "rnn":
        name = "recurrent_activation"
        own["gate_activation"] = _activation(place, name, config.get(name, "sigmoid"), old)
    if kind == "gru":
        after = cudnn or (bool(bias) and bias[0].ndim == 2)
        stated = bool(config.get("reset_after", after)) or cudnn
        if bias and stated != after:
            raise ValueError(
                f"{place} has reset_after={stated} and a bias of shape {bias[0].shape}, expected "
                "(2, 3*H) where it is True, and (3*H,) where it is False"
            )
        own["reset_after"] = stated
    return own


def _activation(place: str, label: str, value: Any, old: bool) -> Activation:
    """The activation of a recurrent layer, by its name in Keras."""
    name, known = _name(value), IN_KERAS_2 if old else ACTIVATIONS
    if name not in known:
        raise ValueError(f"{place} has {label}={shown(name)}, expected one of {listed(known, 16)}")
    return known[name]


def _name(value: Any) -> Any:
    """The name of an activation; a configuration may have it in an object."""
    if isinstance(value, Mapping) and value.get("class_name") == "function":
        value = value.get("config")
    return value if isinstance(value, str) else shown(value)


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
    activation = _name(config.get("activation", "linear"))
    if activation not in ("linear", *OF_LINEAR):
        raise ValueError(
            f"{place} has activation={shown(activation)}, expected one of "
            f"{listed(['linear', *OF_LINEAR])}"
        )
    options |= {"activation": "identity" if activation == "linear" else activation, **given}
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
    entry = entry_of(where, name, title, config, arrays, old is not False, others)
    inner = settings(config, "layer").get("class_name", title)
    if inner not in RECURRENT or RECURRENT[inner] == "rnn" or inner.startswith("CuDNN"):
        return entry  # cuDNN has sigmoids alone

    def make(options: dict[str, Any]) -> Layer:
        if old and options.get("gate_activation") is None:
            raise ValueError(
                f"{where.caller}: {brief(name)} is of Keras 2, in a file without the "
                "configuration, expected gate_activation='sigmoid' or ('hard_sigmoid', 0.2): both "
                "fit"
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
