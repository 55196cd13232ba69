# SPDX-License-Identifier: MIT
"""Dropout as a layer."""

from __future__ import annotations

from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike

from .._guesses import answering
from .._types import Array, Seed
from .._validate import as_generator, as_own_float, as_probability
from .base import LayerWithoutParameters
from .masks import MaskCount, MaskCounter, dropout_mask

__all__ = ["Dropout"]


class DropoutTape(NamedTuple):
    """The factors of one `Dropout.forward`; None if it dropped nothing."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    mask: Array | None


@final
class Dropout(LayerWithoutParameters):
    """Zero elements at random in training: y = x mask / (1 - p), each mask 0 with probability p.

    `forward` drops; a call of the layer returns x as it is. The n-th call of `forward` draws the
    n-th mask of the seed; a call that fails does not count.

    Parameters
    ----------
    p : float, optional
        The probability, 0..1, that an element becomes 0.
    seed : int or numpy.random.Generator, optional
        For the masks; a random seed if omitted.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), JMLR 15.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt import Dropout
    >>> dropout = Dropout(0.5, seed=0)
    >>> y, tape = dropout.forward(np.ones((2, 5)))
    >>> y
    array([[0., 2., 0., 2., 0.],
           [2., 0., 2., 2., 2.]])
    >>> bool((dropout.backward(tape, np.ones((2, 5))).x == y).all())
    True
    >>> dropout(np.ones(3))
    array([1., 1., 1.])
    """

    _tape = DropoutTape

    @answering
    def __init__(self, p: float = 0.5, *, seed: Seed = None) -> None:
        super().__init__()
        self.p = as_probability("Dropout", "p", p)
        count = MaskCount(int(as_generator("Dropout", "seed", seed).integers(2**63)), 0)
        self.mask_counter = MaskCounter(count) if self.p else None

    def __call__(self, x: ArrayLike) -> Array:
        """Return `x`, as float32 or float64: nothing is dropped outside training."""
        return as_own_float("Dropout", "x", x)

    def forward(self, x: ArrayLike) -> tuple[Array, DropoutTape]:
        """Return y, in the shape of `x`, and the tape for `backward`.

        Raises
        ------
        TypeError
            If `x` does not hold real numbers.
        """
        x = as_own_float("Dropout", "x", x)
        if self.mask_counter is None:
            return x, DropoutTape(x.shape, x.dtype, None)
        with self.mask_counter.next_call() as rng:
            mask = dropout_mask(rng, x.shape, self.p, x.dtype)
            return np.asarray(x * mask), DropoutTape(x.shape, x.dtype, mask)

    def _shape_of_y(self, tape: DropoutTape) -> tuple[int, ...]:
        return tape.shape

    def _dx(self, tape: DropoutTape, dy: Array) -> Array:
        return dy.copy() if tape.mask is None else dy * tape.mask
