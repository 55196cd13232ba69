# SPDX-License-Identifier: MIT
"""A learnt vector for each index."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .._guesses import answering
from .._types import Array, Seed, Wanted
from .._validate import as_generator, as_indices
from .base import Layer, LayerGrads

__all__ = ["Embedding"]


@final
class Embedding(Layer):
    """One learnt vector per index: y = weight[indices].

    Parameters
    ----------
    num_embeddings : int
        The number of vectors: indices are 0..num_embeddings - 1.
    embedding_dim : int
        The size of a vector.
    dtype : {"float32", "float64"}, optional
        The type of the vectors and of their gradient.
    seed : int or numpy.random.Generator, optional
        For the initial weight, N(0, 1), as in PyTorch; a random seed if omitted.

    Attributes
    ----------
    parameters : dict of str to ndarray
        ``weight`` (num_embeddings, embedding_dim).

    Examples
    --------
    >>> import numpy as np
    >>> from bptt import Embedding
    >>> embedding = Embedding(10, 4, seed=0)
    >>> y, tape = embedding.forward([[1, 2], [1, 9]])
    >>> y.shape
    (2, 2, 4)
    >>> grads = embedding.backward(tape, np.ones_like(y))
    >>> grads.params["weight"][[1, 2, 3], 0]  # index 1 occurs twice, index 3 never
    array([2., 1., 0.], dtype=float32)
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
        """Return y, shape (..., embedding_dim), for the indices `x` in any shape."""
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

    def backward(self, tape: Array, dy: ArrayLike, *, grads: Wanted = None) -> LayerGrads:
        """Return the gradients of a loss from `dy`, its gradient with respect to y.

        The gradient of a vector is summed over all places where its index occurs; ``x`` is None.
        `grads` names those to compute, "weight" or "params"; all if omitted.

        Raises
        ------
        ValueError
            If `dy` does not have the shape of y.
        TypeError
            If `dy` does not hold real numbers.
        """
        last = self.num_embeddings - 1
        tape = as_indices("Embedding", "tape", tape, "0..num_embeddings - 1", last)
        dy = self._as_dy(dy, (*tape.shape, self.embedding_dim), self.dtype)
        if "weight" not in self._wanted(grads, ()):
            return LayerGrads({}, None)
        # Sort, so that equal indices are neighbours: many times faster than np.add.at.
        order = np.argsort(tape, axis=None, kind="stable")
        used, first = np.unique(tape.reshape(-1)[order], return_index=True)
        dweight = np.zeros_like(self.parameters["weight"])
        if used.size:
            rows = dy.reshape(-1, self.embedding_dim)[order]
            dweight[used] = np.add.reduceat(rows, first, axis=0)
        return LayerGrads({"weight": dweight}, None)
