# SPDX-License-Identifier: MIT
"""The base of every layer: named parameters, loading, printing."""

from __future__ import annotations

import copy
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .._guesses import ATTRIBUTES, numbered, unknown_attribute
from .._types import Array, State, Wanted
from .._validate import (
    as_count,
    as_dtype,
    as_float,
    as_names,
    check_mapping,
    check_shape,
    to_numpy,
)
from .._words import listed, shown
from ..trace.trace import LayerTrace
from .masks import MaskCounter, as_mask_count, is_mask_count
from .parameters import Parameters

__all__ = ["Layer", "LayerGrads"]


MOST_LAYERS = 1 << 16  # the names alone of more layers take seconds


_MOST_PARAMETERS: ContextVar[float] = ContextVar("most_parameters", default=math.inf)


@contextmanager
def at_most(parameters: int) -> Iterator[None]:
    """Refuse to make a layer with more parameters, before any memory is taken."""
    token = _MOST_PARAMETERS.set(parameters)
    try:
        yield
    finally:
        _MOST_PARAMETERS.reset(token)


class LayerGrads(NamedTuple):
    """Gradients of a scalar loss with respect to a layer's parameters and inputs.

    Attributes
    ----------
    params : dict of str to ndarray
        By parameter name, in the order and with the shapes of ``layer.parameters``; without those
        that are frozen or that the call left out by its `grads`.
    x : ndarray
        In the shape of the layer's input; None for `Embedding`, whose input is indices, or if the
        call left it out.
    state : ndarray or tuple of ndarray
        In the shape of the initial state; None for layers without a state, or if the call left it
        out.
    trace : LayerTrace or None
        For recurrent layers, if `backward` was called with `trace`.
    """

    params: dict[str, Array]
    x: Any
    state: State = None
    trace: LayerTrace | None = None


