# SPDX-License-Identifier: MIT
"""Forecast a temperature
======================

The temperature of the next 24 hours in Seattle.

Data: the hourly normals of a year, from the package vega-datasets; they are means of many years, so
yesterday's hour is a strong forecast. Trained on the first 70 % of the year; scored on a forecast
every hour from then on. ``--torch`` trains it in PyTorch. Needs ``pip install "bptt[tasks]"``.
"""

import sys
import time

import numpy as np
from vega_datasets import local_data

from baselines.holt_winters import holt_winters
from bptt.models import Forecaster

if TORCH := "--torch" in sys.argv:
    from baselines.torch_forecast import forecast
EPOCHS = 5 if "--quick" in sys.argv else 60
SEEDS = 1 if "--quick" in sys.argv else 5
AHEAD, WINDOW, HIDDEN = 24, 72, 32

series = local_data.seattle_temps().set_index("date")["temp"]
hours, degrees = series.index.to_numpy(), series.to_numpy()
start = int(0.7 * len(series))
origin = np.arange(start - 1, len(series) - AHEAD)
actual = degrees[origin[:, None] + np.arange(1, AHEAD + 1)]


def rmse(forecast, actual=actual):
    return np.sqrt(np.mean((forecast - actual) ** 2))


print(f"{len(origin)} forecasts of {AHEAD} hours, RMSE in degrees Fahrenheit:")
scores = []
for seed in range(SEEDS):
    begin = time.process_time()
    if TORCH:
        day = (hours - hours.astype("datetime64[D]")) / np.timedelta64(1, "D")
        week = (hours.astype("datetime64[D]").astype(int) + 3 + day) / 7
        quantiles = forecast(degrees, np.stack([day, week], 1), start, AHEAD, WINDOW, HIDDEN,
                             EPOCHS, seed, season=24)  # fmt: skip
    else:
        model = Forecaster(AHEAD, WINDOW, season=24, hidden_size=HIDDEN, epochs=EPOCHS,
                           validation=None, seed=seed)  # fmt: skip
        quantiles = model.fit(series[:start]).backtest(series, start=start).quantiles
    scores.append(rmse(quantiles[..., 1]))
    inside = (quantiles[..., 0] <= actual) & (actual <= quantiles[..., 2])
    print(f"  seed {seed}  {scores[-1]:.3f}  in the interval of 0.8: {inside.mean():.3f}  "
          f"{time.process_time() - begin:.1f} s of processor time")  # fmt: skip

print(f"  {'PyTorch' if TORCH else 'LSTM':26}  {np.mean(scores):.3f}")
print(f"  seasonal naive              {rmse(degrees[origin[:, None] + np.arange(1, 25) - 24]):.3f}")
if "--quick" not in sys.argv:
    some = slice(None, None, 24)
    smooth = rmse(holt_winters(degrees, origin[some], AHEAD, 24), actual[some])
    print(f"  exponential smoothing       {smooth:.3f}, of every 24th forecast")
