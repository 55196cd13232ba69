# SPDX-License-Identifier: MIT
"""A `Sequential` that runs step by step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import _core
from .._types import Array, State
from .._validate import as_array, as_count, as_float, as_own_float, prepare
from ..layers.attention import Attention
from ..layers.base import Layer
from ..layers.embedding import Embedding
from ..layers.layer_norm import LayerNorm
from ..layers.linear import Linear
from ..layers.pooling import Last, MeanPool
from ..layers.recurrent import Recurrent
from ..layers.stream import StreamBase
from .places import Place, features_of, titled

__all__ = ["SequentialStream", "in_one_order"]


class Running:
    """One layer that keeps nothing from step to step."""

    def __init__(self, place: Place, batch: int, state: State) -> None:
        self.layer = copy.deepcopy(place.layer)

    def step(self, x: Any) -> Any:
        return self.layer(x)

    def process(self, x: Any) -> Any:
        """Several steps, in the model's order of axes."""
        return self.step(x)

    def reset(self, chosen: Array) -> None:
        pass


class RunningRows(Running):
    """A function of the core for each row, which has the same bits in any batch and in C."""

    def __init__(self, place: Place, batch: int, state: State) -> None:
        super().__init__(place, batch, state)
        is_linear = isinstance(place.layer, Linear)
        self.function = _core.linear if is_linear else _core.layer_norm
        self.arguments = of_linear(self.layer) if is_linear else of_norm(self.layer)

    def step(self, x: Any) -> Any:
        return self.function(as_rows(x, self.layer.dtype), *self.arguments)

    def process(self, x: Any) -> Any:
        y = self.step(x.reshape(-1, x.shape[-1]))
        return y.reshape(*x.shape[:-1], y.shape[-1])


class RunningState(Running):
    """A recurrent layer."""

    def __init__(self, place: Place, batch: int, state: State) -> None:
        self.stream = place.layer.stream(batch, state)

    def step(self, x: Any) -> Any:
        return self.stream.step(x)

    def process(self, x: Any) -> Any:
        return self.stream.process(x)

    def reset(self, chosen: Array) -> None:
        self.stream.reset(chosen)


class RunningLast(Running):
    """The newest step is the last one so far."""

    def step(self, x: Any) -> Any:
        return x


class RunningMean(Running):
    """A weighted sum of the steps so far, and the sum of their weights: here all 1."""

    def __init__(self, place: Place, batch: int, state: State) -> None:
        super().__init__(place, batch, state)
        self.axis = int(place.before.batch_first)
        self.sum, self.weights = np.zeros((batch, 1)), np.zeros((batch, 1))

    def step(self, x: Any) -> Any:
        self.sum, self.weights = self.sum + x, self.weights + 1
        return (self.sum / self.weights).astype(x.dtype)

    def process(self, x: Any) -> Any:
        y = [self.step(x_t) for x_t in x.swapaxes(0, self.axis)]
        return np.stack(y, self.axis) if y else x

    def reset(self, chosen: Array) -> None:
        self.sum[chosen], self.weights[chosen] = 0, 0


class RunningAttention(RunningMean):
    """The weights are exp(score - the greatest score so far): all before shrink if it grows."""

    def __init__(self, place: Place, batch: int, state: State) -> None:
        super().__init__(place, batch, state)
        self.greatest = np.full((batch, 1), -np.inf)

    def step(self, x: Any) -> Any:
        x = as_rows(x, self.layer.dtype)
        key, bias, score = (
            parameter(self.layer, n) for n in ("weight_key", "bias", "weight_score")
        )
        keys = _core.linear(x, key, bias, "tanh")
        scores = _core.linear(keys, score[None], None, "identity").astype(np.float64)
        before, self.greatest = self.greatest, np.maximum(self.greatest, scores)
        kept, weights = np.exp(before - self.greatest), np.exp(scores - self.greatest)
        self.sum, self.weights = self.sum * kept + weights * x, self.weights * kept + weights
        return (self.sum / self.weights).astype(x.dtype)

    def reset(self, chosen: Array) -> None:
        super().reset(chosen)
        self.greatest[chosen] = -np.inf


RUNNING: dict[type[Any], type[Running]] = {
    Recurrent: RunningState, Linear: RunningRows, LayerNorm: RunningRows, Last: RunningLast,
    MeanPool: RunningMean, Attention: RunningAttention,
}  # fmt: skip


def as_rows(x: ArrayLike, dtype: np.dtype[Any]) -> Array:
    """(rows, n) as the core takes it."""
    return prepare(as_float("Sequential.stream", "x", x, dtype), dtype)


def parameter(layer: Layer, name: str) -> Any:
    """A parameter as the core takes it: of a pickle it may lie in a file. None if there is none."""
    array = layer.parameters.get(name)
    return None if array is None else prepare(array, layer.dtype)


