# SPDX-License-Identifier: MIT
"""Forecast atmospheric CO2
========================

An LSTM reads 104 weeks and gives the next 52.

Data: weekly averages from Mauna Loa, 1958 to 2001 (Keeling & Whorf), shipped with the package.
Trained on the weeks before 1990; scored on a forecast every week from then on, against the seasonal
naive forecast: the same week last year, plus the yearly growth of the last ten years.
"""

import sys

import numpy as np

import bptt

STEPS = 100 if "--quick" in sys.argv else 1000
PAST, AHEAD = 104, 52
rng = np.random.default_rng(0)

dates, ppm, _ = bptt.datasets.load_co2()
start = np.arange(PAST, len(ppm) - AHEAD + 1)  # the first week of every possible forecast
past = ppm[start[:, None] + np.arange(-PAST, 0)]
future = ppm[start[:, None] + np.arange(AHEAD)]
training = dates[start + AHEAD - 1] < np.datetime64("1990-01-01")
test = dates[start] >= np.datetime64("1990-01-01")

# Relative to the last known week, because the future level is higher than any in training.
last = past[:, -1:]
scale = np.std(past[training] - last[training])
x = ((past - last) / scale).T[:, :, None].astype(np.float32)  # (T, B, 1)
y = ((future - last) / scale).astype(np.float32)  # (B, 52)

# %%
# One state after two years, and a linear layer that reads all 52 weeks from it.
lstm = bptt.LSTM(input_size=1, hidden_size=48, seed=0)
out = bptt.Linear(48, AHEAD, seed=0)
optimizer = bptt.optim.Adam(bptt.optim.join(lstm=lstm.parameters, out=out.parameters), lr=5e-3)
schedule = bptt.schedules.CosineAnnealing(optimizer, t_max=STEPS)

for step in range(1, STEPS + 1):
    b = rng.choice(np.flatnonzero(training), 64)
    _, (h, c), tape = lstm.forward(x[:, b])
    prediction, out_tape = out.forward(h[0])
    loss, dprediction = bptt.losses.mse(prediction, y[b])

    out_grads = out.backward(out_tape, dprediction)
    lstm_grads = lstm.backward(tape, dstate=(out_grads.x[None], None))
    grads = bptt.optim.join(lstm=lstm_grads.params, out=out_grads.params)
    bptt.clip_grad_norm(grads, 1.0)
    optimizer.step(grads)
    schedule.step()
    if step % 100 == 0:
        print(f"step {step:4}  training RMSE {scale * loss**0.5:.3f} ppm")


# %%
# Forecasts of the years after 1990, which the network has not seen.
def rmse(forecast, axis=None):
    return np.sqrt(np.mean((forecast - future[test]) ** 2, axis))


_, (h, c) = lstm(x[:, test])
model = last[test] + scale * out(h[0])
growth = (ppm[start - 1] - ppm[np.maximum(start - 521, 0)]) / 10  # ppm a year
naive = past[test][:, -AHEAD:]
print(f"{test.sum()} forecasts of 52 weeks, RMSE in ppm:")
print(f"  LSTM                        {rmse(model):.3f}")
print(f"  seasonal naive with growth  {rmse(naive + growth[test][:, None]):.3f}")
print(f"  seasonal naive              {rmse(naive):.3f}")

if "--plot" in sys.argv:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(dates[-PAST - AHEAD :], ppm[-PAST - AHEAD :], "k", lw=1, label="measured")
    left.plot(dates[-AHEAD:], model[-1], label="LSTM, given the two years before")
    left.tick_params("x", rotation=30)
    left.set(title="The last year of the data", ylabel="CO2, ppm")
    right.plot(np.arange(1, AHEAD + 1), rmse(model, 0), label="LSTM")
    right.plot(
        np.arange(1, AHEAD + 1), rmse(naive + growth[test][:, None], 0), label="naive + growth"
    )
    right.set(title="All forecasts from 1990 on", xlabel="weeks ahead", ylabel="RMSE, ppm")
    for axes in (left, right):
        axes.legend(frameon=False)
    figure.savefig(sys.argv[-1], dpi=120)
