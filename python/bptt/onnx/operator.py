# SPDX-License-Identifier: MIT
"""One node: RNN, GRU or LSTM with the inputs and outputs of ONNX, and with gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import _core
from .._binding.call import backward, forward
from .._cells import CELLS
from .._grads import Grads
from .._types import Array, State
from .._validate import as_array, as_indices, check_shape, to_numpy
from .._words import listed
from ..layers.recurrent import Recurrent
from .attributes import INPUTS, OUTPUTS, QUANTIZED, attributes_of, label
from .layer import layer_of, obstacle, weights_of
from .quantized import dequantized
from .read import as_node, tensors_of
from .weights import Weights, cells_of, onnx_arrays

__all__ = ["Operator", "OperatorTape"]

WEIGHTS = ("W", "R", "B", "P")


class OperatorTape(NamedTuple):
    """The values that `Operator.backward` needs from one `forward`.

    Attributes
    ----------
    shape : tuple of int
        T and B.
    cells : list
        The tape of each direction: gates and states by name, as ``tape.cells[0].i``.
    weights : list
        The weights of each direction, as the functions take them.
    empty : ndarray of bool, shape (B,), or None
        Which sequences have length 0; None without `sequence_lens`.
    """

    shape: tuple[int, int]
    cells: list[_core.Tape]
    weights: list[Weights]
    empty: Array | None


class Operator:
    """One node of ONNX, RNN, GRU or LSTM: every attribute of opset 22, forward and backward.

    Inputs, outputs and gradients have ONNX's names and shapes: with T steps, B sequences, D
    directions, G gates and H units X (T, B, I), W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H),
    P (D, 3*H), initial_h and initial_c (D, B, H), Y (T, D, B, H), Y_h and Y_c (D, B, H); with
    ``layout=1`` X (B, T, I), states (B, D, H) and Y (B, T, D, H).

    Parameters
    ----------
    node : onnx.NodeProto
        A node RNN, GRU, LSTM, or ``com.microsoft.DynamicQuantizeLSTM``. Weights of the last become
        floating-point numbers, and its inputs are not quantised.
    initializers : dict of str to array_like, or list of onnx.TensorProto, optional
        Inputs of the node that are constant, by the names that the node gives them.

    Attributes
    ----------
    name : str
        The name of the node.
    inputs, outputs, free : dict of str to str
        By ONNX's names, the names in the graph of the node's inputs and outputs; `free` has the
        inputs that are not constant.
    layer : Recurrent or None
        A layer with the node's weights, if they are constant and a layer can express the node.
        The operator computes with its parameters, which may be trained.

    Raises
    ------
    ValueError
        If the node has an attribute, value or shape that ONNX does not define, or an activation
        that bptt lacks.
    ImportError
        If the package onnx is not installed.

    Notes
    -----
    Where ONNX's specification says nothing, the results are onnxruntime's: `clip`
    bounds the arguments of f and g, not of h; `activation_alpha` and `activation_beta` hold numbers
    only for the activations that take any; Y_h and Y_c are 0 for a sequence of length 0. In one
    point they differ: where the numbers are left out, Affine and ThresholdedRelu have the defaults
    of the operators of these names, as ONNX says, and ScaledTanh is an error; onnxruntime takes 0.

    The attributes are numbers of 32 bits. They are read as the shortest decimals, so that a slope
    of 0.2 is 0.2 in float64 too.

    Computes in float64 if one of the inputs is float64, else in float32.

    Examples
    --------
    >>> import numpy as np
    >>> from onnx import helper
    >>> import bptt.onnx
    >>> node = helper.make_node("GRU", ["x", "w", "r"], ["y", "y_h"], hidden_size=3)
    >>> gru = bptt.onnx.Operator(node)
    >>> rng = np.random.default_rng(0)
    >>> X, W, R = (rng.normal(size=s) for s in ((5, 2, 4), (1, 9, 4), (1, 9, 3)))
    >>> (Y, Y_h), tape = gru.forward(X, W, R)
    >>> grads = gru.backward(tape, dY=Y)  # of the loss 0.5 * sum(Y**2)
    >>> Y.shape, grads["W"].shape, list(grads)
    ((5, 1, 2, 3), (1, 9, 4), ['X', 'W', 'R', 'initial_h'])
    """

    def __init__(self, node: Any, initializers: Any = None) -> None:
        node = as_node("Operator", node)
        constants = tensors_of("Operator", initializers)
        self.name, self.op = node.name, node.op_type
        self.caller = label(node)
        self.attributes = attributes_of(self.caller, node)
        self.inputs = _named(self.caller, "inputs", INPUTS[self.op], node.input)
        self.outputs = _named(self.caller, "outputs", OUTPUTS[self.op], node.output)
        for needed in ("X", "W", "R"):
            if needed not in self.inputs:
                raise ValueError(f"{self.caller}: the node has no input {needed}, expected one")
        found = {role: constants[name] for role, name in self.inputs.items() if name in constants}
        self.layer: Recurrent | None = None
        self.free = {role: name for role, name in self.inputs.items() if role not in found}
        if self.op == QUANTIZED:
            found = dequantized(self.caller, found)
        if all(role in found for role in WEIGHTS if role in self.inputs):
            self._keep_as_layer(found)
        states = ("initial_h", "initial_c")
        self.constants = {n: a for n, a in found.items() if n not in states or a.any()}

    def _keep_as_layer(self, found: dict[str, Array]) -> None:
        """Check constant weights, and move them to a layer if one can express the node."""
        arrays = {role: found[role] for role in WEIGHTS if role in found}
        wide = any(array.dtype == np.float64 for array in arrays.values())
        dtype = np.dtype(np.float64 if wide else np.float32)
        cells = cells_of(self.caller, self.attributes, {**arrays}, dtype)
        if obstacle(self.attributes) is None and cells[0].w_ih.size:
            self.layer = layer_of(self.attributes, cells, dtype)
            for role in arrays:
                del found[role]

    @property
    def weights(self) -> dict[str, Array]:
        """The constant weights by ONNX's names, as they are now: W, R, and B and P if there are."""
        if self.layer is not None:
            return onnx_arrays(self.attributes, weights_of(self.layer))
        return {role: array for role, array in self.constants.items() if role in WEIGHTS}

    def __call__(
        self,
        X: ArrayLike,
        W: ArrayLike | None = None,
        R: ArrayLike | None = None,
        B: ArrayLike | None = None,
        sequence_lens: ArrayLike | None = None,
        initial_h: ArrayLike | None = None,
        initial_c: ArrayLike | None = None,
        P: ArrayLike | None = None,
    ) -> tuple[Array, ...]:
        """Compute Y, Y_h and, for an LSTM, Y_c.

        Parameters
        ----------
        X, W, R, B, sequence_lens, initial_h, initial_c, P : array_like, optional
            The inputs of the node. Those left out are the node's constants, if it has any; else
            biases, states and peepholes are 0, and each sequence has T steps.

        Raises
        ------
        ValueError
            If W or R is missing, a shape is wrong, or a length is outside 0..T.
        TypeError
            If an input does not hold real numbers, or `sequence_lens` integers.
        """
        given = (W, R, B, sequence_lens, initial_h, initial_c, P)
        return self._run(X, dict(zip(INPUTS["LSTM"][1:], given)), False)[0]

    def forward(
        self,
        X: ArrayLike,
        W: ArrayLike | None = None,
        R: ArrayLike | None = None,
        B: ArrayLike | None = None,
        sequence_lens: ArrayLike | None = None,
        initial_h: ArrayLike | None = None,
        initial_c: ArrayLike | None = None,
        P: ArrayLike | None = None,
    ) -> tuple[tuple[Array, ...], OperatorTape]:
        """Compute as in a call, and keep a tape for `backward`: (outputs, tape)."""
        given = (W, R, B, sequence_lens, initial_h, initial_c, P)
        return self._run(X, dict(zip(INPUTS["LSTM"][1:], given)), True)

    def backward(
        self,
        tape: OperatorTape,
        dY: ArrayLike | None = None,
        dY_h: ArrayLike | None = None,
        dY_c: ArrayLike | None = None,
    ) -> dict[str, Array]:
        """Gradients of a scalar loss, by exact backpropagation through time.

        Parameters
        ----------
        tape : OperatorTape
            From `forward`.
        dY, dY_h, dY_c : array_like, optional
            Gradients of the loss with respect to the outputs; zeros if left out.

        Returns
        -------
        dict of str to ndarray
            With respect to X, W, R, B, P, initial_h and initial_c, shaped like them; without B and
            P if the forward call had none. The states' are there in any case.

        Raises
        ------
        ValueError
            If a shape disagrees with the tape.
        TypeError
            If `tape` is something else, or a gradient does not hold real numbers.
        """
        if not isinstance(tape, OperatorTape):
            raise TypeError(f"{self.caller}: tape is {type(tape).__name__}, expected forward's")
        T, B = tape.shape
        D, H = len(tape.cells), tape.weights[0].w_hh.shape[1]
        dy = self._time_major("dY", dY, (T, D, B, H))
        finals = [
            self._without(tape.empty, self._state(name, value, D, B, H))
            for name, value in (("dY_h", dY_h), ("dY_c", dY_c))
        ]
        if finals[1] is not None and self.attributes.op != "LSTM":
            raise ValueError(f"{self.caller}: dY_c is given, expected none: there is no Y_c")
        cell, grads = self.attributes.op.lower(), []
        for d in range(D):
            parts = [None if f is None else f[d] for f in finals]
            dstate: State = tuple(parts) if len(CELLS[cell].states) == 2 else parts[0]
            part = None if dy is None else np.ascontiguousarray(dy[:, d])
            grads.append(backward(cell, tape.cells[d], part, dstate))
        return self._by_name(grads)

    # --- how ------------------------------------------------------------------------------------

    def _run(
        self, X: ArrayLike, given: dict[str, Any], keep_tape: bool
    ) -> tuple[tuple[Array, ...], Any]:
        inputs = {n: _real(self.caller, n, v) for n, v in given.items() if v is not None}
        x = _real(self.caller, "X", X)
        if x.ndim != 3:
            raise ValueError(f"{self.caller}: X has shape {x.shape}, expected 3 axes, (T, B, I)")
        if any(n in inputs for n in WEIGHTS) or self.layer is None:
            inputs = {**self.weights, **inputs}
        inputs = {**{n: a for n, a in self.constants.items() if n not in WEIGHTS}, **inputs}
        kinds = [x.dtype, *(a.dtype for n, a in inputs.items() if n != "sequence_lens")]
        if self.layer is not None:
            kinds.append(self.layer.dtype)
        dtype = np.dtype(np.float64 if np.dtype(np.float64) in kinds else np.float32)
        cells = self._cells(inputs, dtype)
        swapped = x.swapaxes(0, 1) if self.attributes.batch_first else x
        outputs, tape = self._compute(
            np.ascontiguousarray(swapped, dtype), cells, inputs, keep_tape
        )
        if x.dtype.kind != "f" or x.dtype.itemsize > 2:
            return outputs, tape
        return tuple(y.astype(x.dtype) for y in outputs), tape

    def _cells(self, inputs: dict[str, Array], dtype: np.dtype[Any]) -> list[Weights]:
        """The weights of each direction, from the inputs or from the layer."""
        if self.layer is None or any(n in inputs for n in WEIGHTS):
            return cells_of(self.caller, self.attributes, {**inputs}, dtype)
        if self.layer.dtype == dtype:
            return weights_of(self.layer)
        wider = [[a if a is None else a.astype(dtype) for a in c] for c in weights_of(self.layer)]
        return [Weights(*arrays) for arrays in wider]  # type: ignore[arg-type]

    def _compute(
        self, x: Array, cells: list[Weights], inputs: dict[str, Array], keep_tape: bool
    ) -> tuple[tuple[Array, ...], OperatorTape]:
        """All directions; x is (T, B, I)."""
        T, B, inputs_of_x = x.shape
        D, H = len(cells), cells[0].w_hh.shape[1]
        if inputs_of_x != cells[0].w_ih.shape[1]:
            raise ValueError(
                f"{self.caller}: X has {inputs_of_x} features, expected {cells[0].w_ih.shape[1]}, "
                "as W"
            )
        lengths = self._lengths(inputs.get("sequence_lens"), T, B)
        states = [
            self._state(n, inputs.get(n), D, B, H) for n in ("initial_h", "initial_c")
        ]  # fmt: skip
        if states[1] is not None and self.attributes.op != "LSTM":
            raise ValueError(f"{self.caller}: initial_c is given, expected none for {self.op}")
        cell, results = self.attributes.op.lower(), []
        for d, (w, options) in enumerate(zip(cells, self.attributes.options)):
            parts = [None if s is None else s[d] for s in states]
            state: State = tuple(parts) if len(CELLS[cell].states) == 2 else parts[0]
            if w.peepholes is not None:
                options = {**options, "peepholes": w.peepholes}
            arguments = (x, *w[:4], state, lengths, self.attributes.reverse[d])
            how = (None, None, None)
            results.append(forward(cell, arguments, options or None, keep_tape, how))
        empty = None if lengths is None else lengths == 0
        finals = zip(*(s if isinstance(s, tuple) else (s,) for _, s, _ in results))
        ended = [self._without(empty, np.stack(parts)) for parts in finals]
        outputs = (np.stack([y for y, _, _ in results], 1), *ended)
        if self.attributes.batch_first:
            outputs = (outputs[0].transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in outputs[1:]))
        outputs = tuple(np.ascontiguousarray(array) for array in outputs)
        tapes = [tape for *_, tape in results if tape is not None]
        return outputs, OperatorTape((T, B), tapes, cells, empty)

    def _by_name(self, grads: list[Grads]) -> dict[str, Array]:
        """The gradients of all directions, by ONNX's names and in its shapes."""
        cells = [Weights(g.w_ih, g.w_hh, g.b_ih, g.b_hh, g.peepholes) for g in grads]
        x = grads[0].x if len(grads) == 1 else grads[0].x + grads[1].x
        states = [g.state if isinstance(g.state, tuple) else (g.state,) for g in grads]
        found = {"X": x, **onnx_arrays(self.attributes, cells)}
        found |= dict(zip(("initial_h", "initial_c"), map(np.stack, zip(*states))))
        if self.attributes.batch_first:
            swapped = [n for n in found if n not in WEIGHTS]
            found |= {n: np.ascontiguousarray(found[n].swapaxes(0, 1)) for n in swapped}
        return found

    def _lengths(self, value: Array | None, T: int, B: int) -> Array | None:
        if value is None:
            return None
        lengths = as_indices(self.caller, "sequence_lens", value, "0..T", T)
        check_shape(self.caller, "sequence_lens", lengths, "(B,)", (B,))
        return lengths

    def _state(self, name: str, value: Any, D: int, B: int, H: int) -> Array | None:
        """A state as (D, B, H)."""
        if value is None:
            return None
        array = _real(self.caller, name, value)
        if self.attributes.batch_first:
            check_shape(self.caller, name, array, "(B, D, H)", (B, D, H))
            return array.swapaxes(0, 1)
        check_shape(self.caller, name, array, "(D, B, H)", (D, B, H))
        return array

    def _time_major(self, name: str, value: Any, shape: tuple[int, ...]) -> Array | None:
        """An array of the shape of Y as (T, D, B, H)."""
        if value is None:
            return None
        array = _real(self.caller, name, value)
        if self.attributes.batch_first:
            T, D, B, H = shape
            check_shape(self.caller, name, array, "(B, T, D, H)", (B, T, D, H))
            return array.transpose(1, 2, 0, 3)
        check_shape(self.caller, name, array, "(T, D, B, H)", shape)
        return array

    @staticmethod
    def _without(empty: Array | None, state: Any) -> Any:
        """A state (D, B, H) that is 0 for empty sequences."""
        if state is None or empty is None or not empty.any():
            return state
        return np.where(empty[:, None], state.dtype.type(0), state)

    def __repr__(self) -> str:
        constant = sorted([*self.weights, *(n for n in self.constants if n not in WEIGHTS)])
        return f"Operator({self.caller}, constants {listed(constant)})"


def _named(caller: str, what: str, roles: tuple[str, ...], names: Any) -> dict[str, str]:
    if len(names) > len(roles):
        raise ValueError(f"{caller}: the node has {len(names)} {what}, expected {len(roles)}")
    return {role: name for role, name in zip(roles, names) if name}


def _real(caller: str, name: str, value: Any) -> Array:
    """An array of real numbers; bfloat16, which NumPy lacks, as float32."""
    array = as_array(caller, name, to_numpy(value))
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{caller}: {name} has dtype {array.dtype}, expected real numbers")
    return array


def operator_of(caller: str, node: Any, constants: Mapping[str, Array]) -> Operator:
    """The operator of a node in a graph; its messages begin with `caller`."""
    try:
        operator = Operator(node, {n: a for n, a in constants.items() if n in node.input})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{caller}: {error}") from error
    operator.caller = f"{caller}: {label(node)}"
    return operator
