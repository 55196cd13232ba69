# SPDX-License-Identifier: MIT
"""Forecast atmospheric CO2: an LSTM reads 104 weeks and gives the next 52.

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


def rmse(forecast):
    return np.sqrt(np.mean((forecast - future[test]) ** 2))


_, (h, c) = lstm(x[:, test])
growth = (ppm[start - 1] - ppm[np.maximum(start - 521, 0)]) / 10  # ppm a year
naive = past[test][:, -AHEAD:]
print(f"{test.sum()} forecasts of 52 weeks, RMSE in ppm:")
print(f"  LSTM                        {rmse(last[test] + scale * out(h[0])):.3f}")
print(f"  seasonal naive with growth  {rmse(naive + growth[test][:, None]):.3f}")
print(f"  seasonal naive              {rmse(naive):.3f}")
