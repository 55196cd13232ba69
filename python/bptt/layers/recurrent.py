# SPDX-License-Identifier: MIT
"""Everything that recurrent layers share: construction, calls, gradients."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .._binding.call import as_backward_how, as_bf16
from .._cells import CELLS
from .._guesses import answering
from .._types import Array, Seed, State, StepClip, Wanted
from .._validate import as_flag, as_generator, as_lengths_within, as_probability
from .._words import shown
from .backward import through_layers
from .base import Layer, LayerGrads
from .bound import BoundCell
from .docstrings import arguments_of, composed
from .masks import NO_MASKS, Rates, draw
from .new import make_new
from .prepared import Prepared
from .sequences import (
    as_resets,
    join_state,
    resets_of_reverse,
    split_state,
    time_major,
    without_padding,
)
from .stream import Stream
from .structure import LEARNT, Structure, as_dilations, as_skip, own_options
from .tape import RecurrentTape

LAYERS: dict[str, type[Any]] = {}  # by the names of their cells


class Recurrent(Layer, ABC):
    """Layers of one recurrent cell, in one or both directions.

    The base of `RNN`, `LSTM`, `GRU`, `MGU`, `SLSTM` and `LSTM1997`. Every argument except `seed` is
    also an attribute, fixed at construction.

    Calls do not change the parameters and may run in several threads at once. The n-th call of
    `forward` draws the n-th random masks of the seed; a call that fails does not count.

    Parameters
    ----------
    input_size : int
        I, the features of a step.
    hidden_size : int
        H, the units of each layer and direction.
    num_layers : int, optional
        Layers on top of each other; each reads the output of the layer below.
    bias : bool, optional
        False: the layer has no ``bias_ih`` and ``bias_hh``.
    batch_first : bool, optional
        True: `x` and `y` are (B, T, ...) instead of (T, B, ...). States are not affected.
    dropout : float, optional
        Probability, 0..1, that `forward` zeroes an element of the input of a layer other than the
        first; the remaining elements are divided by 1 - dropout. A call of the layer drops nothing.
    bidirectional : bool, optional
        True: a second cell reads each sequence from its end; the outputs of both are joined on the
        last axis.
    dilation : int or sequence of int, optional
        k > 1: the state of k steps before replaces the state of one step before (Chang et al.,
        2017, arXiv:1710.02224). A sequence of int has one k for each layer.
    skip : int, optional
        k > 0: h of k steps before is added to h. k must be a multiple of each dilation.
    residual : bool, optional
        True: each layer adds its input to its output where both are equally wide: every layer but
        the first always, the first if `input_size` is directions * H.
    reverse : bool, optional
        True: each layer reads each sequence from its last step to its first, as the second cell of
        a bidirectional layer does; `y` stays aligned with `x`. The names of the parameters are
        those of a forward layer. Not with `bidirectional`.
    learn_state : bool, optional
        True: the initial state of a sequence is a parameter, 0 at first, instead of zeros: at the
        start of a call without a state, and after each reset.
    zoneout : float or pair of float, optional
        Probability, 0..1, that `forward` keeps an element of h from the step before; a call of the
        layer takes the mean instead (Krueger et al., 2017, arXiv:1606.01305). A pair has one
        probability for h and one for the other states of the cell, such as c.
    recurrent_dropout : float, optional
        Probability, 0..1, that `forward` zeroes an element of h in the product with ``weight_hh``,
        the same elements in all steps of a sequence (Gal & Ghahramani, 2016, arXiv:1512.05287); the
        remaining elements are divided by 1 - recurrent_dropout.
    variational_dropout : bool, optional
        True: `dropout` zeroes the same elements in all steps of a sequence.
    dtype : {"float32", "float64"}, optional
        The type of parameters, computation and results; other real input is converted.
    seed : int or numpy.random.Generator, optional
        For the initial parameters, U(-1/sqrt(H), 1/sqrt(H)), and for the random masks; a random
        seed if omitted.
    compute : {"bf16", "bf16_if_available"}, optional
        "bf16": products in bfloat16, everything else in float32, as in `lstm_forward`;
        "bf16_if_available": the same where the CPU supports it, else all in float32.

    Attributes
    ----------
    parameters : dict of str to ndarray
        Of layer 0 ``weight_ih_l0`` (G*H, I), ``weight_hh_l0`` (G*H, H), ``bias_ih_l0`` and
        ``bias_hh_l0`` (G*H,), where G is the number of gates, as in PyTorch. Layers above count up
        and have directions * H columns in ``weight_ih``; the names of the reverse direction end
        with ``_reverse``. With `layer_norm` also ``gain_ih_l0`` and ``gain_hh_l0`` (G*H,), 1 at
        first; with `learn_state` ``h0_l0`` (H,), and ``c0_l0`` (H,) of `LSTM`, 0 at first.
    dilations : tuple of int
        The dilation of each layer.
    """

    _kind: ClassVar[str]  # of the cell, in the table of cells
    _cells: list[BoundCell]
    input_size: int
    hidden_size: int
    num_layers: int

    @abstractmethod
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
        reverse: bool = False,
        learn_state: bool = False,
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
        caller, cell = type(self).__name__, CELLS[self._kind]
        self.bias = as_flag(caller, "bias", bias)  # PyTorch's RNN has the activation in its place
        self.batch_first = as_flag(caller, "batch_first", batch_first)
        self.bidirectional = as_flag(caller, "bidirectional", bidirectional)
        self.residual = as_flag(caller, "residual", residual)
        self.reverse = as_flag(caller, "reverse", reverse)
        self.learn_state = as_flag(caller, "learn_state", learn_state)
        if self.reverse and self.bidirectional:
            raise ValueError(f"{caller}: reverse is True, expected False with bidirectional")
        self.variational_dropout = as_flag(caller, "variational_dropout", variational_dropout)
        self.dropout = as_probability(caller, "dropout", dropout)
        self.recurrent_dropout = as_probability(caller, "recurrent_dropout", recurrent_dropout)
        if dropout and num_layers == 1:
            warnings.warn(f"{caller}: dropout acts between layers, num_layers is 1", stacklevel=4)
        self.zoneout = cell.options["zoneout"].check(caller, "zoneout", zoneout)
        self.dilations = as_dilations(caller, dilation, self.num_layers)
        self.dilation = self.dilations if isinstance(dilation, Sequence) else self.dilations[0]
        self.skip = as_skip(caller, skip, self.dilations)
        as_bf16(caller, compute, self.dtype)
        self.compute = compute
        self.rates = Rates(
            self.dropout, self.zoneout, self.recurrent_dropout, self.variational_dropout
        )
        self.structure = self._structure()
        make_new(self, as_generator(caller, "seed", seed))

    def __init_subclass__(cls, kind: str | None = None) -> None:
        if kind is not None:
            cls._kind = kind
            LAYERS[kind] = cls
            cls.__doc__ = composed(cls.__doc__, Recurrent.__doc__, cls.__init__)

    def _take_options(self, given: dict[str, Any]) -> dict[str, Any]:
        """Check and keep the cell's options among `locals()`; return the options of `Recurrent`."""
        self.__dict__.pop("structure", None)  # a second call of __init__ may set all anew
        own = own_options(self._kind)
        for name, option in own.items():
            setattr(self, name, option.check(type(self).__name__, name, given[name]))
        return {n: v for n, v in given.items() if n not in own and n not in ("self", "__class__")}

    def _structure(self) -> Structure:
        options = CELLS[self._kind].options
        own = {n: getattr(self, n) for n in own_options(self._kind) if n in options}
        return Structure(
            caller=type(self).__name__,
            kind=self._kind,
            input_size=self.input_size,
            hidden_size=self.hidden_size,
            width=getattr(self, "proj_size", 0) or self.hidden_size,
            num_layers=self.num_layers,
            directions=1 + self.bidirectional,
            bias=self.bias,
            batch_first=self.batch_first,
            dilations=self.dilations,
            skip=self.skip,
            residual=self.residual,
            reverse=self.reverse,
            learn_state=self.learn_state,
            dtype=self.dtype,
            compute=self.compute,
            options={n: v for n, v in own.items() if n not in LEARNT and v != options[n].default},
            learnt=tuple(n for n, of in LEARNT.items() if n in options and getattr(self, of.name)),
        )

    def _bind(self) -> None:
        s, arrays = self.structure, self.parameters
        self._cells = [BoundCell(s, self.rates, arrays, k) for k in range(s.cells)]
        self._layers = [self._cells[k : k + s.directions] for k in range(0, s.cells, s.directions)]
        self._no_options: list[dict[str, Any]] = [{}] * s.cells

    def __getstate__(self) -> dict[str, Any]:
        bound = ("_cells", "_layers", "_no_options")
        return {n: value for n, value in super().__getstate__().items() if n not in bound}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind()

    if not TYPE_CHECKING:  # to a type checker, an unknown attribute stays an error

        def __setattr__(self, name: str, value: Any) -> None:
            """Refuse to change an option: cells are bound to the options at construction."""
            if "structure" in self.__dict__ and name in _fixed(self._kind):
                caller = type(self).__name__
                raise AttributeError(
                    f"{caller}: {name} is fixed at construction, expected a new layer: "
                    f"{caller}(..., {name}={shown(value)}) and load(parameters)"
                )
            super().__setattr__(name, value)

    def stream(self, batch: int = 1, state: State = None) -> Stream:
        """Make a copy that runs step by step and keeps its state from call to call.

        Parameters
        ----------
        batch : int, optional
            B, the number of sequences in every call.
        state : array_like, shape (num_layers, B, H), optional
            Initial state, zeros or the learnt state if omitted; for `LSTM` a tuple (h, c).

        Returns
        -------
        Stream
            It has the current parameters. Nothing in it is random, as in a call of the layer.

        Raises
        ------
        ValueError
            If the layer is bidirectional or reverse (it would need the end of the sequence first),
            has a dilation or skip (it would need more than one state), or a value or shape is
            wrong.
        """
        return Stream(self.structure, self._cells, batch, state)

    def prepare(self, weights: str | None = None) -> Prepared:
        """Pack the weights once, for many calls in inference: see `Prepared`.

        Parameters
        ----------
        weights : "int8", optional
            Round each row of the weights to 8 bits, which is faster for few sequences and large
            layers. For `RNN`, `LSTM` and `GRU` in float32 with no option but `activation`,
            `dilation` and `residual`; `compute` then has no effect.

        Raises
        ------
        ValueError
            If the layer cannot have such weights, or the CPU no products for its `compute`.
        """
        return Prepared(self, weights)

    @answering
    def __call__(
        self,
        x: ArrayLike,
        state: State = None,
        lengths: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[Array, State]:
        """Run the layer for inference: nothing is random, nothing is kept for a backward pass.

        Parameters
        ----------
        x : array_like, shape (T, B, I), or (B, T, I) with `batch_first`
            T steps of B sequences.
        state : array_like, shape (num_layers * directions, B, H), optional
            Initial state; zeros, or the learnt state, if omitted. For `LSTM` a tuple (h, c), for
            `SLSTM` (h, c, n, m), for `LSTM1997` (h, c, i, o). With one dilation k for all layers
            the shape is (num_layers * directions, k, B, H), the oldest step first. With several
            dilations the rows of all layers follow each other: (directions * sum of dilations, B,
            H).
        lengths : array_like of int, shape (B,), optional
            The number of steps of each sequence, 0..T, in any order. Later steps of `x` are not
            read and are 0 in `y`; the final state is the state after the last step of each
            sequence.
        resets : array_like of bool, shape (T, B), or (B, T) with `batch_first`, optional
            True at a step where another sequence begins: no state passes from the steps before it
            to this step, nor the other way in the reverse direction. It begins with zeros, or with
            the learnt state. Not with a dilation.

        Returns
        -------
        y : ndarray, shape (T, B, directions * H), or (B, T, directions * H) with `batch_first`
            h of the top layer after each step.
        state : ndarray or tuple of ndarray
            Final state, in the shape of the initial state.

        Raises
        ------
        ValueError
            If a shape disagrees with the layer or with `x`, or a length is outside 0..T.
        TypeError
            If `x` or `state` does not hold real numbers, `lengths` integers, or `resets` booleans.
        """
        y, final, _ = self._run(x, state, lengths, resets, False)
        return y, final

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

        Parameters
        ----------
        x, state, lengths, resets
            As in a call of the layer. The tape refers to `x`, which must not change before
            `backward`; see `lstm_forward`.
        checkpoint : "sqrt" or int, optional
            Keep a smaller tape for each layer and direction, of about sqrt(T) segments or of a
            number of bytes; `backward` computes the missing values again, as in `lstm_forward`.

        Returns
        -------
        y : ndarray, shape (T, B, directions * H), or (B, T, directions * H) with `batch_first`
            h of the top layer after each step. Read-only: change a copy.
        state : ndarray or tuple of ndarray
            Final state, in the shape of the initial state.
        tape : RecurrentTape
            For `backward`.

        Raises
        ------
        ValueError, TypeError
            As a call of the layer; also if `checkpoint` is wrong.
        """
        if self.mask_counter is None:
            return self._run(x, state, lengths, resets, True, None, checkpoint)
        with self.mask_counter.next_call() as rng:
            return self._run(x, state, lengths, resets, True, rng, checkpoint)

    def _run(
        self,
        x: ArrayLike,
        state: State,
        given_lengths: ArrayLike | None,
        given_resets: ArrayLike | None,
        training: bool,
        rng: np.random.Generator | None = None,
        checkpoint: str | int | None = None,
    ) -> tuple[Array, State, Any]:
        s = self.structure
        x = time_major(s, "x", x, s.input_size, "input_size")
        T, B, _ = x.shape
        lengths = as_lengths_within(s.caller, given_lengths, T, B)
        initial = split_state(s, "state", state, B)
        masks = draw(s, self.rates, rng, T, B) if rng else NO_MASKS
        more = [masks.options(k) for k in range(s.cells)] if rng else self._no_options
        if given_resets is not None:
            resets = as_resets(s, given_resets, T, B)
            both = (resets, resets_of_reverse(resets, lengths))
            more = [o | {"resets": both[s.is_reverse(k)]} for k, o in enumerate(more)]
        final: list[State] = []
        tapes: list[Any] = []
        for layer, cells in enumerate(self._layers):
            below, outputs = x, []
            if layer and masks.dropout:
                x = x * masks.dropout[layer - 1]
            for cell in cells:
                k = cell.number
                first = cell.initial.state(initial[k], B, given_resets is not None)
                y, last, tape = cell.forward(x, first, lengths, training, more[k], checkpoint)
                outputs.append(y)
                final.append(last)
                tapes.append(tape)
            x = y if len(outputs) == 1 else np.concatenate(outputs, axis=-1)
            if s.residual and s.adds_input(layer):
                x = x + without_padding(below, lengths)
        y = x.swapaxes(0, 1) if s.batch_first else x
        last = join_state(s, final, B)
        if not training:
            return y, last, None
        y.flags.writeable = False  # with one direction, the tape refers to it
        return y, last, RecurrentTape(self, (T, B), tapes, *masks, lengths, state is not None)

    def backward(
        self,
        tape: RecurrentTape,
        dy: ArrayLike | None = None,
        dstate: State = None,
        *,
        step_clip: StepClip | None = None,
        cut: int | None = None,
        trace: bool | str | None = None,
        grads: Wanted = None,
    ) -> LayerGrads:
        """Backpropagate through time: gradients of a loss from its gradients at the outputs.

        Parameters
        ----------
        tape : RecurrentTape
            The third result of `forward`; not modified.
        dy : array_like, shape of `y`, optional
            Gradient of the loss with respect to `y`; zeros if omitted. Padding is not read.
        dstate : array_like, shape of the final state, optional
            Gradient of the loss with respect to the final state; zeros if omitted. For `LSTM` a
            tuple (dh, dc), one of which may be None.
        step_clip : (kind, bound) or (kind, bound, target), optional
            Limit the gradient of h that each step passes back to the step before:
            ``("value", bound)`` limits each element, ``("norm", bound)`` the Euclidean norm of each
            sequence. A `target` limits another gradient instead: "c", of the state c, with the part
            that zoneout kept; "gates", of the pre-activations.
        cut : int, optional
            Stop the gradient after every `cut` steps, counted from the end of each sequence's
            processing, as if the state were detached there. Not with a dilation.
        trace : bool or "full", optional
            Record how the gradient flows, in `LayerGrads.trace`, a `LayerTrace`. "full" also keeps
            all gradients of states and gates, which takes memory.
        grads : collection of str, optional
            The gradients to compute: names of parameters, or "params" for all that are not frozen,
            "x" and "state"; all if omitted. The others cost no time: with ``["params"]`` a first
            layer trains in about five sixths of it. Layers below the lowest whose gradient is
            wanted are left out altogether.

        Returns
        -------
        LayerGrads
            The fields ``params`` (dict by parameter name), ``x``, ``state`` and ``trace``.

        Raises
        ------
        ValueError
            If a shape does not fit, `step_clip` is wrong, or `x` or `y` has changed since then.
        TypeError
            If `tape` is not from this layer's `forward`, or a gradient does not hold real numbers.
        """
        s = self.structure
        if not isinstance(tape, RecurrentTape) or tape.layer is not self:
            self._refuse_tape(tape, "third")
        if cut is not None and max(s.dilations) > 1:
            raise ValueError(f"{s.caller}: cut is {shown(cut)}, expected None with a dilation")
        D, P, B = s.directions, s.width, tape.shape[1]
        d: Any = None
        if dy is not None:
            symbol = "directions * P" if "w_hr" in s.learnt else "directions * H"
            d = time_major(s, "dy", dy, D * P, symbol, tape.shape)
        final = split_state(s, "dstate", dstate, B)
        how = as_backward_how(f"{s.kind}_backward", step_clip, cut, trace)
        wanted = None if grads is None and not self.frozen else self._wanted(grads, ("x", "state"))
        return through_layers(s, self._cells, tape, d, final, how, wanted)


@cache
def _fixed(kind: str) -> frozenset[str]:
    """The attributes of a layer of this kind that its cells are bound to."""
    shared = arguments_of(Recurrent.__init__)
    return frozenset((*shared, *own_options(kind), "dilations")) - {"seed"}


def with_arrays(layer: Recurrent, arrays: Mapping[str, Array]) -> Recurrent:
    """A copy of `layer` that computes with `arrays`, of any type, in place of its parameters."""
    twin = copy.copy(layer)
    twin._parameters = arrays  # type: ignore[assignment]
    twin._bind()
    return twin
