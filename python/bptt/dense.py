# SPDX-License-Identifier: MIT
"""What every layer has (named parameters), and the two layers without time: Linear, Embedding."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ._activations import ACTIVATIONS
from ._convert import (
    as_choice,
    as_count,
    as_dtype,
    as_flag,
    as_float,
    as_generator,
    as_indices,
    check_shape,
    listed,
    to_numpy,
)
from ._guesses import answering, attribute_error, numbered
from ._masks import MaskCount, as_mask_count, is_mask_count
from ._parameters import Parameters
from ._tape import check_marks, marks
from .grads import Array, State, check_mapping, shown
from .trace import LayerTrace

__all__ = ["Embedding", "Layer", "LayerGrads", "Linear"]

Seed = int | np.random.Generator | None
MOST_LAYERS = 1 << 16  # whose names alone take seconds


class LinearTape(NamedTuple):
    """What `Linear.backward` needs of one forward call; y where there is an activation."""

    x: Array
    weight: Array
    y: Array | None
    kept: tuple[int, ...]  # the marks of x and y


class LayerGrads(NamedTuple):
    """Gradients of a scalar loss with respect to all that a layer was given.

    Attributes
    ----------
    params : dict of str to ndarray
        By parameter name, in the order and with the shapes of ``layer.parameters``.
    x : ndarray
        With the shape of the layer's input; None for `Embedding`, whose input is indices.
    state : ndarray or tuple of ndarray
        With the shape of the initial state; None for layers without one.
    trace : LayerTrace or None
        Of recurrent layers, if it was asked for.
    """

    params: dict[str, Array]
    x: Any
    state: State = None
    trace: LayerTrace | None = None


class Layer:
    """Parameters by name, loaded and printed; every layer derives from it.

    Attributes
    ----------
    parameters : dict of str to ndarray
        ``layer.parameters[name] = value`` copies into the array, which stays the same one, as with
        the optimisers' steps. Names and shapes are fixed.
    dtype : numpy.dtype
        Of parameters, computation and results.
    """

    _parameters: Parameters
    _mask_count: MaskCount
    dtype: np.dtype[Any]

    def __init__(self, dtype: DTypeLike, **sizes: int) -> None:
        where = type(self).__name__
        self.dtype = as_dtype(where, dtype)
        for name, size in sizes.items():
            most = MOST_LAYERS if name == "num_layers" else sys.maxsize
            setattr(self, name, as_count(where, name, size, 1, most))

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
        # Drawn in float64, so that one seed means the same weights in both precisions.
        arrays = {name: draw(s).astype(self.dtype) for name, s in shapes.items()}
        self._parameters = Parameters(type(self).__name__, arrays)

    @property
    def parameters(self) -> Parameters:
        return self._parameters

    @parameters.setter
    def parameters(self, arrays: Mapping[str, ArrayLike]) -> None:
        self.load(arrays)

    def load(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Copy `arrays` into the parameters, in place, converted to the layer's dtype.

        Every name and shape is checked first: after an error the layer is as it was.

        Parameters
        ----------
        arrays : mapping of str to array_like
            Exactly the names and shapes of ``layer.parameters``. The ``state_dict()`` of PyTorch's
            layer of the same name is one, of any floating-point type and device; for a recurrent
            layer of one direction, also that of a cell, as ``LSTMCell``. The count of random masks
            in that of this package is left out.

        Raises
        ------
        ValueError
            If names are missing or unexpected, or a shape is wrong.
        TypeError
            If an array does not hold real numbers.
        """
        where = type(self).__name__
        check_mapping(where, "arrays", arrays, tensors=True)
        arrays = numbered(arrays) if "weight_ih_l0" in self.parameters else arrays
        missing = [name for name in self.parameters if name not in arrays]
        arrays = {name: a for name, a in arrays.items() if not is_mask_count(name, a)}
        unexpected = [name for name in arrays if name not in self.parameters]
        if missing or unexpected:
            raise ValueError(
                f"{where}: arrays has missing names {listed(missing)} and unexpected names "
                f"{listed(unexpected)}, expected the names of the parameters"
            )
        self.parameters.update({name: to_numpy(arrays[name]) for name in self.parameters})

    if not TYPE_CHECKING:  # to a type checker, an attribute that is not there stays an error

        def __getattr__(self, name: str) -> Any:
            """Say what to write instead; called only where there is no such attribute."""
            names = self.__dict__.get("_parameters", ())
            message = attribute_error(type(self).__name__, name, names)
            raise AttributeError(message, name=name, obj=self)

    def state_dict(self) -> dict[str, Array]:
        """Copies of all that later calls depend on besides the constructor's arguments.

        The parameters by name, under the name that PyTorch has for it; and, of a recurrent layer
        with random masks, ``"masks"``: integers, their seed and how many calls have drawn them.
        """
        arrays = {name: array.copy() for name, array in self.parameters.items()}
        return arrays | {"masks": self._mask_count.as_array()} if self._is_random() else arrays

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Take over what `state_dict` gave: the next calls are then exactly those of the original.

        The parameters alone, as of PyTorch's layer, are for `load`.

        Raises
        ------
        ValueError, TypeError
            As `load`, and if the masks' numbers are none; nothing has changed then.
        """
        where = f"{type(self).__name__}.load_state_dict"
        check_mapping(where, "state", state, tensors=True)
        arrays, count = dict(state), None
        if ("masks" in state) != self._is_random():
            has, expected = ("no", "one") if self._is_random() else ("a", "none")
            raise ValueError(
                f"{where}: state has {has} count of random masks, expected {expected}: "
                "load takes the parameters alone"
            )
        if "masks" in state:
            count = as_mask_count(where, arrays.pop("masks"))
        self.load(arrays)
        if count:
            self._mask_count = count

    def _is_random(self) -> bool:
        """Does `forward` draw masks?"""
        return False

    def __repr__(self) -> str:
        options = []
        for name, argument in inspect.signature(type(self)).parameters.items():
            value = self.dtype.name if name == "dtype" else getattr(self, name, None)
            if argument.default is argument.empty:
                options.append(repr(value))
            elif value != argument.default:
                options.append(f"{name}={value!r}")
        width = max(map(len, self.parameters), default=0)
        rows = [f"  {name:{width}}  {array.shape}" for name, array in self.parameters.items()]
        count = sum(array.size for array in self.parameters.values())
        title = f"{type(self).__name__}({', '.join(options)})"
        return "\n".join([title, *rows, f"  {count:,} parameters"])


@final
class Linear(Layer):
    """Affine map of the last axis, at every position alike: y = activation(x weight^T + bias).

    Parameters
    ----------
    in_features, out_features : int
    bias : bool, optional
    activation : {"identity", "tanh", "relu", "sigmoid", "elu", "softmax"}, optional
        elu(a) = a if a > 0 else exp(a) - 1; softmax over the last axis. For a loss of logits, as
        `cross_entropy`, keep "identity".
    dtype : {"float32", "float64"}, optional
    seed : int or numpy.random.Generator, optional
        For the initial parameters, U(-1/sqrt(in_features), 1/sqrt(in_features)), as in PyTorch.

    Attributes
    ----------
    parameters : dict of str to ndarray
        ``weight`` (out_features, in_features) and ``bias`` (out_features,).

    Examples
    --------
    >>> from bptt.dense import Linear
    >>> layer = Linear(3, 2, seed=0)
    >>> y, tape = layer.forward([[1, 2, 3], [4, 5, 6]])
    >>> grads = layer.backward(tape, [[1, 0], [0, 1]])
    >>> grads.params["weight"]
    array([[1., 2., 3.],
           [4., 5., 6.]], dtype=float32)
    """

    in_features: int
    out_features: int

    @answering
    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        activation: str = "identity",
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype, in_features=in_features, out_features=out_features)
        self.bias = as_flag("Linear", "bias", bias)
        self.activation = as_choice("Linear", "activation", activation, ("identity", *ACTIVATIONS))
        bound, rng = 1 / np.sqrt(self.in_features), as_generator("Linear", "seed", seed)
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.out_features, self.in_features)}
        if self.bias:
            shapes["bias"] = (self.out_features,)
        self._fill(shapes, lambda shape: rng.uniform(-bound, bound, shape))

    def __call__(self, x: ArrayLike) -> Array:
        """Return y, shape (..., out_features), of `x`, shape (..., in_features)."""
        return self.forward(x)[0]

    def forward(self, x: ArrayLike) -> tuple[Array, LinearTape]:
        """Return y and the tape for `backward`: it refers to `x`, and has a copy of the weight.

        `x` must stay as it is until then. With an activation the tape refers to y as well, which is
        then read-only: change a copy.

        Raises
        ------
        ValueError
            If the last axis of `x` is not in_features long.
        TypeError
            If `x` does not hold real numbers.
        """
        x = as_float("Linear", "x", x, self.dtype)
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(
                f"Linear: x has shape {x.shape}, "
                f"expected (..., in_features) = (..., {self.in_features})"
            )
        x = x if x.flags.c_contiguous else x.copy()
        weight = self.parameters["weight"].copy()
        y = x @ weight.T
        if self.bias:
            y += self.parameters["bias"]
        if self.activation == "identity":
            return y, LinearTape(x, weight, None, marks(x))
        y = ACTIVATIONS[self.activation][0](y)
        y.flags.writeable = False
        return y, LinearTape(x, weight, y, marks(x, y))

    def backward(self, tape: LinearTape, dy: ArrayLike) -> LayerGrads:
        """Return the gradients of a loss from `dy`, its gradient with respect to y.

        Raises
        ------
        ValueError
            If `dy` does not have the shape of y; or if `x` or y has changed since the forward
            call, where that is seen (as in `lstm_backward`).
        TypeError
            If `dy` does not hold real numbers.
        """
        if not isinstance(tape, LinearTape):
            raise TypeError(
                f"Linear: tape is {shown(tape)}, expected the second result of this layer's forward"
            )
        x, weight, y, kept = tape
        check_marks("Linear", kept, x=x, **({} if y is None else {"y": y}))
        dy = as_float("Linear", "dy", dy, self.dtype)
        check_shape("Linear", "dy", dy, "the shape of y", (*x.shape[:-1], self.out_features))
        if y is not None:
            dy = ACTIVATIONS[self.activation][1](y, dy)
        rows = dy.reshape(-1, self.out_features)
        params = {"weight": rows.T @ x.reshape(-1, self.in_features)}
        if self.bias:
            # In float64: a float32 sum over many rows loses one digit after the other.
            params["bias"] = rows.sum(0, dtype=np.float64).astype(self.dtype)
        return LayerGrads(params, dy @ weight)


@final
class Embedding(Layer):
    """One learnt vector per index: y = weight[indices].

    Parameters
    ----------
    num_embeddings, embedding_dim : int
    dtype : {"float32", "float64"}, optional
    seed : int or numpy.random.Generator, optional
        For the initial weight, N(0, 1), as in PyTorch.

    Attributes
    ----------
    parameters : dict of str to ndarray
        ``weight`` (num_embeddings, embedding_dim).
    """

    num_embeddings: int
    embedding_dim: int

    @answering
    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        shape = (self.num_embeddings, self.embedding_dim)
        self._fill({"weight": shape}, as_generator("Embedding", "seed", seed).standard_normal)

    def __call__(self, x: ArrayLike) -> Array:
        """Return y, shape (..., embedding_dim), of the indices `x`, any shape."""
        return self.forward(x)[0]

    def forward(self, x: ArrayLike) -> tuple[Array, Array]:
        """Return y and the tape for `backward`, a copy of the indices.

        Raises
        ------
        ValueError
            If an index is outside 0..num_embeddings - 1 (negative ones do not count from the end).
        TypeError
            If `x` does not hold integers.
        """
        last = self.num_embeddings - 1
        x = as_indices("Embedding", "x", x, "0..num_embeddings - 1", last)
        return self.parameters["weight"][x], x.copy()

    def backward(self, tape: Array, dy: ArrayLike) -> LayerGrads:
        """Return the gradients of a loss from `dy`, its gradient with respect to y.

        The gradient of a vector is summed over all places where its index occurs; ``grads.x`` is
        None.

        Raises
        ------
        ValueError
            If `dy` does not have the shape of y.
        TypeError
            If `dy` does not hold real numbers.
        """
        last = self.num_embeddings - 1
        tape = as_indices("Embedding", "tape", tape, "0..num_embeddings - 1", last)
        dy = as_float("Embedding", "dy", dy, self.dtype)
        expected = (*tape.shape, self.embedding_dim)
        check_shape("Embedding", "dy", dy, "the shape of y", expected)
        # Sorted, so that equal indices are neighbours: many times faster than np.add.at.
        order = np.argsort(tape, axis=None, kind="stable")
        used, first = np.unique(tape.reshape(-1)[order], return_index=True)
        dweight = np.zeros_like(self.parameters["weight"])
        if used.size:
            rows = dy.reshape(-1, self.embedding_dim)[order]
            dweight[used] = np.add.reduceat(rows, first, axis=0)
        return LayerGrads({"weight": dweight}, None)
