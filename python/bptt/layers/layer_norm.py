# SPDX-License-Identifier: MIT
"""Layer normalisation as a layer."""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .._guesses import answering
from .._types import Array, Wanted
from .._validate import as_float, as_positive
from .base import Layer, LayerGrads

__all__ = ["LayerNorm"]


class LayerNormTape(NamedTuple):
    """The values that `LayerNorm.backward` needs from `forward`."""

    normal: Array  # (x - mean) / deviation
    scale: Array  # 1 / deviation, (..., 1)
    weight: Array


@final
class LayerNorm(Layer):
    """Normalise the last axis: y = (x - mean(x)) / sqrt(var(x) + eps) weight + bias.

    Mean and variance are those of each position over its `size` features; the variance is a mean
    of squares, divided by `size`. (The option ``layer_norm`` of recurrent layers normalises inside
    the cell instead.)

    Parameters
    ----------
    size : int
        The length of the last axis.
    eps : float, optional
        Keeps the divisor away from 0.
    dtype : {"float32", "float64"}, optional
        The type of parameters, computation and results; other real input is converted.

    Attributes
    ----------
    parameters : dict of str to ndarray
        ``weight`` (size,), 1 at first, and ``bias`` (size,), 0 at first, as in PyTorch.

    References
    ----------
    Ba, Kiros & Hinton (2016), arXiv:1607.06450.

    Examples
    --------
    >>> from bptt import LayerNorm
    >>> norm = LayerNorm(2)
    >>> y, tape = norm.forward([[1, 3], [10, 30]])
    >>> y.round(3)
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    >>> norm.backward(tape, [[1, 0], [1, 0]]).params["bias"]
    array([2., 0.], dtype=float32)
    """

    size: int

    @answering
    def __init__(self, size: int, eps: float = 1e-5, *, dtype: DTypeLike = "float32") -> None:
        super().__init__(dtype, size=size)
        self.eps = as_positive("LayerNorm", "eps", eps)
        self._fill({"weight": (self.size,), "bias": (self.size,)}, np.zeros)
        self.parameters["weight"][...] = 1

    def __call__(self, x: ArrayLike) -> Array:
        """Return y, in the shape of `x`, (..., size)."""
        return self.forward(x)[0]

    def forward(self, x: ArrayLike) -> tuple[Array, LayerNormTape]:
        """Return y and the tape for `backward`.

        Raises
        ------
        ValueError
            If the last axis of `x` does not have the length `size`.
        TypeError
            If `x` does not hold real numbers.
        """
        x = as_float("LayerNorm", "x", x, self.dtype)
        if x.shape[-1:] != (self.size,):
            raise ValueError(
                f"LayerNorm: x has shape {x.shape}, expected (..., size) = (..., {self.size})"
            )
        normal = x - _mean(x)
        scale = 1 / np.sqrt(_mean(normal * normal) + self.dtype.type(self.eps))
        normal *= scale
        weight = self.parameters["weight"].copy()
        return normal * weight + self.parameters["bias"], LayerNormTape(normal, scale, weight)

    def backward(self, tape: LayerNormTape, dy: ArrayLike, *, grads: Wanted = None) -> LayerGrads:
        """Return the gradients of a loss from `dy`, its gradient with respect to y.

        `grads` names those to compute, as "weight", "params" or "x"; all if omitted.

        Raises
        ------
        ValueError
            If `dy` does not have the shape of y.
        TypeError
            If `dy` does not hold real numbers, or `tape` is not from `forward`.
        """
        if not isinstance(tape, LayerNormTape):
            self._refuse_tape(tape)
        normal, scale, weight = tape
        dy = self._as_dy(dy, normal.shape, self.dtype)
        wanted, params = self._wanted(grads, ("x",)), {}
        for name, part in (("weight", dy * normal), ("bias", dy)):
            if name in wanted:  # in float64, as in `Linear`
                rows = part.reshape(-1, self.size)
                params[name] = rows.sum(0, dtype=np.float64).astype(self.dtype)
        if "x" not in wanted:
            return LayerGrads(params, None)
        d = dy * weight
        return LayerGrads(params, (d - _mean(d) - normal * _mean(d * normal)) * scale)


def _mean(x: Array) -> Array:
    mean: Array = x.mean(axis=-1, keepdims=True)
    return mean
