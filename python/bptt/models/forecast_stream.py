# SPDX-License-Identifier: MIT
"""A fitted `Forecaster` that reads one series step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._types import Array
from .._validate import as_real, check_shape
from ..sequential.model import Sequential
from .inputs import check_finite
from .series import Series
from .windows import Features, Scale

__all__ = ["ForecastStream"]


class ForecastStream:
    """Forecasts after each value of one series; made by `Forecaster.stream`.

    After window + season values (without a season, window + 1) the forecast equals
    `predict_quantiles` to rounding. Later forecasts have read more than a window. A stream has a
    copy of the parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.models import Forecaster
    >>> y = np.sin(np.arange(100) / 2)
    >>> model = Forecaster(steps=2, window=10, hidden_size=4, epochs=1).fit(y)
    >>> stream = model.stream()
    >>> stream.step(y[0])  # a change needs two values
    >>> stream.step(y[1]).shape  # 2 steps, 3 quantiles
    (2, 3)
    """

    def __init__(self, model: Sequential, features: Features, scale: Scale) -> None:
        self._stream, self._features, self._scale = model.stream(), features, scale
        self._values: list[float] = []

    def step(self, value: float, inputs: ArrayLike | None = None, date: Any = None) -> Array | None:
        """Read the next value.

        Parameters
        ----------
        value : float
            In the units of the training data.
        inputs : array_like, shape (steps, K), optional
            The known inputs of the next steps, if `fit` was given some.
        date : datetime64, optional
            The date of the value, if `fit` was given dates.

        Returns
        -------
        ndarray, shape (steps, Q), or None
            The quantiles of the next steps; None for the first `season` values (without a season,
            for the first value).

        Raises
        ------
        ValueError, TypeError
            If an argument has another shape or kind or is not finite; the stream is then as before.
        """
        caller, of = "ForecastStream.step", self._features
        number = as_real(caller, "value", value).astype(np.float64)
        check_shape(caller, "value", number, "one number", ())
        K = len(of.mean)
        known = np.zeros((of.steps, 0)) if inputs is None and not K else as_real(
            caller, "inputs", inputs).astype(np.float64)  # fmt: skip
        check_shape(caller, "inputs", known, "(steps, K)", (of.steps, K))
        check_finite(caller, "value", number)
        check_finite(caller, "inputs", known)
        dates = None
        if of.cycles:
            dates = np.full(of.lead + 1, np.datetime64(date, "s"))
            if np.isnat(dates).any():
                raise ValueError(f"{caller}: date is {date!r}, expected the date of the value")
        self._values = [*self._values[-of.lead :], float(number)]
        if len(self._values) <= of.lead:
            return None
        values = np.array(self._values)
        rows = np.concatenate([np.zeros((of.lead + 1, K)), known])
        x = of.read(Series(values, rows, dates), self._scale)
        changes = self._stream.step(x).astype(np.float64).reshape(of.steps, -1)
        base = of.base(values, np.array([of.lead]), of.steps)
        found: Array = base[0, :, None] + self._scale.ahead * np.sort(changes, axis=-1)
        return found

    def reset(self) -> None:
        """Begin another series, in the same units."""
        self._stream.reset()
        self._values = []
