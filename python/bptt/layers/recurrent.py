# SPDX-License-Identifier: MIT
"""What the recurrent layers have in common."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import functional
from .._binding.call import as_bf16
from .._cells import NAMES
from .._guesses import answering
from .._types import Array, Seed, State, StepClip
from .._validate import as_flag, as_generator, as_probability
from .._words import shown
from ..trace.trace import LayerTrace, Trace
from .base import Layer, LayerGrads
from .masks import MaskCount, Masks, draw, has_zoneout, is_random, next_call
from .options import (
    Cell,
    as_arguments,
    as_dilations,
    as_skip,
    as_zoneout,
    by_parameter,
    start_layer_norm,
)
from .sequences import (
    as_lengths,
    as_resets,
    join_state,
    resets_of_reverse,
    split_state,
    time_major,
    without_padding,
)
from .stream import Stream, stream_of
from .tape import RecurrentTape


class Recurrent(Layer, ABC):
    """Layers of one recurrent cell, in one or both directions; see `bptt.layers`.

    Calls leave the parameters alone and may run in several threads at once. The n-th call of
    `forward` draws the n-th random masks of the seed; one that fails does not count.

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
    dilation : int or sequence of int, optional
        k > 1: the state of k steps before takes the place of that of one step before (Chang et al.,
        2017); a sequence has one for each layer.
    skip : int, optional
        k > 0: h of k steps before is added to h; a multiple of each dilation.
    residual : bool, optional
        True: each layer adds its input to its output, where both are equally wide: every layer but
        the first always, the first if `input_size` is directions * H.
    zoneout : float or pair of float, optional
        Probability, 0..1, that `forward` keeps an element of h as it was the step before; calling
        the layer takes the mean (Krueger et al., 2017). Of a pair, the second is that of the other
        states of the cell, as c.
    recurrent_dropout : float, optional
        Probability, 0..1, that `forward` zeroes an element of h in the product with weight_hh, the
        same ones in all steps of a sequence (Gal & Ghahramani, 2016); the others are divided by
        1 - recurrent_dropout.
    variational_dropout : bool, optional
        True: `dropout` zeroes the same elements in all steps of a sequence.
    dtype : {"float32", "float64"}, optional
        Of parameters, computation and results; other real input is converted.
    seed : int or numpy.random.Generator, optional
        For the initial parameters, U(-1/sqrt(H), 1/sqrt(H)), and the random masks.
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
        dilation: int | Sequence[int] = 1,
        skip: int = 0,
        residual: bool = False,
        zoneout: float | tuple[float, float] = 0.0,
        recurrent_dropout: float = 0.0,
        variational_dropout: bool = False,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
        compute: str | None = None,
    ) -> None:
        super().__init__(
            dtype, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers
        )
        caller = type(self).__name__
        self.bias = as_flag(caller, "bias", bias)  # PyTorch's RNN has the activation in its place
        self.batch_first = as_flag(caller, "batch_first", batch_first)
        self.bidirectional = as_flag(caller, "bidirectional", bidirectional)
        self.residual = as_flag(caller, "residual", residual)
        self.variational_dropout = as_flag(caller, "variational_dropout", variational_dropout)
        self.dropout = as_probability(caller, "dropout", dropout)
        self.recurrent_dropout = as_probability(caller, "recurrent_dropout", recurrent_dropout)
        if dropout and num_layers == 1:
            warnings.warn(f"{caller}: dropout acts between layers, num_layers is 1", stacklevel=4)
        self._cell = self._describe()
        self.zoneout = as_zoneout(caller, zoneout, self._cell.states)
        self.dilations = as_dilations(caller, dilation, self.num_layers)
        self.dilation = self.dilations if isinstance(dilation, Sequence) else self.dilations[0]
        self.skip = as_skip(caller, skip, self.dilations)
        as_bf16(caller, compute, self.dtype)
        self.compute = compute
        self._make_parameters(as_generator(caller, "seed", seed))

    def _make_parameters(self, rng: np.random.Generator) -> None:
        bound, everything = 1 / np.sqrt(self.hidden_size), dict[str, tuple[int, ...]]()
        self._directions = D = 1 + self.bidirectional
        self._names: list[dict[str, str]] = []  # of each layer and direction: those of NAMES
        for k in range(self.num_layers * D):
            layer, reverse = divmod(k, D)
            shapes, suffix = self._shapes(layer), f"_l{layer}" + "_reverse" * reverse
            self._names.append({argument: NAMES[argument] + suffix for argument in shapes})
            everything |= {self._names[k][a]: shape for a, shape in shapes.items()}
        self._fill(everything, lambda shape: rng.uniform(-bound, bound, shape))
        start_layer_norm(self.parameters, self._names)
        self._mask_count = MaskCount(int(rng.integers(2**63)), 0)

    @abstractmethod
    def _describe(self) -> Cell:
        """The cell's name, counts and options: what a final class gives."""

    @property
    def _width(self) -> int:
        """Of h: P with a projection, else H."""
        return self._cell.shapes.get("w_hr", (self.hidden_size,))[0]

    def _shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """Of the parameters of one layer and direction."""
        H, cell = self.hidden_size, self._cell
        wide = self._directions * self._width
        rows, columns = cell.gates * H, wide if layer else self.input_size
        shapes: dict[str, tuple[int, ...]] = {"w_ih": (rows, columns), "w_hh": (rows, self._width)}
        if self.bias:
            shapes |= {"b_ih": (rows,), "b_hh": (rows,)}
        return shapes | cell.shapes

    def _weights(self, k: int) -> dict[str, Any]:
        """Of one layer and direction, as the functions take them."""
        return as_arguments({a: self.parameters[name] for a, name in self._names[k].items()})

    def _adds_input(self, layer: int) -> bool:
        return self.residual and (layer > 0 or self.input_size == self._directions * self._width)

    def _is_random(self) -> bool:
        return is_random(self)

    def _without_masks(self) -> dict[str, Any]:
        """Arguments of the functions where nothing is random."""
        return {"zoneout": self.zoneout} if has_zoneout(self) else {}

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
            With the parameters as they are now. Nothing is random in it, as in a call.

        Raises
        ------
        ValueError
            If the layer is bidirectional (it would need the end of the sequence first), has a
            dilation or skip (it would need more than one state), or a value or shape is wrong.
        """
        return stream_of(self, batch, state)

    @answering
    def __call__(
        self,
        x: ArrayLike,
        state: State = None,
        lengths: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[Array, State]:
        """Run the layer for inference: nothing random, and nothing kept for a backward pass.

        Parameters
        ----------
        x : array_like, shape (T, B, I), or (B, T, I) with `batch_first`
        state : array_like, shape (num_layers * directions, B, H), optional
            Initial state, zeros if omitted; for `LSTM` a tuple (h, c) of two, for `SLSTM`
            (h, c, n, m), for `LSTM1997` (h, c, i, o). With a dilation k of all layers (num_layers *
            directions, k, B, H), the oldest first; with several, these rows of all layers one after
            the other, (directions * sum of dilations, B, H).
        lengths : array_like of int, shape (B,), optional
            Steps 0..T of each sequence, in any order. What follows is not read, and 0 in `y`; the
            final state is that after each sequence's own last step.
        resets : array_like of bool, shape (T, B), or (B, T) with `batch_first`, optional
            True at a step where another sequence begins: no state crosses from the steps before to
            it, nor, in the reverse direction, from it to them. Not with a dilation.

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
            If `x` or `state` does not hold real numbers, `lengths` integers, or `resets` booleans.
        """
        return self._run(x, state, lengths, resets, False)[:2]

    @answering
    def forward(
        self,
        x: ArrayLike,
        state: State = None,
        lengths: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        *,
        checkpoint: str | int | None = None,
    ) -> tuple[Array, State, RecurrentTape]:
        """Run the layer for training: with random masks, and with a tape for `backward`.

        Three results, y, state and tape, where a call has two; otherwise arguments, errors and
        results are those of a call. `y` is read-only: change a copy. The tape refers to `x`, which
        must not change (see `lstm_forward`); all else may. A `checkpoint` for each layer and
        direction makes it smaller and `backward` slower, as in `lstm_forward`.
        """
        how: dict[str, Any] = {"checkpoint": checkpoint}
        if not is_random(self):
            return self._run(x, state, lengths, resets, True, **how)
        with next_call(self) as rng:
            return self._run(x, state, lengths, resets, True, rng, **how)

    def _run(
        self,
        x: ArrayLike,
        state: State,
        given_lengths: ArrayLike | None,
        given_resets: ArrayLike | None,
        training: bool,
        rng: np.random.Generator | None = None,
        **how: Any,
    ) -> tuple[Array, State, RecurrentTape]:
        y = time_major(self, "x", x, self.input_size, "input_size")
        T, B, _ = y.shape
        lengths = as_lengths(type(self).__name__, given_lengths, T, B)
        resets = as_resets(self, given_resets, T, B)
        both = (resets, resets_of_reverse(resets, lengths) if self.bidirectional else None)
        initial = split_state(self, "state", state, B)
        masks = draw(self, rng, T, B) if rng else Masks([], [], [])
        cell, cells, final = self._cell, list[Any](), list[State]()
        run = getattr(functional, f"{cell.name}_forward")
        how |= {"lengths": lengths, "keep_tape": training, "compute": self.compute, **cell.options}
        means = {} if training else self._without_masks()
        for layer, dilation in enumerate(self.dilations):
            below, outputs = y, []
            if layer and masks.dropout:
                y = y * masks.dropout[layer - 1]
            for reverse in range(self._directions):
                k = len(cells)
                out, last, tape = run(
                    y, **self._weights(k), state=initial[k], resets=both[reverse],
                    reverse=reverse == 1, dilation=dilation, skip=self.skip,
                    **(masks.options(k) if training else means), **how,
                )  # fmt: skip
                outputs.append(out)
                final.append(last)
                cells.append(tape)
            y = np.concatenate(outputs, axis=-1) if reverse else outputs[0]
            if self._adds_input(layer):
                y = y + without_padding(below, lengths)
        y = y.swapaxes(0, 1) if self.batch_first else y
        if training:  # with one direction, the tape refers to it
            y.flags.writeable = False
        tape = RecurrentTape(self, (T, B), cells, *masks, lengths)
        return y, join_state(self, final, B), tape

    def backward(
        self,
        tape: RecurrentTape,
        dy: ArrayLike | None = None,
        dstate: State = None,
        *,
        step_clip: StepClip | None = None,
        cut: int | None = None,
        trace: bool | str | None = None,
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
        step_clip : (kind, bound) or (kind, bound, target), optional
            Limit the gradient of the hidden state that each step passes back to the one before:
            ``("value", bound)`` each element, ``("norm", bound)`` each sequence's Euclidean norm.
            Of another `target`: "c", that of the state c, with what zoneout kept of it; "gates",
            that of the gates' sums.
        cut : int, optional
            No gradient goes back after every so many steps, counted from the end of each sequence's
            processing, as if the state were detached there. Not with a dilation.
        trace : bool or "full", optional
            Show how the gradient went: `LayerGrads.trace`, a `LayerTrace`. "full" keeps all
            gradients of states and gates, and needs the memory.

        Returns
        -------
        LayerGrads
            The fields ``params`` (dict by parameter name), ``x`` and ``state``.

        Raises
        ------
        ValueError
            If a shape does not fit, `step_clip` is wrong, or `x` or `y` has changed since then.
        TypeError
            If `tape` is not from this layer's `forward`, or a gradient does not hold real numbers.
        """
        caller, D = type(self).__name__, self._directions
        if not isinstance(tape, RecurrentTape) or tape.layer is not self:
            raise TypeError(f"{caller}: tape is not the third result of this layer's forward")
        if cut is not None and max(self.dilations) > 1:
            raise ValueError(f"{caller}: cut is {shown(cut)}, expected None with a dilation")
        d: Any = None
        if dy is not None:
            symbol = "directions * P" if "w_hr" in self._cell.shapes else "directions * H"
            d = time_major(self, "dy", dy, D * self._width, symbol, tape.shape)
        dfinal = split_state(self, "dstate", dstate, tape.shape[1])
        back = getattr(functional, f"{self._cell.name}_backward")
        params: dict[str, Array] = {}
        dinitial: list[State] = [None] * len(tape.cells)
        traces: list[Trace | None] = [None] * len(tape.cells)
        for layer in reversed(range(self.num_layers)):
            dys = [None] * D if d is None else np.split(d, D, axis=-1)
            dxs, above = [], d
            for k, dy_k in enumerate(dys, layer * D):
                g = back(tape.cells[k], dy_k, dfinal[k], step_clip=step_clip, cut=cut, trace=trace)
                traces[k] = g.trace
                params |= by_parameter(g, self._names[k])
                dinitial[k] = g.state
                dxs.append(g.x)
            d = dxs[0] + dxs[1] if D == 2 else dxs[0]
            if layer and tape.masks:
                d = d * tape.masks[layer - 1]
            if above is not None and self._adds_input(layer):
                d = d + without_padding(above, tape.lengths)
        dx = d.swapaxes(0, 1) if self.batch_first else d
        dstate = join_state(self, dinitial, tape.shape[1])
        seen = LayerTrace([t for t in traces if t]) if trace else None
        return LayerGrads({k: params[k] for k in self.parameters}, dx, dstate, seen)
