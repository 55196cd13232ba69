# SPDX-License-Identifier: MIT
"""A fitted estimator that reads one sequence step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._types import Array
from .._validate import as_real
from .._words import shown
from ..sequential.model import Sequential
from .inputs import check_finite
from .preparation import Preparation

__all__ = ["SequenceStream"]


class SequenceStream:
    """Predictions after each step of one sequence; made by `SequenceClassifier.stream`.

    After step t the prediction is bit-identical to `predict` of the first t steps; with
    ``pooling="attention"`` the last bits may differ. A stream has a copy of the recurrent layers'
    parameters: after another `fit`, make another one.

    Examples
    --------
    >>> import numpy as np, bptt.models
    >>> x, y = np.random.default_rng(0).standard_normal((20, 5, 2)), np.arange(20) % 2
    >>> model = bptt.models.SequenceClassifier(hidden_size=4, epochs=1).fit(x, y)
    >>> stream = model.stream()
    >>> for x_t in x[0]:
    ...     p = stream.step(x_t)
    >>> bool((p == model.predict_proba(x[:1])[0]).all())
    True
    """

    def __init__(
        self, model: Sequential, inputs: Preparation, result: Callable[[Array], Array]
    ) -> None:
        self._stream, self._inputs, self._result = model.stream(), inputs, result

    def __repr__(self) -> str:
        of = self._inputs
        return "SequenceStream of " + (
            repr(of.vocabulary) if of.features is None else f"{of.features} features"
        )

    def step(self, x: ArrayLike) -> Any:
        """Read one step.

        Parameters
        ----------
        x : array_like, shape (F,), or a number if F is 1, or a token
            The features of the step, in the units of the training data.

        Returns
        -------
        ndarray
            Of a classifier the probabilities (C,) that `predict_proba` gives for the steps so far,
            of a regressor the value or values that `predict` gives.

        Raises
        ------
        ValueError, TypeError
            If `x` has another shape or kind, or is not finite; the stream is then as before.
        """
        return self._result(self._stream.step(self._prepared(x)))[0]

    def reset(self) -> None:
        """Begin another sequence."""
        self._stream.reset()

    def _prepared(self, x: ArrayLike) -> Array:
        caller, vocabulary = "SequenceStream.step", self._inputs.vocabulary
        if vocabulary is not None:
            if not isinstance(x, str):
                raise TypeError(f"{caller}: x is {shown(x)}, expected a token, as in fit")
            return vocabulary.encode([x])
        values = as_real(caller, "x", x).astype(np.float64)
        row = values[None] if not values.ndim else values
        if row.shape != (self._inputs.features,):
            raise ValueError(
                f"{caller}: x has shape {values.shape}, expected (F,) = ({self._inputs.features},)"
            )
        check_finite(caller, "x", row)
        return self._inputs.scaled(row)[None]
