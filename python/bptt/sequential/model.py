# SPDX-License-Identifier: MIT
"""`Sequential`: layers in a row as one layer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NoReturn, final

import numpy as np
from numpy.typing import ArrayLike

from .._files.access import Path
from .._types import Array, State, StepClip, Wanted
from .._validate import as_callable, as_integers, check_mapping
from .._words import listed
from ..io import save
from ..layers.base import Layer, LayerGrads
from ..layers.masks import MaskCount, MaskCounter
from ..layers.parameters import Parameters, split
from ..losses import loss_of
from ..trace.trace import LayerTrace
from .description import as_metadata
from .places import Place, places_of, titled
from .stream import SequentialStream
from .tape import SequentialTape

__all__ = ["Sequential"]

Loss = Callable[..., tuple[float, ArrayLike]]


@final
class Sequential(Layer):
    """Layers in a row: each takes the output of the layer before it.

    The results are bit-identical to calling the layers by hand. `lengths` and `resets` go to every
    layer that takes them. `Last`, `MeanPool` and `Attention` (additive, without a query) remove the
    time axis, and follow the ``batch_first`` and the directions of the recurrent layer below them.

    Parameters
    ----------
    *layers : Layer
        One or more: `Embedding` (only as the first), recurrent layers, `Linear`, `LayerNorm`,
        `Dropout`, `Last`, `MeanPool`, `Attention`. They are not copied: training the model changes
        them. All have the same dtype, and all recurrent layers the same ``batch_first``.

    Attributes
    ----------
    layers : tuple of Layer
        The layers.
    parameters : dict of str to ndarray
        By "number.name", as in ``torch.nn.Sequential``: ``0.weight``, ``1.weight_ih_l0``. They are
        the arrays of the layers.
    batch_first : bool
        True if the axes of x are (B, T, ...), False if they are (T, B, ...).

    Raises
    ------
    ValueError
        If a layer does not fit the layers before it; the message names it by number and class.
    TypeError
        If an argument is not one of these layers.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> model = bptt.Sequential(
    ...     bptt.Embedding(50, 16, seed=0), bptt.LSTM(16, 64, seed=1), bptt.Dropout(0.2, seed=2),
    ...     bptt.Last(), bptt.Linear(64, 9, seed=3),
    ... )
    >>> model
    Sequential
      0  Embedding(50, 16)  (T, B, 16)     800
      1  LSTM(16, 64)       (T, B, 64)  20,992
      2  Dropout(p=0.2)     (T, B, 64)
      3  Last()             (B, 64)
      4  Linear(64, 9)      (B, 9)         585
      22,377 parameters
    >>> ids, lengths = np.array([[3, 4], [8, 0]]), [2, 1]  # 2 steps of 2 sequences
    >>> value, grads = model.loss_and_grads(ids, [7, 1], bptt.cross_entropy, lengths=lengths)
    >>> bptt.Adam(model.parameters).step(grads)
    >>> model(ids, lengths=lengths).shape
    (2, 9)
    """

    def __init__(self, *layers: Any) -> None:
        if not layers:
            raise ValueError("Sequential: layers is empty, expected at least one layer")
        self.layers: tuple[Any, ...] = tuple(layers)
        self._bind()

    def _bind(self) -> None:
        self._places = places_of("Sequential", self.layers)
        parts = {str(k): layer.parameters for k, layer in enumerate(self.layers)}
        names = {f"{k}.{n}": array for k, of_one in parts.items() for n, array in of_one.items()}
        self._parameters, self._parts = Parameters("Sequential", names, parts), [*parts.values()]
        self.mask_counter = None  # each layer has its own
        self.dtype = next((of.dtype for of in self.layers if of.parameters), np.dtype("float32"))
        self._names = [place.names for place in self._places]
        self._no_states: list[State] = [None] * len(self._places)
        self._stateful = [k for k, place in enumerate(self._places) if place.has_state]
        self._counters = [
            (k, of.mask_counter) for k, of in enumerate(self.layers) if of.mask_counter
        ]

    @property
    def batch_first(self) -> bool:
        return self._places[-1].after.batch_first

    def __getstate__(self) -> dict[str, Any]:
        return {"layers": tuple(map(copy.copy, self.layers))}  # a copy counts its masks for itself

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.layers = state["layers"]
        self._bind()

    # --- calls ------------------------------------------------------------------------------------

    def __call__(
        self,
        x: ArrayLike,
        state: Sequence[State] | None = None,
        lengths: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> Array:
        """Run the model for inference: nothing is random, nothing is kept for a backward pass.

        Parameters
        ----------
        x : array_like, shape (T, B, I), or (T, B) of ids if the first layer is an `Embedding`
            T steps of B sequences; (B, T, ...) with ``batch_first``.
        state : list, optional
            The initial state of each recurrent layer, in the form that the layer takes, or None.
        lengths : array_like of int, shape (B,), optional
            The number of steps of each sequence, 0..T.
        resets : array_like of bool, shape (T, B), optional
            True where another sequence begins, for all recurrent layers; (B, T) with
            ``batch_first``.

        Returns
        -------
        y : ndarray
            The output of the last layer.

        Raises
        ------
        ValueError, TypeError
            The error of a layer, with its number and class in front.
        """
        states, k = self._states("state", state), 0
        y: Any = x
        if lengths is not None:
            lengths = as_integers("Sequential", "lengths", lengths)
        try:
            for k, place in enumerate(self._places):
                y = place.call(y, states[k], lengths, resets)
        except (ValueError, TypeError) as error:
            self._blame(k, error)
        return y  # type: ignore[no-any-return]

    def forward(
        self,
        x: ArrayLike,
        state: Sequence[State] | None = None,
        lengths: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[Array, SequentialTape]:
        """Run the model for training: with random masks, and with a tape for `backward`.

        Parameters
        ----------
        x, state, lengths, resets
            As in a call of the model. The tape refers to `x`, which must not change before
            `backward`.

        Returns
        -------
        y : ndarray
            The output of the last layer; it may be read-only.
        tape : SequentialTape
            For `backward`; ``tape.state`` is the final state of each recurrent layer.

        Raises
        ------
        ValueError, TypeError
            As in a call of the model. No random masks are then used up.
        """
        states = self._states("state", state)
        counts = [(k, counter, counter.count) for k, counter in self._counters]
        tapes: list[Any] = []
        finals: list[State] = []
        y: Any = x
        if lengths is not None:
            lengths = as_integers("Sequential", "lengths", lengths)
        try:
            for place, initial in zip(self._places, states):
                y, final, tape = place.forward(y, initial, lengths, resets)
                tapes.append(tape)
                finals.append(final)
        except BaseException as error:
            _take_back(counts, len(tapes))
            if isinstance(error, (ValueError, TypeError)):
                self._blame(len(tapes), error)
            raise
        return y, SequentialTape(self, y.shape, tapes, finals)

    def backward(
        self,
        tape: SequentialTape,
        dy: ArrayLike | None = None,
        dstate: Sequence[State] | None = None,
        *,
        step_clip: StepClip | None = None,
        trace: bool | str | None = None,
        grads: Wanted = None,
    ) -> LayerGrads:
        """Backpropagate through all layers: gradients of a loss from its gradients at the outputs.

        Parameters
        ----------
        tape : SequentialTape
            The second result of `forward`; not modified.
        dy : array_like, shape of `y`, optional
            Gradient of the loss with respect to `y`; zeros if omitted.
        dstate : list, optional
            Gradient of the loss with respect to each final state of ``tape.state``, or None.
        step_clip, trace
            For all recurrent layers, as in their `backward`.
        grads : collection of str, optional
            The gradients to compute: names of parameters, or "params" for all that are not frozen,
            "x" and "state"; all if omitted. Layers below the lowest wanted gradient are not run.

        Returns
        -------
        LayerGrads
            The fields ``params`` (dict by parameter name), ``x`` (None if the first layer is an
            `Embedding`), ``state`` (a list as `dstate`), and ``trace``: one `LayerTrace` with the
            cells of all recurrent layers.

        Raises
        ------
        ValueError, TypeError
            As the layers raise them; also if `tape` is not from this model's `forward`.
        """
        if not isinstance(tape, SequentialTape) or tape.layer is not self:
            self._refuse_tape(tape)
        places, tapes = self._places, tape.tapes
        states, plan = self._states("dstate", dstate), self._plan(grads)
        d: Any = np.zeros(tape.y_shape, self.dtype) if dy is None else dy
        k = len(places)
        found: list[LayerGrads] = []
        try:
            for some in reversed(plan):
                k -= 1
                g = places[k].backward(tapes[k], d, states[k], some, step_clip, trace)
                d = g.x
                found.append(g)
        except (ValueError, TypeError) as error:
            self._blame(k, error)
        found.reverse()
        params = {
            names[name]: array
            for names, g in zip(self._names[k:], found)
            for name, array in g.params.items()
        }
        dx = d if not k and (grads is None or "x" in grads) else None
        state = None
        if grads is None or "state" in grads:
            state = [found[i - k].state if i >= k else None for i in self._stateful]
        seen = [cell for g in found if g.trace for cell in g.trace.cells] if trace else []
        return LayerGrads(params, dx, state, LayerTrace(seen) if seen else None)

    def loss_and_grads(
        self,
        x: ArrayLike,
        target: ArrayLike,
        loss: Loss,
        *,
        state: Sequence[State] | None = None,
        lengths: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[float, dict[str, Array]]:
        """Run forward, loss and backward.

        Parameters
        ----------
        x, state, lengths, resets
            As in a call of the model.
        target : array_like
            The second argument of `loss`.
        loss : callable
            ``loss(y, target)`` returns the loss and its gradient with respect to y, as
            `cross_entropy` does. If y has a time axis and `lengths` is given, `loss` also gets
            ``lengths=lengths``, and ``batch_first=True`` if the layers have that.

        Returns
        -------
        value : float
            The loss.
        grads : dict of str to ndarray
            Its gradients with respect to the parameters that are not frozen.

        Raises
        ------
        ValueError, TypeError
            As the layers and the loss raise them; also if `loss` returns anything else.
        """
        as_callable("Sequential", "loss", loss)
        if lengths is not None:
            lengths = as_integers("Sequential", "lengths", lengths)
        y, tape = self.forward(x, state, lengths, resets)
        inside = lengths if self._places[-1].after.timed else None
        value, dy = loss_of(
            "Sequential", loss, y, target, lengths=inside, batch_first=self.batch_first
        )
        return value, self.backward(tape, dy, grads=PARAMS).params

    def stream(self, batch: int = 1, state: Sequence[State] | None = None) -> SequentialStream:
        """Make a copy that runs step by step and keeps its states: see `SequentialStream`.

        Parameters
        ----------
        batch : int, optional
            B, the number of sequences in every step.
        state : list, optional
            The initial state of each recurrent layer.

        Raises
        ------
        ValueError
            If a layer cannot run step by step, such as one that reads from the end.
        """
        states = self._states("state", state)
        return SequentialStream(self._places, batch, states, f"{len(self.layers)} layers")

    # --- everything that later calls depend on ----------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """The `state_dict` of every layer, with its number before each name."""
        return {
            f"{k}.{name}": array
            for k, layer in enumerate(self.layers)
            for name, array in layer.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Load a result of `state_dict`: the next calls then repeat the original's calls.

        Raises
        ------
        ValueError, TypeError
            If names, shapes or a count of random masks do not fit; nothing has changed then.
        """
        caller = "Sequential.load_state_dict"
        check_mapping(caller, "state", state, tensors=True)
        expected = self.state_dict()
        missing = [name for name in expected if name not in state]
        unexpected = [name for name in state if name not in expected]
        if missing or unexpected:
            raise ValueError(
                f"{caller}: state has missing names {listed(missing)} and unexpected names "
                f"{listed(unexpected)}, expected the names of state_dict()"
            )
        parts, k = split(state), 0
        try:
            for k, layer in enumerate(self.layers):
                layer.load_state_dict(parts.get(str(k), {}))
        except BaseException as error:
            before = split(expected)
            for i, layer in enumerate(self.layers):
                layer.load_state_dict(before.get(str(i), {}))
            if isinstance(error, (ValueError, TypeError)):
                self._blame(k, error)
            raise

    def save(self, path: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write the model to a file, completely or not at all; `bptt.load_model` reads it.

        The file, safetensors or npz, has the `state_dict`, and in its metadata a format version and
        the classes and arguments of the layers as JSON. There is no pickle.

        Parameters
        ----------
        path : str or path-like
            As in `bptt.save`: the suffix decides the format.
        metadata : dict of str to str, optional
            Further text to store; `bptt.load_metadata` reads it.

        Raises
        ------
        ValueError, TypeError, ImportError, OSError
            As in `bptt.save`.

        Examples
        --------
        >>> import os, tempfile
        >>> import bptt
        >>> model = bptt.Sequential(bptt.GRU(3, 4, seed=0), bptt.Last(), bptt.Linear(4, 2, seed=1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(os.path.join(folder, "model.npz"))
        ...     again = bptt.load_model(os.path.join(folder, "model.npz"))
        >>> print(again)
        Sequential
          0  GRU(3, 4)     (T, B, 4)  108
          1  Last()        (B, 4)
          2  Linear(4, 2)  (B, 2)      10
          118 parameters
        """
        if metadata is not None:
            check_mapping("save", "metadata", metadata)
        save(path, self.state_dict(), {**(metadata or {}), **as_metadata(self)})

    def __repr__(self) -> str:
        counts = [sum(a.size for a in of.parameters.values()) for of in self.layers]
        rows = [
            (str(k), place.layer._title(), _shape(place), f"{count:,}" if count else "")
            for k, (place, count) in enumerate(zip(self._places, counts))
        ]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = [
            f"  {k:>{widths[0]}}  {title:{widths[1]}}  {shape:{widths[2]}}  {size:>{widths[3]}}"
            for k, title, shape, size in rows
        ]
        return "\n".join(["Sequential", *map(str.rstrip, lines), f"  {sum(counts):,} parameters"])

    # --- inside -----------------------------------------------------------------------------------

    def _states(self, label: str, state: Sequence[State] | None) -> list[State]:
        """One for each layer, None where it has none."""
        if state is None:
            return self._no_states
        states = self._no_states[:]
        count = len(self._stateful)
        if not isinstance(state, (list, tuple)) or len(state) != count:
            is_list = isinstance(state, (list, tuple))
            has = f"{len(state)} items" if is_list else f"of type {type(state).__name__}"
            raise TypeError(
                f"Sequential: {label} is {has}, expected a list of {count}, one for each recurrent "
                "layer"
            )
        for k, one in zip(self._stateful, state):
            states[k] = one
        return states

    def _plan(self, grads: Wanted) -> list[Wanted]:
        """The gradients to ask of each layer from the top down to the lowest that is needed."""
        nothing_frozen = not any(map(FROZEN, self._parts))
        if nothing_frozen and grads is None:
            return [None] * len(self._places)
        if nothing_frozen and grads is PARAMS and self._places[0].names:
            return [PARAMS] + [None] * (len(self._places) - 1)
        wanted = self._wanted(grads, ("x", "state"))
        plan: list[Wanted] = []
        for place in self._places:
            own = [name for name, full in place.names.items() if full in wanted]
            if "state" in place.inputs and "state" in wanted:
                own.append("state")
            if "x" in place.inputs and ("x" in wanted or any(plan)):
                own.append("x")
            plan.append(own)
        lowest = next((k for k, own in enumerate(plan) if own), len(plan))
        return plan[lowest:]

    def _blame(self, k: int, error: Exception) -> NoReturn:
        """Raise the error of layer k again, with its number and class in front."""
        kind, text = (TypeError if isinstance(error, TypeError) else ValueError), str(error)
        name = type(self.layers[k]).__name__
        number = titled(k, self.layers[k]).removesuffix(name)
        text = text if text.startswith((f"{name}:", f"{name}.")) else f"{name}: {text}"
        raise kind(f"Sequential: {number}{text}") from error


PARAMS = ("params",)
FROZEN = attrgetter("_frozen")


def _take_back(counts: Iterable[tuple[int, MaskCounter, MaskCount]], done: int) -> None:
    """Let no layer below number `done` have counted its call."""
    for k, counter, before in counts:
        counter.take_back(before, int(k < done))


def _shape(place: Place) -> str:
    """The axes of the output of a place."""
    of = place.after
    axes = (("B", "T") if of.batch_first else ("T", "B")) if of.timed else ("B",)
    return f"({', '.join((*axes, '?' if of.size is None else str(of.size)))})"