class Layer:
    """Parameters by name; the base of every layer.

    Attributes
    ----------
    parameters : dict of str to ndarray
        ``layer.parameters[name] = value`` copies into the array that is there, as the steps of
        optimisers do. Names and shapes are fixed.
    dtype : numpy.dtype
        The type of parameters, computation and results. `Dropout`, `Last` and `MeanPool`, which
        have no parameters, have none: they compute in the type of their input.
    frozen : frozenset of str
        Names of parameters that do not learn: `backward` computes no gradient of them unless its
        `grads` names it, and optimisers leave them as they are. Set it to any names, as in
        ``layer.frozen = layer.parameters`` for all and ``layer.frozen = ()`` for none. It is not in
        `state_dict`. Make a new optimiser when it shrinks: the averages of the old one would begin
        at 0 after many steps.
    """

    _parameters: Parameters
    mask_counter: MaskCounter | None  # None: nothing is random
    dtype: np.dtype[Any]

    def __init__(self, dtype: DTypeLike, **sizes: int) -> None:
        caller = type(self).__name__
        self.dtype, self.mask_counter = as_dtype(caller, dtype), None
        for name, size in sizes.items():
            most = MOST_LAYERS if name == "num_layers" else sys.maxsize
            setattr(self, name, as_count(caller, name, size, 1, most))

    def _fill(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        draw: Callable[[tuple[int, ...]], Array],
    ) -> None:
        for name, shape in shapes.items():
            if math.prod(shape) > sys.maxsize // 8:
                raise ValueError(
                    f"{type(self).__name__}: {name} has shape {shape}, expected one that can be "
                    "addressed"
                )
        count, most = sum(map(math.prod, shapes.values())), _MOST_PARAMETERS.get()
        if count > most:
            raise ValueError(
                f"{type(self).__name__}: the sizes make {count:,} parameters, expected {most:,}"
            )
        # Draw in float64, so that a seed gives the same weights in both precisions.
        arrays = {name: draw(s).astype(self.dtype) for name, s in shapes.items()}
        self._parameters = Parameters(type(self).__name__, arrays)

    @property
    def parameters(self) -> Parameters:
        return self._parameters

    @parameters.setter
    def parameters(self, arrays: Mapping[str, ArrayLike]) -> None:
        self.load(arrays)

    @property
    def frozen(self) -> frozenset[str]:
        return getattr(self._parameters, "frozen", frozenset())

    @frozen.setter
    def frozen(self, names: Iterable[str]) -> None:
        self._parameters.frozen = names

    def _wanted(self, grads: Wanted, inputs: tuple[str, ...]) -> frozenset[str]:
        """The names of the gradients to compute, of `inputs` and of parameters."""
        learn = [name for name in self._parameters if name not in self.frozen]
        if grads is None:
            return frozenset((*inputs, *learn))
        known = (*inputs, "params", *self._parameters)
        names = as_names(type(self).__name__, "grads", grads, known)
        return names.union(learn) - {"params"} if "params" in names else names

    def _refuse_tape(self, tape: object, result: str = "second") -> NoReturn:
        raise TypeError(
            f"{type(self).__name__}: tape is {shown(tape)}, expected the {result} result of this "
            "layer's forward"
        )

    def _as_dy(self, dy: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Check the gradient of y."""
        caller = type(self).__name__
        dy = as_float(caller, "dy", dy, dtype)
        check_shape(caller, "dy", dy, "the shape of y", shape)
        return dy

    def load(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Copy `arrays` into the parameters, in place, converted to the layer's dtype.

        Every name and shape is checked first: after an error the layer is as it was.

        Parameters
        ----------
        arrays : mapping of str to array_like
            Exactly the names and shapes of ``layer.parameters``: for instance the ``state_dict()``
            of PyTorch's layer of the same name, of any floating-point type and device; for a
            recurrent layer of one direction also the ``state_dict()`` of a cell such as
            ``LSTMCell``. The count of random masks in a `state_dict` of this package is ignored.

        Raises
        ------
        ValueError
            If names are missing or unexpected, or a shape is wrong.
        TypeError
            If an array does not hold real numbers.
        """
        caller = type(self).__name__
        check_mapping(caller, "arrays", arrays, tensors=True)
        arrays = numbered(arrays) if "weight_ih_l0" in self.parameters else arrays
        missing = [name for name in self.parameters if name not in arrays]
        arrays = {name: a for name, a in arrays.items() if not is_mask_count(name, a)}
        unexpected = [name for name in arrays if name not in self.parameters]
        if missing or unexpected:
            raise ValueError(
                f"{caller}: arrays has missing names {listed(missing)} and unexpected names "
                f"{listed(unexpected)}, expected the names of the parameters"
            )
        self.parameters.update({name: to_numpy(arrays[name]) for name in self.parameters})

    if not TYPE_CHECKING:  # to a type checker, an unknown attribute stays an error

        def __getattr__(self, name: str) -> Any:
            """Say what to write instead; called only for an attribute that does not exist."""
            unknown_attribute(self, name, ATTRIBUTES, self.__dict__.get("_parameters", ()))

    def state_dict(self) -> dict[str, Array]:
        """Copies of everything that later calls depend on, except the constructor's arguments.

        They are the parameters by name; and for a recurrent layer with random masks also
        ``"masks"``: the seed of the masks and the number of calls that have drawn masks.
        """
        arrays = {name: array.copy() for name, array in self.parameters.items()}
        counter = self.mask_counter
        return arrays | {"masks": counter.count.as_array()} if counter else arrays

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Load a result of `state_dict`: the next calls then repeat the original's calls.

        Use `load` for parameters alone, such as the ``state_dict()`` of PyTorch's layer.

        Raises
        ------
        ValueError, TypeError
            As `load`, and if ``"masks"`` is no count; nothing has changed then.
        """
        caller, counter = f"{type(self).__name__}.load_state_dict", self.mask_counter
        check_mapping(caller, "state", state, tensors=True)
        arrays = dict(state)
        if ("masks" in state) != (counter is not None):
            has, expected = ("no", "one") if counter else ("a", "none")
            raise ValueError(
                f"{caller}: state has {has} count of random masks, expected {expected}: "
                "load takes the parameters alone"
            )
        count = as_mask_count(caller, arrays.pop("masks")) if counter else None
        self.load(arrays)
        if counter and count:
            counter.count = count

    def __getstate__(self) -> dict[str, Any]:
        # A copy counts its masks for itself.
        return self.__dict__ | {"mask_counter": copy.copy(self.mask_counter)}

    def _title(self) -> str:
        """The constructor's call, without the arguments that have their defaults."""
        options = []
        for name, argument in inspect.signature(type(self)).parameters.items():
            value = self.dtype.name if name == "dtype" else getattr(self, name, None)
            if argument.default is argument.empty:
                options.append(repr(value))
            elif value != argument.default:
                options.append(f"{name}={shown(value)}")
        return f"{type(self).__name__}({', '.join(options)})"

    def __repr__(self) -> str:
        width = max(map(len, self.parameters), default=0)
        rows = [f"  {name:{width}}  {array.shape}" for name, array in self.parameters.items()]
        count = sum(array.size for array in self.parameters.values())
        return "\n".join([self._title(), *rows, f"  {count:,} parameters"])


class LayerWithoutParameters(Layer):
    """The base of layers that have no parameters, and so compute in the type of their input."""

    _tape: ClassVar[type[Any]]

    def __init__(self) -> None:
        self.mask_counter = None
        self._fill({}, np.zeros)

    def backward(self, tape: Any, dy: ArrayLike, *, grads: Wanted = None) -> LayerGrads:
        """Return the gradient of a loss with respect to x, from `dy`, that with respect to y.

        `grads` may be empty, for no gradient.

        Raises
        ------
        ValueError
            If `dy` does not have the shape of y.
        TypeError
            If `dy` does not hold real numbers, or `tape` is not from `forward`.
        """
        if not isinstance(tape, self._tape):
            self._refuse_tape(tape)
        dy = self._as_dy(dy, self._shape_of_y(tape), tape.dtype)
        return LayerGrads({}, self._dx(tape, dy) if self._wanted(grads, ("x",)) else None)

    def _shape_of_y(self, tape: Any) -> tuple[int, ...]:
        """The shape of the output of a forward pass."""
        raise NotImplementedError

    def _dx(self, tape: Any, dy: Array) -> Array:
        """The gradient of x, in the shape of x."""
        raise NotImplementedError
