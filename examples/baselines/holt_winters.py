# SPDX-License-Identifier: MIT
"""Exponential smoothing with trend and season (Holt-Winters), by statsmodels: a baseline."""

import warnings

import numpy as np


def holt_winters(series, origins, ahead, season):
    """Forecasts from each origin, with parameters fitted before the first; NaN without the package.

    Shape (n, ahead).
    """
    try:
        from statsmodels.tsa.holtwinters import ExponentialSmoothing
    except ImportError:
        return np.full((len(origins), ahead), np.nan)

    def model(end):
        return ExponentialSmoothing(series[:end], trend="add", seasonal="add",
                                    seasonal_periods=season)  # fmt: skip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # statsmodels warns of convergence
        fitted = model(origins[0] + 1).fit().params
        alone = {name: fitted[name] for name in
                 ("smoothing_level", "smoothing_trend", "smoothing_seasonal")}  # fmt: skip
        return np.array([
            model(t + 1).fit(**alone, optimized=False).forecast(ahead) for t in origins
        ])  # fmt: skip
