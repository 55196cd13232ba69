# SPDX-License-Identifier: MIT
"""How each kind of layer is run in a row: what it takes and gives, and how it is called.

`KINDS` is the one table of the layers that a row may have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from numpy.typing import ArrayLike

from .._types import Array, State, Wanted
from ..layers.attention import Attention
from ..layers.base import LayerGrads
from ..layers.dropout import Dropout
from ..layers.embedding import Embedding
from ..layers.layer_norm import LayerNorm
from ..layers.linear import Linear
from ..layers.pooling import Last, MeanPool
from ..layers.recurrent import Recurrent

__all__ = ["Here", "Place", "features_of", "places_of", "titled"]


class Here(NamedTuple):
    """What the next layer of a row receives."""

    size: int | None = None  # the features of a position; None: any number
    timed: bool = True  # is there a time axis?
    batch_first: bool = False
    bidirectional: bool = False  # did a layer of two directions make it,
    reverse: bool = False  # or one that reads from the end?


class Place:
    """One layer of a row: every position by itself, as `Linear`.

    Attributes
    ----------
    inputs : tuple of str
        The gradients of inputs that the layer's `backward` computes.
    has_state, pools : bool
        Does a call take and give a state? Does it remove the time axis?
    """

    inputs: ClassVar[tuple[str, ...]] = ("x",)
    has_state: ClassVar[bool] = False
    pools: ClassVar[bool] = False

    def __init__(self, layer: Any, number: int, here: Here) -> None:
        self.layer, self.before = layer, here
        self.after = self._after(here)
        self.names = {name: f"{number}.{name}" for name in layer.parameters}

    def _after(self, here: Here) -> Here:
        size = getattr(self.layer, KINDS[kind_of(self.layer)].gives)
        # A mix of the features is no longer made of two directions.
        return here._replace(size=size, bidirectional=False, reverse=False)

    def call(
        self, x: ArrayLike, state: State, lengths: Array | None, resets: ArrayLike | None
    ) -> Any:
        """Return y."""
        return self.layer(x)

    def forward(
        self, x: ArrayLike, state: State, lengths: Array | None, resets: ArrayLike | None
    ) -> Any:
        """Return y, the final state and the tape."""
        y, tape = self.layer.forward(x)
        return y, None, tape

    def backward(
        self, tape: Any, dy: Any, dstate: State, grads: Wanted, step_clip: Any, trace: Any
    ) -> Any:
        """Return `LayerGrads`; the last two are options of recurrent layers."""
        return self.layer.backward(tape, dy, grads=grads)


class OfIds(Place):
    """An embedding: whole numbers have no gradient."""

    inputs = ()


class Elementwise(Place):
    """The same shape and meaning after it as before it."""

    def _after(self, here: Here) -> Here:
        return here


class Stepwise(Place):
    """A recurrent layer: it has a state, and takes lengths and resets."""

    inputs = ("x", "state")
    has_state = True

    def _after(self, here: Here) -> Here:
        of = self.layer
        return Here(
            of.structure.directions * of.structure.width,
            batch_first=of.batch_first, bidirectional=of.bidirectional, reverse=of.reverse,
        )  # fmt: skip

    def call(
        self, x: ArrayLike, state: State, lengths: Array | None, resets: ArrayLike | None
    ) -> Any:
        return self.layer(x, state, lengths, resets)[0]

    def forward(
        self, x: ArrayLike, state: State, lengths: Array | None, resets: ArrayLike | None
    ) -> Any:
        return self.layer.forward(x, state, lengths, resets)

    def backward(
        self, tape: Any, dy: Any, dstate: State, grads: Wanted, step_clip: Any, trace: Any
    ) -> Any:
        return self.layer.backward(tape, dy, dstate, step_clip=step_clip, trace=trace, grads=grads)


class Pooling(Place):
    """From steps to one vector for each sequence, of the steps that its length says."""

    pools = True

    def __init__(self, layer: Any, number: int, here: Here) -> None:
        super().__init__(layer, number, here)
        self.axes = {"batch_first": here.batch_first}
        if isinstance(layer, Last):
            self.axes |= {"bidirectional": here.bidirectional, "reverse": here.reverse}

    def _after(self, here: Here) -> Here:
        return here._replace(timed=False, bidirectional=False, reverse=False)

    def call(
        self, x: ArrayLike, state: State, lengths: Array | None, resets: ArrayLike | None
    ) -> Any:
        return self.layer(x, lengths, **self.axes)

    def forward(
        self, x: ArrayLike, state: State, lengths: Array | None, resets: ArrayLike | None
    ) -> Any:
        y, tape = self.layer.forward(x, lengths, **self.axes)
        return y, None, tape


class Weighted(Place):
    """Attention without a query, which is always time-major."""

    pools = True

    def _after(self, here: Here) -> Here:
        return here._replace(timed=False, bidirectional=False, reverse=False)

    def _steps(self, x: Any) -> Any:
        return x.swapaxes(0, 1) if self.before.batch_first else x

    def call(
        self, x: ArrayLike, state: State, lengths: Array | None, resets: ArrayLike | None
    ) -> Any:
        return self.layer(self._steps(x), lengths=lengths)[0]

    def forward(
        self, x: ArrayLike, state: State, lengths: Array | None, resets: ArrayLike | None
    ) -> Any:
        context, _, tape = self.layer.forward(self._steps(x), lengths=lengths)
        return context, None, tape

    def backward(
        self, tape: Any, dy: Any, dstate: State, grads: Wanted, step_clip: Any, trace: Any
    ) -> Any:
        params, dx, _ = self.layer.backward(tape, dy, grads=grads)
        return LayerGrads(params, dx if dx is None else self._steps(dx))


# --- the table ------------------------------------------------------------------------------------


class Kind(NamedTuple):
    place: type[Place]
    takes: str = ""  # the layer's attribute that says how many features it takes; "": any number
    gives: str = ""  # the one that says how many it gives, where `Place._after` reads it


KINDS: dict[Any, Kind] = {
    Embedding: Kind(OfIds, gives="embedding_dim"),
    Recurrent: Kind(Stepwise, "input_size"),
    Linear: Kind(Place, "in_features", "out_features"),
    LayerNorm: Kind(Elementwise, "size"),
    Dropout: Kind(Elementwise),
    Last: Kind(Pooling),
    MeanPool: Kind(Pooling),
    Attention: Kind(Weighted, "hidden_size"),
}


def kind_of(layer: Any) -> Any:
    """The row of the table for a layer; None if a row of layers cannot have it."""
    return next((kind for kind in KINDS if isinstance(layer, kind)), None)


def places_of(caller: str, layers: Sequence[Any]) -> list[Place]:
    """Check that the layers fit each other, and give each its place."""
    places, here = list[Place](), Here()
    for k, layer in enumerate(layers):
        kind = kind_of(layer)
        if kind is None:
            names = ", ".join(kind.__name__ for kind in KINDS)
            raise TypeError(
                f"{caller}: layer {k} is of type {type(layer).__name__}, expected one of {names}"
            )
        name = f"{caller}: {titled(k, layer)}"
        if any(layer is other for other in layers[:k]):
            raise ValueError(f"{name}, is also layer {layers.index(layer)}, expected another one")
        _check_fits(name, kind, layers, k, here)
        places.append(KINDS[kind].place(layer, k, here))
        here = places[-1].after
    return places


def features_of(places: Sequence[Place]) -> int | None:
    """The features that the first layer of a fixed size takes; None: any number."""
    for place in places:
        if takes := KINDS[kind_of(place.layer)].takes:
            return int(getattr(place.layer, takes))
    return None


def titled(number: int, layer: Any) -> str:
    return f"layer {number}, {type(layer).__name__}"


def _check_fits(name: str, kind: Any, layers: Sequence[Any], k: int, here: Here) -> None:
    layer, below = layers[k], titled(k - 1, layers[k - 1])
    place, takes, _ = KINDS[kind]
    if kind is Embedding and k:
        raise ValueError(f"{name}, takes ids, expected it as layer 0")
    if kind is Attention and layer.kind == "dot":
        raise ValueError(f"{name}, has kind 'dot', expected 'additive': a row has no query")
    if not here.timed and (place.has_state or place.pools):
        pool = next(titled(i, of) for i, of in enumerate(layers) if KINDS[kind_of(of)].place.pools)
        raise ValueError(f"{name}, comes after {pool}, expected no steps after it")
    if takes and here.size is not None and getattr(layer, takes) != here.size:
        has = f"{takes} {getattr(layer, takes)}"
        raise ValueError(f"{name}, has {has}, expected {here.size}, which {below}, gives")
    earlier = layers[:k]
    for i, other in enumerate(earlier):
        for option in ("dtype", "batch_first"):
            own, theirs = (getattr(of, option, None) for of in (layer, other))
            if own is not None and theirs is not None and own != theirs:
                raise ValueError(
                    f"{name}, has {option} {own}, expected {theirs} as {titled(i, other)}"
                )
