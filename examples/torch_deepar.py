# SPDX-License-Identifier: MIT
"""PyTorch: draw the paths of a forecast
=====================================

A probabilistic forecast of CO2 as DeepAR makes it (Salinas et al., 2020).

A two-layer LSTM reads the week before and gives mean and deviation of the next week. A forecast
draws a week, reads it, and so on for a year: 52 calls of one step each. The one line that changes
says `bptt.torch` in place of `torch.nn`. Needs `pip install "bptt[torch]"`. Data: weekly averages
from Mauna Loa, shipped with the package. ::

    python examples/torch_deepar.py                # --before: with torch.nn;  --quick: fewer steps
"""

import sys

import numpy as np
import torch

import bptt.torch

PAST, AHEAD, PATHS = 104, 52, 100
dates, ppm, _ = bptt.datasets.load_co2()
week = 2 * np.pi * np.arange(len(ppm)) / 52.1775
change = torch.tensor(np.diff(ppm), dtype=torch.float32)[:, None]  # from week k to k + 1
season = torch.tensor(np.stack([np.sin(week), np.cos(week)], 1)[1:], dtype=torch.float32)
first_test = int(np.searchsorted(dates, np.datetime64("1990-01-01")))


class Forecaster(torch.nn.Module):
    def __init__(self, nn):
        super().__init__()
        self.lstm = nn.LSTM(3, 40, num_layers=2, dropout=0.1)
        self.out = torch.nn.Linear(40, 2)

    def forward(self, x, state=None):
        """The distribution of each next change, from the change before and the season."""
        y, state = self.lstm(x, state)
        mean, width = self.out(y).split(1, dim=-1)
        return torch.distributions.Normal(mean, torch.nn.functional.softplus(width) + 1e-3), state


def windows(starts, steps):
    """Changes and inputs of all steps, (T, B, ...)."""
    k = torch.arange(steps)[:, None] + torch.as_tensor(starts)
    return change[k], torch.cat([change[k - 1], season[k]], dim=-1)


@torch.no_grad()
def forecast(model, starts):
    """Sampled levels of the next 52 weeks, (52, starts, paths)."""
    _, x = windows(np.repeat(starts - PAST, PATHS), PAST)
    _, state = model(x[:-1])
    step, drawn = x[-1:], []
    for ahead in range(AHEAD):
        distribution, state = model(step, state)
        drawn.append(distribution.sample())
        now = torch.as_tensor(np.repeat(starts, PATHS) + ahead)
        step = torch.cat([drawn[-1], season[now][None]], dim=-1)
    level = torch.as_tensor(ppm[starts - 1], dtype=torch.float32)
    return level[:, None] + torch.cat(drawn).reshape(AHEAD, len(starts), PATHS).cumsum(0)


def train(nn, quick=False):
    """Return the losses, and the root mean square error of the median in ppm."""
    torch.manual_seed(0)
    model, losses = Forecaster(nn), []
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40 if quick else 400):
        y, x = windows(torch.randint(1, first_test - PAST - AHEAD, (64,)), PAST + AHEAD)
        loss = -model(x)[0].log_prob(y).mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        losses.append(loss.item())
    starts = np.arange(first_test, len(ppm) - AHEAD, 13)
    median = forecast(model.eval(), starts).median(dim=2).values.numpy()
    truth = ppm[starts + np.arange(AHEAD)[:, None]]
    return losses, float(np.sqrt(np.mean((median - truth) ** 2)))


if __name__ == "__main__":
    nn = torch.nn if "--before" in sys.argv else bptt.torch
    losses, error = train(nn, "--quick" in sys.argv)
    print(f"{nn.__name__}: loss {losses[0]:.6f} to {losses[-1]:.6f}, RMSE {error:.3f} ppm")
