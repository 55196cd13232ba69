# SPDX-License-Identifier: MIT
"""Forecast CO2
============

The next 52 weeks, with an interval that should hold 80 of 100 values.

Data: weekly averages from Mauna Loa, 1958 to 2001 (Keeling & Whorf), shipped with the package.
Trained on the weeks before 1990; scored on a forecast every week from then on, against the seasonal
naive forecast (the same week last year), that with the yearly growth of the last ten years, and
exponential smoothing (``pip install "bptt[tasks]"``). ``--torch`` trains the network in PyTorch.
"""

import sys
import time

import numpy as np

import bptt
from baselines.holt_winters import holt_winters
from bptt.models import Forecaster

if TORCH := "--torch" in sys.argv:
    from baselines.torch_forecast import forecast
EPOCHS = 30 if "--quick" in sys.argv else 150
SEEDS = 1 if "--quick" in sys.argv else 5
AHEAD, WINDOW, HIDDEN = 52, 104, 48

dates, ppm, _ = bptt.datasets.load_co2()
start = int(np.searchsorted(dates, np.datetime64("1990-01-01")))
origin = np.arange(start - 1, len(ppm) - AHEAD)  # the last week that each forecast has read
actual = ppm[origin[:, None] + np.arange(1, AHEAD + 1)]


def rmse(forecast):
    return np.sqrt(np.mean((forecast - actual) ** 2))


print(f"{len(origin)} forecasts of {AHEAD} weeks, RMSE in ppm:")
scores = []
for seed in range(SEEDS):
    begin = time.process_time()
    if TORCH:
        year = (dates - dates.astype("datetime64[Y]")).astype(float) / 365.2425
        quantiles = forecast(ppm, year[:, None], start, AHEAD, WINDOW, HIDDEN, EPOCHS, seed)
    else:
        model = Forecaster(AHEAD, WINDOW, hidden_size=HIDDEN, epochs=EPOCHS, validation=None,
                           seed=seed)  # fmt: skip
        model.fit(ppm[:start], dates=dates[:start])
        quantiles = model.backtest(ppm, dates=dates, start=start).quantiles
    scores.append(rmse(quantiles[..., 1]))
    inside = (quantiles[..., 0] <= actual) & (actual <= quantiles[..., 2])
    print(f"  seed {seed}  {scores[-1]:.3f}  in the interval of 0.8: {inside.mean():.3f}  "
          f"{time.process_time() - begin:.1f} s of processor time")  # fmt: skip

last = ppm[origin[:, None] + np.arange(1, AHEAD + 1) - 52]
growth = (ppm[origin] - ppm[origin - 520]) / 10
print(f"  {'PyTorch' if TORCH else 'LSTM':26}  {np.mean(scores):.3f}")
print(f"  seasonal naive with growth  {rmse(last + growth[:, None]):.3f}")
print(f"  seasonal naive              {rmse(last):.3f}")
if "--quick" not in sys.argv:
    print(f"  exponential smoothing       {rmse(holt_winters(ppm, origin, AHEAD, 52)):.3f}")
