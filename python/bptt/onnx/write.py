# SPDX-License-Identifier: MIT
"""Writes layers as a model of ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _core
from .._files.access import Own, Path, write_file
from .._types import Array
from .._validate import as_flag
from .._words import listed
from ..layers.base import Layer
from ..layers.cells import GRU, LSTM, RNN
from ..layers.embedding import Embedding
from ..layers.expressible import check_expressible
from ..layers.linear import Linear
from ..layers.recurrent import Recurrent
from .activations import DEFAULTS, LABELS, OPTIONS, check_stored, onnx_activation
from .attributes import Attributes
from .layer import weights_of
from .library import library
from .model import Model
from .trained import trained
from .weights import onnx_arrays

__all__ = ["export"]

OPSET, IR = 22, 10
MADE = b"\x12\x04bptt"  # the field of the producer, after two bytes for the IR version
MODEL = Own("an ONNX model made by bptt", lambda ends: ends[:1] == b"\x08" and ends[2:8] == MADE)
MOST_BYTES = (1 << 31) - 1  # of a protobuf message
# The options that the operators express.
WRITTEN = {
    "num_layers", "bias", "bidirectional", "reverse", "dtype", "activation", "gate_activation",
    "output_activation", "preact_clip", "reset_after", "peepholes", "forget_gate", "learn_state",
}  # fmt: skip
LINEAR = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid", "elu": "Elu", "softmax": "Softmax"}
STATES = ("h", "c")


def export(
    layers: Layer | Sequence[Layer] | Model,
    path: Path | None = None,
    *,
    lengths: bool = False,
    state: bool = False,
) -> Any:
    """Write a recurrent layer, a chain of layers or a trained model as a model of ONNX.

    The model computes the same as calls of the layers, for any number of steps and sequences.
    `bptt.onnx.load` runs it in any case, onnxruntime if the layers are in float32, because its
    recurrent operators have no other type.

    Parameters
    ----------
    layers : Recurrent, sequence of Recurrent, Linear and Embedding, or Model
        `RNN`, `GRU` and `LSTM`, also bidirectional or reverse, of several layers, and with the
        options `activation`, `gate_activation`, `output_activation`, `preact_clip`, `peepholes`,
        `reset_after`, `learn_state` and a coupled forget gate. In a sequence each layer reads the
        output of the layer before it, and at least one layer is recurrent. A `Model` is written as
        it was loaded, but with the weights that its layers have now.
    path : str or path-like, optional
        The file: a new one, or an earlier one made by this function. It is written whole or not at
        all. If omitted, nothing is written.
    lengths : bool, optional
        True: the model has an input ``lengths``, int32 of shape (B,), as the layers' calls have.
    state : bool, optional
        True: the model has inputs for the initial state, ``h0`` and, for an LSTM, ``c0``, in the
        shapes of the layer's call; otherwise the state is the learnt one, or 0, at first.

    Returns
    -------
    onnx.ModelProto
        For layers, of opset 22 and IR version 10. Inputs: ``x``, then ``lengths``, ``h0`` and
        ``c0`` if asked for; outputs: ``y``, ``h`` and, for an LSTM, ``c``. With several recurrent
        layers, the name of a state begins with the name of its layer, such as ``gru1_h``.

    Raises
    ------
    ValueError
        If ONNX has no such layer or option, such as dilation, zoneout or layer normalisation; if no
        layer is recurrent; or if `path` is a file that bptt did not make. Nothing is written.
    TypeError
        If `layers` holds something else.
    ImportError
        If the package onnx is not installed.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import numpy as np
    >>> import bptt.onnx
    >>> lstm, head = bptt.LSTM(3, 4, seed=0), bptt.Linear(4, 2, seed=1)
    >>> model = bptt.onnx.load(bptt.onnx.export([lstm, head], lengths=True))
    >>> outputs = model(np.ones((5, 2, 3)), [5, 3])
    >>> {name: array.shape for name, array in outputs.items()}
    {'y': (5, 2, 2), 'h': (1, 2, 4), 'c': (1, 2, 4)}
    """
    caller = "export"
    if isinstance(layers, Model):
        return _trained(caller, layers, path, lengths or state)
    chain = [layers] if isinstance(layers, Layer) else _listed(caller, layers)
    graph = _Graph(
        caller, as_flag(caller, "lengths", lengths), as_flag(caller, "state", state), chain
    )
    names = _names(chain)
    for k, layer in enumerate(chain):
        place = f"{caller}: layers" + ("" if isinstance(layers, Layer) else f"[{k}]")
        graph.append(place, names[k], layer)
    return _written(caller, graph.model(), path)


def _trained(caller: str, source: Model, path: Path | None, more: bool) -> Any:
    if more:
        raise TypeError(
            f"{caller}: lengths or state is given with a Model, expected neither: it has its inputs"
        )
    model = trained(caller, source)
    model.producer_name, model.producer_version = "bptt", _core.__version__
    return _written(caller, model, path)


def _written(caller: str, model: Any, path: Path | None) -> Any:
    """The model, after it has been written to the path, if there is one."""
    if model.ByteSize() > MOST_BYTES:
        raise ValueError(
            f"{caller}: the model has {model.ByteSize():,} bytes, expected at most "
            f"{MOST_BYTES:,}, which a file of ONNX can hold"
        )
    if path is not None:
        write_file(caller, path, model.SerializeToString(), MODEL)
    return model


def _listed(caller: str, layers: Any) -> list[Layer]:
    if not isinstance(layers, Sequence) or isinstance(layers, str) or not layers:
        has = "empty" if isinstance(layers, Sequence) and not layers else type(layers).__name__
        raise TypeError(f"{caller}: layers is {has}, expected a layer or a list of layers")
    return list(layers)


def _names(chain: Sequence[Any]) -> list[str]:
    """A name for each layer, with a number where two are of one class."""
    kinds = [type(layer).__name__.lower() for layer in chain]
    numbered = [f"{kind}{kinds[: k + 1].count(kind)}" for k, kind in enumerate(kinds)]
    return [kind if kinds.count(kind) == 1 else name for kind, name in zip(kinds, numbered)]


class _Graph:
    """The parts of a graph, which grows layer by layer."""

    def __init__(self, caller: str, lengths: bool, state: bool, chain: Sequence[Any]) -> None:
        self.helper = library(caller, "onnx.helper")
        self.of_array = library(caller, "onnx.numpy_helper").from_array
        self.caller, self.lengths, self.state = caller, lengths, state
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs: list[Any] = []
        self.states: list[Any] = []
        recurrent = [layer for layer in chain if isinstance(layer, Recurrent)]
        if not recurrent:
            raise ValueError(f"{caller}: layers has no recurrent layer, expected one or more")
        if len({(layer.batch_first, layer.dtype) for layer in recurrent}) > 1:
            raise ValueError(
                f"{caller}: layers differ in batch_first or dtype, expected the same for all"
            )
        first = recurrent[0]
        self.single = len(recurrent) == 1
        self.dtype, self.batch_first = first.dtype, first.batch_first
        self.axes = ["batch", "time"] if self.batch_first else ["time", "batch"]
        self.value = "x"  # the output of the layer before
        self.width: int | None = None

    def append(self, place: str, name: str, layer: Any) -> None:
        if isinstance(layer, (RNN, GRU, LSTM)):
            sizes = (layer.input_size, layer.structure.directions * layer.structure.width)
        elif isinstance(layer, Linear):
            sizes = (layer.in_features, layer.out_features)
        elif isinstance(layer, Embedding) and self.value == "x":
            sizes = (0, layer.embedding_dim)
        elif isinstance(layer, Embedding):
            raise ValueError(f"{place} is an Embedding, expected it as the first layer")
        elif isinstance(layer, Layer):
            raise ValueError(
                f"{place} is {type(layer).__name__}, expected RNN, GRU, LSTM, Linear or Embedding: "
                "ONNX has no operator for it"
            )
        else:
            raise TypeError(f"{place} is {type(layer).__name__}, expected a layer")
        if layer.dtype != self.dtype:
            raise ValueError(f"{place} is of {layer.dtype}, expected {self.dtype} as the others")
        if self.width is not None and sizes[0] != self.width:
            raise ValueError(
                f"{place} has {sizes[0]} inputs, expected {self.width}, the outputs before it"
            )
        if self.width is None:
            self._input(sizes[0])
        self.width = sizes[1]
        if isinstance(layer, Recurrent):
            self._recurrent(place, name, layer)
        elif isinstance(layer, Linear):
            self._linear(name, layer)
        else:
            weight = self._weight(f"{name}_weight", layer.parameters["weight"])
            self.value = self._node("Gather", [weight, self.value], f"{name}_y")

    def model(self) -> Any:
        if self.value != "y":
            self._node("Identity", [self.value], "y")
        y = self._info("y", self.dtype, [*self.axes, self.width])
        graph = self.helper.make_graph(
            self.nodes, "bptt", self.inputs, [y, *self.states], self.weights
        )
        return self.helper.make_model(
            graph, producer_name="bptt", producer_version=_core.__version__, ir_version=IR,
            opset_imports=[self.helper.make_opsetid("", OPSET)],
        )  # fmt: skip

    # --- layers ---------------------------------------------------------------------------------

    def _linear(self, name: str, layer: Linear) -> None:
        weight = self._weight(f"{name}_weight", layer.parameters["weight"].T)
        self.value = self._node("MatMul", [self.value, weight], f"{name}_product")
        if layer.bias:
            bias = self._weight(f"{name}_bias", layer.parameters["bias"])
            self.value = self._node("Add", [self.value, bias], f"{name}_sum")
        if layer.activation != "identity":
            more = {"axis": -1} if layer.activation == "softmax" else {}
            self.value = self._node(LINEAR[layer.activation], [self.value], f"{name}_y", **more)

    def _recurrent(self, place: str, name: str, layer: Recurrent) -> None:
        attributes, given = _attributes(place, layer)
        s, letters = layer.structure, STATES[: layer.structure.states]
        before = self._initial(name, layer, letters)
        if self.batch_first:
            self.value = self._node("Transpose", [self.value], f"{name}_x", perm=[1, 0, 2])
        after: dict[str, list[str]] = {letter: [] for letter in letters}
        for k in range(s.num_layers):
            node = f"{name}_l{k}"
            arrays = onnx_arrays(attributes, weights_of(layer, k))
            weights = {n: self._weight(f"{node}_{n}", a) for n, a in arrays.items()}
            inputs = [
                self.value, weights["W"], weights["R"], weights.get("B", ""),
                "lengths" if self.lengths else "", *(before[letter][k] for letter in letters),
                weights.get("P", ""),
            ]  # fmt: skip
            while not inputs[-1]:
                del inputs[-1]
            finals = [f"{node}_{letter}" for letter in letters]
            self.nodes.append(
                self.helper.make_node(
                    attributes.op, inputs, [f"{node}_Y", *finals], name=node, **given
                )
            )
            for letter, final in zip(letters, finals):
                after[letter].append(self._kept(before[letter][k], final))
            self.value = self._joined(node, s.directions, s.width)
        if self.batch_first:
            self.value = self._node("Transpose", [self.value], f"{name}_y", perm=[1, 0, 2])
        for letter in letters:
            output = letter if self.single else f"{name}_{letter}"
            if s.num_layers == 1:
                self._node("Identity", after[letter], output)
            else:
                self._node("Concat", after[letter], output, axis=0)
            self.states.append(self._info(output, self.dtype, [s.cells, "batch", s.width]))

    def _initial(self, name: str, layer: Recurrent, letters: Sequence[str]) -> dict[str, list[str]]:
        """The names of the initial states of each layer; empty for 0."""
        s = layer.structure
        if not self.state and layer.learn_state:
            return {
                letter: [self._learnt(name, layer, k, q) for k in range(s.num_layers)]
                for q, letter in enumerate(letters)
            }
        if not self.state:
            return {letter: [""] * s.num_layers for letter in letters}
        found = {}
        for letter in letters:
            source = f"{letter}0" if self.single else f"{name}_{letter}0"
            self.inputs.append(self._info(source, self.dtype, [s.cells, "batch", s.width]))
            found[letter] = [source]
            if s.num_layers > 1:
                found[letter] = [f"{name}_l{k}_{letter}0" for k in range(s.num_layers)]
                sizes = np.full(s.num_layers, s.directions, np.int64)
                sizes_name = self._weight(f"{name}_{letter}0_sizes", sizes)
                self.nodes.append(
                    self.helper.make_node("Split", [source, sizes_name], found[letter], axis=0)
                )
        return found

    def _learnt(self, name: str, layer: Recurrent, k: int, q: int) -> str:
        """The learnt initial state number q of layer k, (D, B, H): the same for each sequence."""
        s = layer.structure
        if not any(node.output[0] == "repeats" for node in self.nodes):
            axis, one = self.axes.index("batch"), self._weight("one", np.array([1], np.int64))
            size = self._node("Shape", ["x"], "batch_size", start=axis, end=axis + 1)
            self._node("Concat", [one, size, one], "repeats", axis=0)
        cells = range(k * s.directions, (k + 1) * s.directions)
        rows = [layer.parameters[list(s.initial_shapes(cell))[q]] for cell in cells]
        source = self._weight(f"{name}_l{k}_{STATES[q]}0_learnt", np.stack(rows)[:, None])
        return self._node("Expand", [source, "repeats"], f"{name}_l{k}_{STATES[q]}0")

    def _kept(self, before: str, after: str) -> str:
        """The final state; where the length is 0, the initial one, for which ONNX has 0."""
        if not (self.lengths and before):
            return after
        if not any(node.output[0] == "is_empty" for node in self.nodes):
            zero = self._weight("zero", np.zeros((), np.int32))
            axes = self._weight("first_and_last", np.array([0, 2], np.int64))
            empty = self._node("Equal", ["lengths", zero], "is_empty_flat")
            self._node("Unsqueeze", [empty, axes], "is_empty")
        return self._node("Where", ["is_empty", before, after], f"{after}_kept")

    def _joined(self, node: str, directions: int, width: int) -> str:
        """Y (T, D, B, H) as (T, B, D*H)."""
        if directions == 1:
            axis = self._weight(f"{node}_axis", np.array([1], np.int64))
            return self._node("Squeeze", [f"{node}_Y", axis], f"{node}_y")
        moved = self._node("Transpose", [f"{node}_Y"], f"{node}_moved", perm=[0, 2, 1, 3])
        shape = self._weight(f"{node}_shape", np.array([0, 0, directions * width], np.int64))
        return self._node("Reshape", [moved, shape], f"{node}_y")

    # --- parts ----------------------------------------------------------------------------------

    def _input(self, features: int) -> None:
        """The inputs x and lengths; without features x holds the indices of an embedding."""
        dtype = self.dtype if features else np.dtype(np.int64)
        self.inputs.append(self._info("x", dtype, [*self.axes, *([features] if features else [])]))
        if self.lengths:
            self.inputs.append(self._info("lengths", np.dtype(np.int32), ["batch"]))

    def _node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self.helper.make_node(op, inputs, [output], **attributes))
        return output

    def _weight(self, name: str, array: Array) -> str:
        self.weights.append(self.of_array(np.ascontiguousarray(array), name))
        return name

    def _info(self, name: str, dtype: np.dtype[Any], shape: Sequence[Any]) -> Any:
        kind = self.helper.np_dtype_to_tensor_dtype(dtype)
        return self.helper.make_tensor_value_info(name, kind, shape)


def _attributes(place: str, layer: Recurrent) -> tuple[Attributes, dict[str, Any]]:
    """What the nodes of a layer are, and their attributes as ONNX writes them."""
    check_expressible(place, layer, WRITTEN, "ONNX")
    s, op = layer.structure, type(layer).__name__
    given: dict[str, Any] = {"hidden_size": s.hidden_size}
    if s.directions == 2 or s.reverse:
        given["direction"] = "reverse" if s.reverse else "bidirectional"
    chosen = [onnx_activation(place, getattr(layer, option), s.dtype) for option in OPTIONS[op]]
    if tuple(name for name, _ in chosen) != DEFAULTS[op]:
        given["activations"] = [name for name, _ in chosen] * s.directions
        for k, label in enumerate(LABELS):
            numbers = [own[k] for _, own in chosen if len(own) > k]
            if numbers:
                given[label] = numbers * s.directions
    clip = s.options.get("preact_clip")
    if clip is not None and np.isfinite(clip):
        check_stored(place, "preact_clip", clip, s.dtype)
        given["clip"] = float(clip)
    if s.options.get("forget_gate", "own") == "none":
        expected = listed(("own", "coupled"))
        raise ValueError(f"{place} has forget_gate='none', expected {expected}: ONNX has no other")
    if "forget_gate" in s.options:
        given["input_forget"] = 1
    if op == "GRU":
        given["linear_before_reset"] = int("reset_after" not in s.options)
    reverse = tuple(s.is_reverse(k) for k in range(s.directions))
    return Attributes(op, s.hidden_size, reverse, False, (s.options,) * s.directions), given
