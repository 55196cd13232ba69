# SPDX-License-Identifier: MIT
"""Forecasts beside the actual values: errors, and the share of the values in each interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .._types import Array
from .series import Series

__all__ = ["Backtest", "backtest_of"]


class Backtest(NamedTuple):
    """Forecasts of known steps, made by `Forecaster.backtest`.

    Attributes
    ----------
    series, origin : ndarray of int, shape (n,)
        The number of the series, and of the last step that each forecast has read.
    forecast : ndarray, shape (n, steps)
        The medians.
    quantiles : ndarray, shape (n, steps, Q)
    actual : ndarray, shape (n, steps)
        The values of the series.
    rmse, mae : float
        Root mean square and mean absolute error of the medians.
    coverage : dict of float to float
        For each interval between quantiles q and 1 - q, by its nominal coverage 1 - 2 q: the
        fraction of the values in it.
    """

    series: Array
    origin: Array
    forecast: Array
    quantiles: Array
    actual: Array
    rmse: float
    mae: float
    coverage: dict[float, float]

    def __repr__(self) -> str:
        n, steps = self.forecast.shape
        inside = ", ".join(f"{have:.3f} in {want:g}" for want, have in self.coverage.items())
        return (
            f"Backtest({n} forecasts of {steps} steps, RMSE {self.rmse:.4g}, MAE {self.mae:.4g}, "
            f"coverage {inside or 'of no interval'})"
        )


def backtest_of(
    series: Sequence[Series], origins: Sequence[Array], quantiles: Sequence[Array], levels: Array
) -> Backtest:
    steps = quantiles[0].shape[1]
    number = np.repeat(np.arange(len(series)), [len(of) for of in origins])
    found = np.concatenate(quantiles)
    actual = np.concatenate([
        one.values[of[:, None] + np.arange(1, steps + 1)] for one, of in zip(series, origins)
    ])  # fmt: skip
    forecast, coverage = found[..., int(np.flatnonzero(levels == 0.5)[0])], dict[float, float]()
    for k, low in enumerate(levels):
        for j in np.flatnonzero((low < 0.5) & np.isclose(levels, 1 - low)):
            inside = (found[..., k] <= actual) & (actual <= found[..., j])
            coverage[round(float(1 - 2 * low), 12)] = float(inside.mean())
    error = forecast - actual
    rmse, mae = float(np.sqrt(np.mean(error**2))), float(np.mean(np.abs(error)))
    return Backtest(number, np.concatenate(origins), forecast, found, actual, rmse, mae, coverage)
