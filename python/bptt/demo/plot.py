# SPDX-License-Identifier: MIT
"""The demo's picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._types import Array
from .tasks import AHEAD, Forecast, Sums

__all__ = ["draw"]

COLOURS = {"RNN": "tab:red", "LSTM": "tab:blue"}


def draw(figure: Any, digits: Array, sums: Sums, forecast: Forecast) -> None:
    """Fill a matplotlib figure with four panels."""
    (a, b), (c, d) = figure.subplots(2, 2)
    figure.suptitle("Backpropagation through time: what is learnt, and what is not")

    steps = np.arange(1, len(digits) + 1)
    a.semilogy(steps, np.where(digits == 0, np.nan, np.abs(digits)), "k.-", lw=0.8)
    a.set(
        title="One tanh neuron, 100 digits: terms of $dL/dw_{in}$, untrained",
        xlabel="time step $t$",
        ylabel="|term of step $t$|",
    )

    for name, losses in sums.losses.items():
        b.semilogy(_smooth(losses), color=COLOURS[name], label=name)
    b.axhline(1 / 6, color="grey", ls="--", label="always 1")
    b.set(title="Adding problem, 100 steps: the loss", xlabel="update", ylabel="MSE (running mean)")
    b.legend()

    for name, norms in sums.norms.items():
        relative = norms / norms[-1]
        t = np.arange(1, len(norms) + 1)
        c.semilogy(t, np.where(relative == 0, np.nan, relative), color=COLOURS[name], label=name)
    c.set(
        title="Adding problem: gradient reaching each step, trained",
        xlabel="time step $t$",
        ylabel=r"$\|dL/dh_t\| \; / \; \|dL/dh_T\|$",
    )
    c.legend()

    d.plot(forecast.dates, forecast.ppm, "k", lw=1.2, label="measured")
    ahead = forecast.dates[-AHEAD:]
    d.plot(ahead, forecast.seasonal, color="grey", ls="--", label="seasonal naive with growth")
    d.plot(ahead, forecast.model, color=COLOURS["LSTM"], label="LSTM forecast")
    d.set(title="CO2 at Mauna Loa, 52 weeks ahead", ylabel="ppm")
    d.margins(y=0.25)
    d.tick_params(axis="x", rotation=30)
    d.legend(loc="upper left")


def _smooth(values: list[float], width: int = 20) -> Array:
    width = min(width, len(values))
    return np.convolve(values, np.full(width, 1 / width), "valid")
