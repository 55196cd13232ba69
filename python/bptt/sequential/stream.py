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
from .._validate import as_bools, as_count, as_float, check_shape
from ..layers.layer_norm import LayerNorm
from ..layers.linear import Linear
from ..layers.pooling import Last, MeanPool
from ..layers.recurrent import Recurrent
from .places import Place, titled

__all__ = ["SequentialStream", "in_one_order"]


class Running:
    """One layer that keeps nothing from step to step."""

    def __init__(self, place: Place, batch: int) -> None:
        self.layer = copy.deepcopy(place.layer)

    def step(self, x: Any) -> Any:
        return self.layer(x)

    def reset(self, chosen: Array) -> None:
        pass


class RunningLinear(Running):
    """The core's product, which has the same bits in any batch and in C."""

    def __init__(self, place: Place, batch: int) -> None:
        of, self.shape = place.layer, (batch, place.layer.in_features)
        parts = of.parameters["weight"], of.parameters["bias"] if of.bias else None
        self.dtype, self.arguments = of.dtype, (*map(own, parts), of.activation)

    def step(self, x: Any) -> Any:
        x = as_rows("Linear", x, self.dtype, "(B, in_features)", self.shape)
        return _core.linear(x, *self.arguments)


class RunningNorm(Running):
    """The core's normalisation."""

    def __init__(self, place: Place, batch: int) -> None:
        of, self.shape = place.layer, (batch, place.layer.size)
        parts = of.parameters["weight"], of.parameters["bias"]
        self.dtype, self.arguments = of.dtype, (*map(own, parts), of.eps)

    def step(self, x: Any) -> Any:
        x = as_rows("LayerNorm", x, self.dtype, "(B, size)", self.shape)
        return _core.layer_norm(x, *self.arguments)


class RunningState(Running):
    """A recurrent layer."""

    def __init__(self, place: Place, batch: int) -> None:
        self.stream = place.layer.stream(batch)

    def step(self, x: Any) -> Any:
        return self.stream.step(x)

    def reset(self, chosen: Array) -> None:
        self.stream.reset(chosen)


class RunningLast(Running):
    """The newest step is the last one so far."""

    def step(self, x: Any) -> Any:
        return x


class RunningMean(Running):
    """The sum of the steps so far, and their number."""

    def __init__(self, place: Place, batch: int) -> None:
        self.sum, self.count = np.zeros((batch, place.before.size or 0)), np.zeros((batch, 1))

    def step(self, x: Any) -> Any:
        if self.sum.shape[1] != x.shape[1]:  # the row does not say how many features there are
            self.sum = np.zeros(x.shape)
        self.sum += x
        self.count += 1
        return (self.sum / self.count).astype(x.dtype)

    def reset(self, chosen: Array) -> None:
        self.sum[chosen], self.count[chosen] = 0, 0


RUNNING: dict[type[Any], type[Running]] = {
    Recurrent: RunningState, Linear: RunningLinear, LayerNorm: RunningNorm, Last: RunningLast,
    MeanPool: RunningMean,
}  # fmt: skip


def own(array: Array | None) -> Array | None:
    """A copy as the core takes it."""
    return None if array is None else np.array(array, order="C")


def as_rows(caller: str, x: ArrayLike, dtype: Any, axes: str, shape: tuple[int, int]) -> Array:
    rows = as_float(caller, "x", x, dtype)
    check_shape(caller, "x", rows, axes, shape)
    return np.ascontiguousarray(rows)


def in_one_order(layer: Linear, x: Array) -> Array:
    """The output of a layer for rows (B, in_features), with the bits that a stream has."""
    x = as_rows("Linear", x, layer.dtype, "(B, in_features)", (len(x), layer.in_features))
    parts = map(np.ascontiguousarray, layer.parameters.values())
    weight, bias = [*parts, None][:2]
    y: Array = _core.linear(x, weight, bias, layer.activation)
    return y


class SequentialStream:
    """A model that keeps its states from call to call; made by `Sequential.stream`.

    Each step gives the output that the model would give if the sequences ended there. The recurrent
    layers give the bits of a call over the whole sequence. `Linear` and `LayerNorm` add in a fixed
    order, with the same bits in any batch and in the program of `save_c_header`. A call of the
    model uses NumPy for these two, so its last bits may differ. A stream has a copy of the
    parameters: after further training, make another one.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> model = bptt.Sequential(bptt.GRU(3, 4, seed=0), bptt.Last(), bptt.Linear(4, 2, seed=1))
    >>> x = np.ones((6, 1, 3), np.float32)
    >>> stream = model.stream()
    >>> for x_t in x:
    ...     y = stream.step(x_t)
    >>> bool(np.allclose(y, model(x)))
    True
    """

    def __init__(
        self, places: Sequence[Place], batch: int, state: Sequence[State] | None, repr_: str
    ) -> None:
        caller = "Sequential.stream"
        self._batch, self._parts = as_count(caller, "batch", batch, 1, 1 << 31), list[Running]()
        for k, place in enumerate(places):
            if place.pools and not isinstance(place.layer, (Last, MeanPool)):
                raise ValueError(
                    f"{caller}: {titled(k, place.layer)}, needs all steps at once, expected Last "
                    "or MeanPool"
                )
            kind = next((r for of, r in RUNNING.items() if isinstance(place.layer, of)), Running)
            try:
                self._parts.append(kind(place, self._batch))
            except ValueError as error:
                text = str(error).partition(": ")[2]
                raise ValueError(f"{caller}: {titled(k, place.layer)}: {text}") from error
        self._streams = [part.stream for part in self._parts if isinstance(part, RunningState)]
        self._name = repr_
        if state is not None:
            self.state = state

    def __repr__(self) -> str:
        return f"SequentialStream(batch={self._batch}) of {self._name}"

    def __reduce__(self) -> Any:
        raise TypeError(
            "stream: it holds packed weights and cannot be pickled or copied: keep the model and "
            "stream.state, and make another by model.stream(batch, state)"
        )

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
        array = np.asarray(x)
        if not array.ndim or array.shape[0] != self._batch:
            raise ValueError(
                f"stream.step: x has shape {array.shape}, expected B = {self._batch} first"
            )
        y: Any = x
        for part in self._parts:
            y = part.step(y)
        return y

    def reset(self, mask: ArrayLike | None = None) -> None:
        """Begin other sequences: set the states to zero, or to the learnt states.

        Parameters
        ----------
        mask : array_like of bool, shape (B,), optional
            True for the sequences to reset; all if omitted.

        Raises
        ------
        ValueError, TypeError
            If the mask has another shape or does not hold booleans.
        """
        mask = np.ones(self._batch, bool) if mask is None else mask
        chosen = as_bools("stream.reset", "mask", mask)
        check_shape("stream.reset", "mask", chosen, "(B,)", (self._batch,))
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
