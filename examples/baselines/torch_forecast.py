# SPDX-License-Identifier: MIT
"""PyTorch: the network of `bptt.models.Forecaster`, its windows and its loss, with torch.nn.

For ``--torch`` of the examples that forecast.
"""

import numpy as np
import torch

LEVELS = torch.tensor([0.1, 0.5, 0.9])


def size(changes):
    return np.sqrt(np.mean(changes**2))


def forecast(y, phases, start, ahead, window, hidden, epochs, seed, season=None):
    """Train on the steps before `start`; return the quantiles of each later step, (n, ahead, 3)."""
    torch.manual_seed(seed)
    lead, h = season or 1, np.arange(1, ahead + 1)
    t = np.arange(lead, len(y))
    past = t[:, None] + (h - season * -(-h // season) if season else 0 * h)
    angle = 2 * np.pi * phases[lead:]
    columns = [(y[t] - y[t - 1]) / size(np.diff(y[:start]))]
    if season:
        columns.append((y[t] - y[t - season]) / size(y[season:start] - y[: start - season]))
    x = np.stack([*columns, *np.sin(angle).T, *np.cos(angle).T], 1).astype(np.float32)
    n = start - ahead - lead  # the steps whose whole future is before `start`
    changes = y[t[:n, None] + h] - y[past[:n]]
    scale = size(changes)

    ends = np.arange(n - 1, window - 2, -(window // 4))[::-1]
    at = ends[:, None] + np.arange(1 - window, 1)
    inputs, target = torch.tensor(x[at]), torch.tensor((changes / scale)[at], dtype=torch.float32)
    lstm, out = torch.nn.LSTM(x.shape[1], hidden), torch.nn.Linear(hidden, 3 * ahead)
    parameters = [*lstm.parameters(), *out.parameters()]
    adam = torch.optim.Adam(parameters, lr=5e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs * -(-len(at) // 32))
    for _ in range(epochs):
        for b in torch.randperm(len(at)).split(32):
            y_hat = out(lstm(inputs[b].swapaxes(0, 1))[0][window // 2 :])
            error = target[b].swapaxes(0, 1)[window // 2 :, ..., None]
            error = error - y_hat.unflatten(-1, (ahead, 3))
            torch.maximum(LEVELS * error, (LEVELS - 1) * error).mean().backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            adam.step(), adam.zero_grad(), cosine.step()

    origin = np.arange(start - 1, len(y) - ahead) - lead
    with torch.no_grad():
        last = lstm(torch.tensor(x[origin[:, None] + np.arange(1 - window, 1)]).swapaxes(0, 1))[0]
        quantiles = np.sort(out(last[-1]).unflatten(-1, (ahead, 3)).numpy(), axis=-1)
    return y[past[origin]][..., None] + scale * quantiles
