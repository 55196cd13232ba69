# SPDX-License-Identifier: MIT
"""What a fitted `Forecaster` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._types import Array
from .._validate import as_count
from ..layers.pooling import Last
from ..sequential.model import Sequential
from .backtest import Backtest, backtest_of
from .base import Estimator
from .calendar import dates_after
from .forecast_stream import ForecastStream
from .series import Series, as_series, check_series, with_future
from .windows import Features, Scale, as_levels

__all__ = ["Forecasts"]

CHUNK = 256  # windows of one call of the model


class Forecasts(Estimator):
    """The base of `Forecaster`: all but its training."""

    steps: int
    window: int
    quantiles: Sequence[float]

    model_: Sequential
    features_: Features
    series_: list[Series]
    scales_: list[Scale]
    single_: bool
    coverage_: dict[float, float]

    def predict(
        self, steps: int | None = None, *, series: Any = None, inputs: Any = None,
        dates: Any = None, target: Any = None, group_column: Any = None,
    ) -> Array:  # fmt: skip
        """Forecast the medians of the next steps.

        Parameters
        ----------
        steps : int, optional
            The steps to forecast, at most those of the constructor; all if omitted.
        series, dates, target, group_column : optional
            As in `fit`: other series, or newer values, of at least window + season steps each
            (window + 1 without a season).
        inputs : optional
            As in `fit`, with the rows of the future; without `series`, only these rows.

        Returns
        -------
        ndarray, shape (steps,), or (n, steps) for several series

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError, TypeError
            If an argument is wrong, or known inputs of the future are missing.
        """
        quantiles = self._predict("predict", steps, series, inputs, dates, target, group_column)
        return quantiles[..., list(self.quantiles).index(0.5)]

    def predict_quantiles(
        self, steps: int | None = None, *, series: Any = None, inputs: Any = None,
        dates: Any = None, target: Any = None, group_column: Any = None,
    ) -> Array:  # fmt: skip
        """Forecast the quantiles, which never cross: as `predict`, with a last axis of Q."""
        return self._predict(
            "predict_quantiles", steps, series, inputs, dates, target, group_column
        )

    def dates(self, steps: int | None = None) -> Array:
        """The dates of the forecasts of `predict`; ValueError if `fit` was given none."""
        steps = self._steps("dates", steps)
        ends = [one.dates for one in self.series_ if one.dates is not None]
        if not ends:
            raise ValueError("Forecaster.dates: fit was given no dates, expected dates")
        found = np.stack([dates_after(dates, steps) for dates in ends])
        return found[0] if self.single_ else found

    def backtest(
        self, series: Any, *, start: int = 0, stride: int = 1, inputs: Any = None,
        dates: Any = None, target: Any = None, group_column: Any = None,
    ) -> Backtest:  # fmt: skip
        """Forecast known steps, and compare.

        Parameters
        ----------
        series, inputs, dates, target, group_column
            As in `fit`. The values before `start` set the scale of the series.
        start : int, optional
            The first step to forecast, at least window + season (window + 1 without a season),
            which is also the default.
        stride : int, optional
            The steps from one forecast to the next.
        """
        self._check_fitted("backtest")
        caller, first = "Forecaster.backtest", self._least
        found, _ = as_series(caller, series, inputs, dates, target, group_column)
        first = max(as_count(caller, "start", start, 0), first)
        stride = as_count(caller, "stride", stride, 1)
        check_series(caller, found, self.features_, first + self.steps)
        scales = [self.features_.scale(one.values[:first]) for one in found]
        origins = [np.arange(first - 1, len(one) - self.steps, stride) for one in found]
        return self._backtest(found, scales, origins)

    def stream(self, number: int = 0) -> ForecastStream:
        """Return a `ForecastStream`, which reads a series from its first value on.

        Parameters
        ----------
        number : int, optional
            The series of `fit`, counted from 0, whose units the stream reads.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If there is no such series.
        """
        self._check_fitted("stream")
        most = len(self.scales_) - 1
        scale = self.scales_[as_count("Forecaster.stream", "number", number, 0, most)]
        return ForecastStream(self.model_, self.features_, scale)

    def _backtest(self, series: Any, scales: Any, origins: Any) -> Backtest:
        found = [self._quantiles(*parts) for parts in zip(series, scales, origins)]
        return backtest_of(series, origins, found, as_levels("Forecaster", self.quantiles))

    def _quantiles(self, series: Any, scale: Any, origins: Any) -> Array:
        return quantiles_at(self.model_, self.features_, self.window, series, scale, origins)

    @property
    def _least(self) -> int:
        return self.window + self.features_.lead

    def _steps(self, method: str, steps: int | None) -> int:
        self._check_fitted(method)
        most: int = self.features_.steps
        return most if steps is None else as_count(f"Forecaster.{method}", "steps", steps, 1, most)

    def _predict(
        self, method: str, steps: int | None, series: Any, inputs: Any, dates: Any, target: Any,
        group_column: Any,
    ) -> Array:  # fmt: skip
        caller, steps = f"Forecaster.{method}", self._steps(method, steps)
        found, scales, single = self.series_, self.scales_, self.single_
        if series is not None:
            found, single = as_series(caller, series, inputs, dates, target, group_column)
            scales = [self.features_.scale(one.values) for one in found]
        for name, value in {"dates": dates, "target": target, "group_column": group_column}.items():
            if series is None and value is not None:
                raise TypeError(f"{caller}: {name} is given without series, expected both")
        if series is None and inputs is not None:
            found = with_future(caller, found, inputs, single)
        check_series(caller, found, self.features_, self._least, future=True)
        last = [np.array([len(one) - 1]) for one in found]
        rows = [self._quantiles(*parts)[0, :steps] for parts in zip(found, scales, last)]
        return rows[0] if single else np.stack(rows)

    def _check_loaded(self) -> None:
        features, outputs = self.features_, self.features_.steps * len(list(self.quantiles))
        x = np.zeros((1, 1, features.size), np.float32)
        parts = [*zip(self.series_, self.scales_)]
        right = all(
            isinstance(one, Series) and isinstance(scale, Scale) and len(one) == self._least
            for one, scale in parts
        )
        if not right or not parts or len(self.series_) != len(self.scales_):
            raise ValueError("its series do not fit their scales")
        if self.model_(x).shape != (1, 1, outputs) or features.steps != self.steps:
            raise ValueError("the model does not fit its inputs and quantiles")
        as_levels("Forecaster", self.quantiles)


def quantiles_at(
    model: Sequential, features: Features, window: int, series: Series, scale: Scale, origins: Array
) -> Array:
    """The quantiles of the steps after each of `origins`, sorted, shape (n, steps, Q)."""
    *below, head = model.layers
    at_end = Sequential(*below, Last(), head)
    x = features.read(series, scale)
    at = origins[:, None] - features.lead + np.arange(1 - window, 1)
    parts = [
        at_end(x[at[k : k + CHUNK]].swapaxes(0, 1)) for k in range(0, len(at), CHUNK)
    ]  # fmt: skip
    changes = np.concatenate(parts).astype(np.float64).reshape(len(at), features.steps, -1)
    base = features.base(series.values, origins, features.steps)
    found: Array = base[..., None] + scale.ahead * np.sort(changes, axis=-1)
    return found
