# SPDX-License-Identifier: MIT
"""An affine map with an activation."""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .._binding.marks import check_marks, marks
from .._guesses import answering
from .._types import Array, Seed, Wanted
from .._validate import as_choice, as_flag, as_float, as_generator
from .activations import ACTIVATIONS
from .base import Layer, LayerGrads

__all__ = ["Linear"]


class LinearTape(NamedTuple):
    """The values that `Linear.backward` needs from `forward`; y only if there is an activation."""

    x: Array
    weight: Array
    y: Array | None
    kept: tuple[int, ...]  # the marks of x and y


@final
class Linear(Layer):
    """The same affine map at every position, over the last axis: y = activation(x weight^T + bias).

    NumPy takes one product for all positions: its last bits may depend on how many there are, and
    on the threads of NumPy's BLAS.

    Parameters
    ----------
    in_features : int
        The length of the last axis of x.
    out_features : int
        The length of the last axis of y.
    bias : bool, optional
        False: the layer has no ``bias``.
    activation : {"identity", "tanh", "relu", "sigmoid", "elu", "softmax"}, optional
        elu(a) = a if a > 0 else exp(a) - 1; softmax is over the last axis. Keep "identity" for a
        loss that takes logits, such as `cross_entropy`.
    dtype : {"float32", "float64"}, optional
        The type of parameters, computation and results; other real input is converted.
    seed : int or numpy.random.Generator, optional
        For the initial parameters, U(-1/sqrt(in_features), 1/sqrt(in_features)), as in PyTorch; a
        random seed if omitted.

    Attributes
    ----------
    parameters : dict of str to ndarray
        ``weight`` (out_features, in_features) and ``bias`` (out_features,).

    Examples
    --------
    >>> from bptt import Linear
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
        """Return y, shape (..., out_features), for `x`, shape (..., in_features)."""
        return self.forward(x)[0]

    def forward(self, x: ArrayLike) -> tuple[Array, LinearTape]:
        """Return y and the tape for `backward`.

        The tape has a copy of the weight and refers to `x`, which must not change before
        `backward`. With an activation it also refers to y, which is then read-only: change a copy.

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
        # One product of all rows: NumPy takes one of each step if x has more than two axes.
        y = x.reshape(-1, self.in_features) @ weight.T
        if self.bias:
            y += self.parameters["bias"]
        y = y.reshape(*x.shape[:-1], self.out_features)
        if self.activation == "identity":
            return y, LinearTape(x, weight, None, marks(x))
        y = ACTIVATIONS[self.activation][0](y)
        y.flags.writeable = False
        return y, LinearTape(x, weight, y, marks(x, y))

    def backward(self, tape: LinearTape, dy: ArrayLike, *, grads: Wanted = None) -> LayerGrads:
        """Return the gradients of a loss from `dy`, its gradient with respect to y.

        `grads` names those to compute, as "weight", "params" or "x"; all if omitted.

        Raises
        ------
        ValueError
            If `dy` does not have the shape of y, or `x` or y has changed since `forward` and the
            change is seen (see `lstm_forward`).
        TypeError
            If `dy` does not hold real numbers.
        """
        if not isinstance(tape, LinearTape):
            self._refuse_tape(tape)
        x, weight, y, kept = tape
        check_marks("Linear", kept, x=x, **({} if y is None else {"y": y}))
        dy = self._as_dy(dy, (*x.shape[:-1], self.out_features), self.dtype)
        if y is not None:
            dy = ACTIVATIONS[self.activation][1](y, dy)
        rows = dy.reshape(-1, self.out_features)
        wanted, params = self._wanted(grads, ("x",)), {}
        if "weight" in wanted:
            params["weight"] = rows.T @ x.reshape(-1, self.in_features)
        if "bias" in wanted:
            # Sum in float64: a float32 sum over many rows loses one digit after the other.
            params["bias"] = rows.sum(0, dtype=np.float64).astype(self.dtype)
        dx = (rows @ weight).reshape(x.shape) if "x" in wanted else None
        return LayerGrads(params, dx)
