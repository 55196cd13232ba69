# SPDX-License-Identifier: MIT
"""What the recurrent layers have in common."""

from __future__ import annotations

import threading
import warnings
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _call, _core
from .dense import Layer, LayerGrads, Seed, as_float, as_indices, check_shape
from .grads import Array, State
from .stream import Stream


class Cell(NamedTuple):
    name: str
    gates: int
    states: int
    activation: str = "tanh"


class RecurrentTape(NamedTuple):
    """What `Recurrent.backward` needs of one `Recurrent.forward`.

    Attributes
    ----------
    layer : Recurrent
        The layer that made the tape.
    shape : tuple of int
        T and B.
    cells : list
        A functional tape for each layer and direction, in the order of the state.
    masks : list of ndarray, shape (T, B, directions * H)
        Dropout: number k was multiplied into the input of layer k + 1. Empty without dropout.
    """

    layer: Recurrent
    shape: tuple[int, int]
    cells: list[Any]
    masks: list[Array]


ACTIVATIONS = ("tanh", "relu", "leaky_relu", "sigmoid", "identity")

# Held only to count; a lock inside each layer would keep it from being copied and pickled.
_COUNTING = threading.Lock()


class Recurrent(Layer, ABC):
    """Layers of one recurrent cell, in one or both directions; see `RNN`, `LSTM` and `GRU`.

    Calls leave the parameters alone and may run in several threads at once. The n-th call of
    `forward` draws the n-th dropout masks of the seed.

    Parameters
    ----------
    input_size, hidden_size : int
        I and H.
    num_layers : int, optional
        Layers on top of each other, each reading the output of the one below.
    bias : bool, optional
    batch_first : bool, optional
        True: `x` and `y` are (B, T, ...) instead of (T, B, ...). States are not affected.
    dropout : float, optional
        Probability, 0..1, that `forward` zeroes an element of the input of each layer but the
        first (the others are divided by 1 - dropout). Calling the layer drops nothing.
    bidirectional : bool, optional
        True: a second cell reads each sequence from its end; outputs are joined on the last axis.
    dtype : {"float32", "float64"}, optional
        Of parameters, computation and results; other real input is converted.
    seed : int or numpy.random.Generator, optional
        For the initial parameters, U(-1/sqrt(H), 1/sqrt(H)), and the dropout masks.
    compute : {"bf16", "bf16_if_available"}, optional
        Products in bfloat16, all else in float32, as in `lstm_forward`.

    Attributes
    ----------
    parameters : dict of str to ndarray
        ``weight_ih_l0`` (G*H, I), ``weight_hh_l0`` (G*H, H), ``bias_ih_l0`` and ``bias_hh_l0``
        (G*H,) with G gates; further layers count up and have directions * H columns in
        ``weight_ih``; the backward direction adds ``_reverse``. All as in PyTorch.
    """

    input_size: int
    hidden_size: int
    num_layers: int

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
        compute: str | None = None,
    ) -> None:
        super().__init__(
            dtype, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers
        )
        where = type(self).__name__
        flags = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
        for name, flag in flags.items():  # PyTorch's RNN has the activation in the place of bias
            if not isinstance(flag, (bool, np.bool_)):
                raise TypeError(f"{where}: {name} is {flag!r}, expected True or False")
        if not 0 <= dropout <= 1:
            raise ValueError(f"{where}: dropout is {dropout!r}, expected a probability 0..1")
        if dropout and num_layers == 1:
            warnings.warn(f"{where}: dropout acts between layers, num_layers is 1", stacklevel=2)
        _call.as_bf16(where, compute, self.dtype)
        self.compute = compute
        self.bias, self.batch_first = bool(bias), bool(batch_first)
        self.dropout, self.bidirectional = float(dropout), bool(bidirectional)
        self._directions, rng = 1 + self.bidirectional, np.random.default_rng(seed)
        shapes = [self._shapes(k) for k in range(self.num_layers * self._directions)]
        self._names = [list(s) for s in shapes]
        bound = 1 / np.sqrt(self.hidden_size)
        everything = {name: shape for s in shapes for name, shape in s.items()}
        self._fill(everything, lambda shape: rng.uniform(-bound, bound, shape))
        self._mask_seed, self._mask_calls = int(rng.integers(2**63)), 0

    @property
    @abstractmethod
    def _cell(self) -> Cell:
        """The cell's name and counts: what a final class gives."""

    def _shapes(self, k: int) -> dict[str, tuple[int, ...]]:
        """Parameter names and shapes of one layer and direction."""
        H, D = self.hidden_size, self._directions
        layer, reverse = divmod(k, D)
        rows, columns = self._cell.gates * H, D * H if layer else self.input_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, columns), "weight_hh": (rows, H)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        suffix = f"_l{layer}" + "_reverse" * reverse
        return {name + suffix: shape for name, shape in shapes.items()}

    def _weights(self, k: int) -> list[Any]:
        """Of one layer and direction: w_ih, w_hh, b_ih, b_hh; None for what it has not."""
        arrays: list[Any] = [self.parameters[name] for name in self._names[k]]
        return arrays if self.bias else [*arrays, None, None]

    def stream(self, batch: int = 1, state: State = None) -> Stream:
        """A copy that runs step by step, its state kept from call to call.

        Parameters
        ----------
        batch : int, optional
            B, of all calls.
        state : array_like, shape (num_layers, B, H), optional
            Initial state, zeros if omitted; for `LSTM` a tuple (h, c) of two.

        Returns
        -------
        Stream
            With the parameters as they are now.

        Raises
        ------
        ValueError
            If the layer is bidirectional (it would need the end of the sequence first), or a value
            or shape is wrong.
        """
        where = f"{type(self).__name__}.stream"
        if self.bidirectional:
            raise ValueError(f"{where}: the layer is bidirectional, expected one direction")
        B, cell = _call.as_count(where, "batch", batch, 1), self._cell
        bf16 = _call.as_bf16(where, self.compute, self.dtype)
        cores = []
        for k in range(self.num_layers):
            weights = tuple(_call.prepare(w, self.dtype) for w in self._weights(k) if w is not None)
            shape = np.empty((0, B, weights[0].shape[1]), self.dtype)
            cores.append(
                _core.Stream(where, cell.name, cell.activation, bf16, shape, weights, None)
            )
        stream = Stream(cores, (B, self.input_size), self.dtype, self.batch_first)
        if state is not None:
            stream.state = state
        return stream

    def __call__(
        self, x: ArrayLike, state: State = None, lengths: ArrayLike | None = None
    ) -> tuple[Array, State]:
        """Run the layer for inference: no dropout, and nothing kept for a backward pass.

        Parameters
        ----------
        x : array_like, shape (T, B, I), or (B, T, I) with `batch_first`
        state : array_like, shape (num_layers * directions, B, H), optional
            Initial state, zeros if omitted; for `LSTM` a tuple (h, c) of two.
        lengths : array_like of int, shape (B,), optional
            Steps 0..T of each sequence, in any order. What follows is not read, and 0 in `y`; the
            final state is that after each sequence's own last step.

        Returns
        -------
        y : ndarray, shape (T, B, directions * H), or (B, T, directions * H) with `batch_first`
        state : ndarray or tuple of ndarray
            Final state, shaped as the initial one.

        Raises
        ------
        ValueError
            If a shape disagrees with the layer or with `x`, or a length is outside 0..T.
        TypeError
            If `x` or `state` does not hold real numbers, or `lengths` integers.
        """
        y, state, _ = self._run(x, state, lengths, False)
        return y, state

    def forward(
        self,
        x: ArrayLike,
        state: State = None,
        lengths: ArrayLike | None = None,
        *,
        checkpoint: str | None = None,
        max_bytes: int | None = None,
    ) -> tuple[Array, State, RecurrentTape]:
        """Run the layer for training: with dropout, and with a tape for `backward`.

        Arguments, errors and the first two results are those of a call. `y` is read-only: change
        a copy. The tape refers to `x`, which must stay as it is; the parameters may change.
        ``checkpoint="sqrt"`` or `max_bytes`, of each layer and direction, make it smaller and
        `backward` slower, as in `lstm_forward`.
        """
        return self._run(x, state, lengths, True, checkpoint, max_bytes)

    def _run(
        self,
        x: ArrayLike,
        state: State,
        lengths: ArrayLike | None,
        training: bool,
        checkpoint: str | None = None,
        max_bytes: int | None = None,
    ) -> tuple[Array, State, RecurrentTape]:
        y = self._time_major("x", x, self.input_size, "input_size")
        T, B, _ = y.shape
        if lengths is not None:
            lengths = as_indices(type(self).__name__, "lengths", lengths, "0..T", T)
            check_shape(type(self).__name__, "lengths", lengths, "(B,)", (B,))
        initial = self._split_state("state", state, B)
        masks = self._draw_masks(T, B) if training else []
        cell, cells, final = self._cell, list[Any](), list[State]()
        for layer in range(self.num_layers):
            if layer and masks:
                y = y * masks[layer - 1]
            outputs = []
            for reverse in range(self._directions):
                k = len(cells)
                w_ih, w_hh, b_ih, b_hh = self._weights(k)
                out, last, tape = _call.forward(
                    cell.name, y, w_ih, w_hh, b_ih, b_hh, initial[k], lengths, reverse == 1,
                    training, cell.activation, None, checkpoint, max_bytes, self.compute,
                )  # fmt: skip
                outputs.append(out)
                final.append(last)
                cells.append(tape)
            y = np.concatenate(outputs, axis=-1) if reverse else outputs[0]
        y = y.swapaxes(0, 1) if self.batch_first else y
        if training:  # with one direction, the tape refers to it
            y.flags.writeable = False
        return y, self._join_state(final), RecurrentTape(self, (T, B), cells, masks)

    def backward(
        self,
        tape: RecurrentTape,
        dy: ArrayLike | None = None,
        dstate: State = None,
        *,
        step_clip: tuple[str, float] | None = None,
    ) -> LayerGrads:
        """Backpropagate through time: gradients of a loss from those of the layer's results.

        Parameters
        ----------
        tape : RecurrentTape
            The third result of `forward`; not modified.
        dy : array_like, shape of `y`, optional
            Gradient with respect to the output, zeros if omitted. Padding is not read.
        dstate : array_like, shape of the final state, optional
            Gradient with respect to the final state, zeros if omitted; for `LSTM` a tuple
            (dh, dc), of which one may be None.
        step_clip : (kind, bound), optional
            Limit the gradient of the hidden state that each step passes back to the one before:
            ``("value", bound)`` each element, ``("norm", bound)`` each sequence's Euclidean norm.

        Returns
        -------
        LayerGrads
            The fields ``params`` (dict by parameter name), ``x`` and ``state``.

        Raises
        ------
        ValueError
            If a shape disagrees with the results of `forward`, or `step_clip` is not as above.
        TypeError
            If `tape` is not from this layer's `forward`, or a gradient does not hold real numbers.
        """
        where, D = type(self).__name__, self._directions
        if not isinstance(tape, RecurrentTape) or tape.layer is not self:
            raise TypeError(f"{where}: tape is not the third result of this layer's forward")
        d: Any = None
        if dy is not None:
            d = self._time_major("dy", dy, D * self.hidden_size, "directions * H", tape.shape)
        dfinal = self._split_state("dstate", dstate, tape.shape[1])
        params: dict[str, Array] = {}
        dinitial: list[State] = [None] * len(tape.cells)
        for layer in reversed(range(self.num_layers)):
            dys = [None] * D if d is None else np.split(d, D, axis=-1)
            dxs = []
            for k, dy_k in enumerate(dys, layer * D):
                g = _call.backward(self._cell.name, tape.cells[k], dy_k, dfinal[k], step_clip)
                weights: list[Any] = [g.w_ih, g.w_hh, g.b_ih, g.b_hh]
                params |= zip(self._names[k], weights)
                dinitial[k] = g.state
                dxs.append(g.x)
            d = dxs[0] + dxs[1] if D == 2 else dxs[0]
            if layer and tape.masks:
                d = d * tape.masks[layer - 1]
        dx = d.swapaxes(0, 1) if self.batch_first else d
        return LayerGrads({k: params[k] for k in self.parameters}, dx, self._join_state(dinitial))

    def _time_major(
        self, name: str, value: ArrayLike, size: int, symbol: str, TB: tuple[int, int] | None = None
    ) -> Array:
        """Check a sequence argument and return it as (T, B, size)."""
        where, swap = type(self).__name__, self.batch_first
        array = as_float(where, name, value, self.dtype)
        axes = ("B", "T") if swap else ("T", "B")
        sizes = array.shape[:2] if TB is None else TB[::-1] if swap else TB
        if array.shape != (*sizes, size) or array.ndim != 3:
            expected = ", ".join(map(str, (*(sizes if TB else axes), size)))
            symbols = ", ".join((*axes, symbol))
            raise ValueError(
                f"{where}: {name} has shape {array.shape}, expected ({symbols}) = ({expected})"
            )
        return array.swapaxes(0, 1) if swap else array

    def _split_state(self, name: str, state: State, B: int) -> list[State]:
        """Check a state and return it as one functional state per layer and direction."""
        where, lstm = type(self).__name__, self._cell.states == 2
        shape = (self.num_layers * self._directions, B, self.hidden_size)
        if state is None:
            return [None] * shape[0]
        if lstm and (not isinstance(state, (tuple, list)) or len(state) != 2):
            raise TypeError(f"{where}: {name} is {type(state).__name__}, expected a tuple (h, c)")
        named = zip((f"{name}[0]", f"{name}[1]"), state) if lstm else [(name, state)]
        parts = []
        for label, part in named:
            part = as_float(where, label, np.zeros(shape) if part is None else part, self.dtype)
            check_shape(where, label, part, "(num_layers * directions, B, H)", shape)
            parts.append(part)
        return list(zip(*parts)) if lstm else list(parts[0])

    def _join_state(self, states: list[State]) -> State:
        if self._cell.states == 2:
            return tuple(np.stack(part) for part in zip(*states))
        return np.stack(states)

    def _draw_masks(self, T: int, B: int) -> list[Array]:
        if not self.dropout or self.num_layers == 1:
            return []
        with _COUNTING:
            call, self._mask_calls = self._mask_calls, self._mask_calls + 1
        rng = np.random.default_rng((self._mask_seed, call))
        shape = (self.num_layers - 1, T, B, self._directions * self.hidden_size)
        scale = 1 / (1 - self.dropout) if self.dropout < 1 else 0.0
        return list((rng.random(shape) >= self.dropout) * self.dtype.type(scale))