def of_linear(layer: Linear) -> tuple[Array, Array | None, str]:
    return parameter(layer, "weight"), parameter(layer, "bias"), layer.activation


def of_norm(layer: LayerNorm) -> tuple[Array, Array, float]:
    return parameter(layer, "weight"), parameter(layer, "bias"), layer.eps


def in_one_order(layer: Linear, x: Array) -> Array:
    """The output of a layer for rows (B, in_features), with the bits that a stream has."""
    y: Array = _core.linear(as_rows(x, layer.dtype), *of_linear(layer))
    return y


class SequentialStream(StreamBase):
    """A model that keeps its states from call to call; made by `Sequential.stream`.

    Each step gives the output that the model would give if the sequences ended there. The recurrent
    layers give the bits of a call over the whole sequence. `Linear` and `LayerNorm` add in a fixed
    order, with the same bits in any batch and in the program of `save_c_header`. A call of the
    model uses NumPy for these two, so its last bits may differ. So may those of `Attention`, which
    keeps sums over the steps so far. The bits do not depend on how `step` and `process` cut the
    sequence. A stream has a copy of the parameters: after further training, make another one.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> model = bptt.Sequential(bptt.GRU(3, 4, seed=0), bptt.Last(), bptt.Linear(4, 2, seed=1))
    >>> x = np.ones((6, 1, 3), np.float32)
    >>> stream = model.stream()
    >>> y = stream.step(x[0])
    >>> rest = stream.process(x[1:])
    >>> rest.shape
    (5, 1, 2)
    >>> bool(np.allclose(rest[-1], model(x)))
    True
    """

    def __init__(
        self, places: Sequence[Place], batch: int, states: Sequence[State], name: str
    ) -> None:
        caller, first = "Sequential.stream", places[0].layer
        batch, self._parts = as_count(caller, "batch", batch, 1, 1 << 31), list[Running]()
        self._ids = isinstance(first, Embedding)
        self._shape = (batch,) if self._ids else (batch, features_of(places))
        self._batch_first, self._name = places[-1].after.batch_first, name
        for k, (place, state) in enumerate(zip(places, states)):
            kind = next((r for of, r in RUNNING.items() if isinstance(place.layer, of)), Running)
            try:
                self._parts.append(kind(place, batch, state))
            except (ValueError, TypeError) as error:
                text = str(error).partition(": ")[2]
                raise type(error)(f"{caller}: {titled(k, place.layer)}: {text}") from error
        self._streams = [part.stream for part in self._parts if isinstance(part, RunningState)]

    def __repr__(self) -> str:
        return f"SequentialStream(batch={self._shape[0]}) of {self._name}"

    def step(self, x: ArrayLike) -> Any:
        """Run one step.

        Parameters
        ----------
        x : array_like, shape (B, I), or (B,) of ids if the first layer is an `Embedding`

        Returns
        -------
        ndarray, shape (B, ...)
            The output if the sequences ended with this step.

        Raises
        ------
        ValueError, TypeError
            If `x` has another shape or does not hold numbers of its kind.
        """
        y = self._checked("step", x)
        for part in self._parts:
            y = part.step(y)
        return y

    def process(self, x: ArrayLike) -> Any:
        """Run several steps.

        Parameters
        ----------
        x : array_like, shape (T, B, I), or (T, B) of ids if the first layer is an `Embedding`
            (B, T, ...) if the recurrent layers have `batch_first`.

        Returns
        -------
        ndarray, shape (T, B, ...) or (B, T, ...)
            The output after each step, with the bits of `step`.

        Raises
        ------
        ValueError, TypeError
            If `x` has another shape or does not hold numbers of its kind.
        """
        y = self._checked("process", x)
        for part in self._parts:
            y = part.process(y)
        return y

    def _checked(self, call: str, x: ArrayLike) -> Array:
        check = as_array if self._ids else as_own_float  # an embedding checks its ids
        array = check(f"stream.{call}", "x", x)
        self._check_x(call, array, x)
        if None in self._shape:  # the row says nothing of the features, but the sums keep them
            self._shape = (self._shape[0], array.shape[-1])
        return array

    def _reset(self, chosen: Array) -> None:
        for part in self._parts:
            part.reset(chosen)

    @property
    def state(self) -> list[State]:
        """Copies of the states of the recurrent layers; a list can be assigned."""
        return [stream.state for stream in self._streams]

    @state.setter
    def state(self, value: Any) -> None:
        count = len(self._streams)
        if not isinstance(value, (list, tuple)) or len(value) != count:
            raise TypeError(f"stream: state has another form, expected a list of {count} states")
        before = self.state
        try:
            for stream, one in zip(self._streams, value):
                stream.state = one
        except BaseException:
            for stream, one in zip(self._streams, before):
                stream.state = one
            raise
