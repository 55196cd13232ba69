# SPDX-License-Identifier: MIT
"""A graph of ONNX: its recurrent nodes run by bptt, the others by ONNX's reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._types import Array
from .._validate import as_array, to_numpy
from .._words import brief, listed, shown
from ..layers.recurrent import Recurrent
from .attributes import is_recurrent, label
from .constants import opset_of, scope_of
from .library import library
from .nodes import OtherNode
from .operator import Operator, operator_of

__all__ = ["Input", "Model", "unused"]

OUTPUTS = ("Y", "Y_h", "Y_c")


class Input(NamedTuple):
    """An input of a graph: its dtype, and the sizes of its axes.

    A size that the graph leaves open is a name, or None.
    """

    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None


class Model:
    """A graph of ONNX that runs: recurrent nodes by bptt, all others by `onnx.reference`.

    Made by `bptt.onnx.load`. A call returns a dict of all outputs::

        outputs = model(x)  # arrays in the order of model.inputs
        outputs = model({"x": x, "h0": h})

    Attributes
    ----------
    inputs : dict of str to Input
        The graph's inputs: dtype and shape. An array of another dtype is converted where no number
        changes its kind.
    outputs : tuple of str
        The names of the graph's outputs.
    layers : dict of str to Recurrent
        By the name of the node, the layer of each recurrent node whose weights are constant and
        which a layer can express. The model computes with the parameters of these layers: train
        them, and the model changes. `bptt.onnx.export` then writes the new weights.
    operators : dict of str to Operator
        Every recurrent node by name, with the inputs and outputs of ONNX and with gradients.
    others : frozenset of str
        The kinds of all other nodes, such as "MatMul".
    proto : onnx.ModelProto
        The graph as it was loaded.
    """

    inputs: dict[str, Input]
    outputs: tuple[str, ...]
    layers: dict[str, Recurrent]
    operators: dict[str, Operator]
    others: frozenset[str]
    proto: Any

    def __init__(self, model: Any, *, caller: str = "Model") -> None:
        self._caller, self.proto = caller, model
        graph, self.operators = model.graph, {}
        opset = opset_of(caller, model)
        self._constants = scope_of(caller, graph, opset).constants
        self.inputs = {
            i.name: _input(caller, i) for i in graph.input if i.name not in self._constants
        }
        self.outputs = tuple(o.name for o in graph.output)
        self._steps: list[OtherNode | str] = []  # the name of an operator in place of itself
        known = {*self._constants, *self.inputs}
        for k, node in enumerate(graph.node):
            if all(name in self._constants for name in node.output if name):
                continue
            for name in node.input:
                if name and name not in known:
                    raise ValueError(
                        f"{caller}: {label(node)} reads {shown(name)}, expected an input or the "
                        "output of a node before it"
                    )
            if is_recurrent(node):
                name = unused(node, k, self.operators)
                self.operators[name] = operator_of(caller, node, self._constants)
                self._steps.append(name)
            else:
                self._steps.append(OtherNode(caller, node, opset))
            known.update(node.output)
        for name in self.outputs:
            if name not in known:
                raise ValueError(f"{caller}: no node computes the output {shown(name)}")
        others = [step for step in self._steps if isinstance(step, OtherNode)]
        self.others = frozenset(step.op for step in others)
        free = [name for o in self.operators.values() for name in o.free.values()]
        used = {*free, *self.outputs, *(name for step in others for name in step.inputs)}
        self._constants = {n: a for n, a in self._constants.items() if n in used}
        found = ((name, operator.layer) for name, operator in self.operators.items())
        self.layers = {name: layer for name, layer in found if layer is not None}

    def __call__(self, *arrays: Any, **named: ArrayLike) -> dict[str, Array]:
        """Run the graph.

        Parameters
        ----------
        *arrays : array_like, or one dict of str to array_like
            The inputs, in the order of `inputs` or by name.
        **named : array_like
            More inputs by name.

        Returns
        -------
        dict of str to ndarray
            The outputs by name, in the order of `outputs`.

        Raises
        ------
        ValueError
            If an input is missing or has a shape that does not fit, or a node fails; the message
            names the node.
        TypeError
            If an input has another name or a dtype that cannot be converted.
        """
        given = self._given(arrays, named)
        values = {**self._constants, **given}
        for step in self._steps:
            values |= step(values) if isinstance(step, OtherNode) else self._recur(step, values)
        return {name: np.asarray(values[name]) for name in self.outputs}

    def _recur(self, name: str, values: Mapping[str, Any]) -> dict[str, Array]:
        """The outputs of a recurrent node by name."""
        operator = self.operators[name]
        results = operator(**{role: values[name] for role, name in operator.free.items()})
        return {n: results[OUTPUTS.index(role)] for role, n in operator.outputs.items()}

    def _given(self, arrays: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Array]:
        """The inputs by name, checked and converted."""
        first = arrays[0] if len(arrays) == 1 else None
        if isinstance(first, Mapping):
            arrays, named = (), {**first, **named}
        if len(arrays) > len(self.inputs):
            raise TypeError(
                f"{self._caller}: {len(arrays)} arrays are given, expected {len(self.inputs)}: "
                f"{listed(self.inputs)}"
            )
        given = dict(zip(self.inputs, arrays))
        for name in named:
            if name not in self.inputs or name in given:
                raise TypeError(
                    f"{self._caller}: the input {shown(name)} is given, expected "
                    f"{listed(self.inputs)}, each once"
                )
        given |= named
        missing = [name for name in self.inputs if name not in given]
        if missing:
            raise ValueError(f"{self._caller}: the inputs {listed(missing)} are missing")
        return {name: self._array(name, value) for name, value in given.items()}

    def _array(self, name: str, value: Any) -> Array:
        dtype, shape = self.inputs[name]
        label = f"input {brief(name)}"
        array = as_array(self._caller, label, to_numpy(value))
        if array.dtype != dtype:
            real = np.issubdtype(dtype, np.floating) or dtype.kind == "V"  # V: bfloat16
            if not (array.dtype.kind in "iub" and (real or dtype.kind in "iu")) and not (
                array.dtype.kind == "f" and real
            ):
                raise TypeError(
                    f"{self._caller}: {label} has dtype {array.dtype}, expected {dtype}"
                )
            array = array.astype(dtype)
        fits = shape is None or (
            array.ndim == len(shape)
            and all(not isinstance(n, int) or n == size for n, size in zip(shape, array.shape))
        )
        if not fits:
            raise ValueError(
                f"{self._caller}: {label} has shape {array.shape}, expected {_written(shape)}"
            )
        return array

    def __repr__(self) -> str:
        ins = ", ".join(f"{brief(n)} {i.dtype}{_written(i.shape)}" for n, i in self.inputs.items())
        rows = [
            f"  {brief(name, 60)}: {repr(operator.layer or operator).splitlines()[0]}"
            for name, operator in self.operators.items()
        ]
        others = len(self._steps) - len(self.operators)
        outs = ", ".join(map(brief, self.outputs))
        return "\n".join([f"Model({ins}) -> {outs}", *rows, f"  {others} other nodes"])


# --- parts of a graph -----------------------------------------------------------------------------


def unused(node: Any, k: int, used: Mapping[str, Any]) -> str:
    """The name of a node, or one that it gets: names may be missing or double."""
    name = node.name or f"{node.op_type}_{k}"
    while name in used:
        name += "_"
    return str(name)


def _input(caller: str, info: Any) -> Input:
    if not info.type.HasField("tensor_type"):
        raise ValueError(f"{caller}: the input {shown(info.name)} is not a tensor, expected one")
    tensor = info.type.tensor_type
    try:
        dtype = library(caller, "onnx.helper").tensor_dtype_to_np_dtype(tensor.elem_type)
    except Exception as error:  # of the package, for types that nobody knows
        raise ValueError(f"{caller}: the input {shown(info.name)} is of an unknown type") from error
    if not tensor.HasField("shape"):
        return Input(dtype, None)
    sizes = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim]
    return Input(dtype, tuple(size if size != "" else None for size in sizes))


def _written(shape: tuple[int | str | None, ...] | None) -> str:
    if shape is None:
        return "(...)"
    return f"({', '.join('?' if n is None else brief(str(n)) for n in shape)})"
