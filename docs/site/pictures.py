# SPDX-License-Identifier: MIT
"""Pictures of the tasks, drawn from the variables that their scripts end with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

SMALL = {"frameon": False, "fontsize": "small"}
Names = dict[str, Any]  # the variables of a script


def figure() -> Figure:
    return Figure(figsize=(8, 3.6), layout="constrained")


def forecast(times: Any, values: Any, names: Names, ylabel: str) -> Figure:
    """The last forecast, and as many steps before it, beside the actual values."""
    origin, ahead, low, mid, high = names["origin"][-1], names["AHEAD"], *names["quantiles"][-1].T
    made = figure()
    axes = made.subplots()
    steps = slice(origin - ahead, origin + ahead + 1)
    coming = times[origin + 1 : origin + ahead + 1]
    axes.plot(times[steps], values[steps], "k", lw=1, label="measured")
    axes.plot(coming, mid, "C0", label="forecast")
    axes.fill_between(coming, low, high, color="C0", alpha=0.25, lw=0, label="interval for 80 %")
    axes.set(ylabel=ylabel)
    axes.tick_params("x", rotation=20)
    axes.legend(**SMALL)
    return made


def forecast_co2(names: Names) -> Figure:
    return forecast(names["dates"], names["ppm"], names, "CO2, ppm")


def forecast_temperature(names: Names) -> Figure:
    return forecast(names["hours"], names["degrees"], names, "degrees Fahrenheit")


def recognise_speaker(names: Names) -> Figure:
    """A recording, and the accuracy of each seed."""
    made = figure()
    left, right = made.subplots(1, 2)
    left.plot(names["x"][0], lw=1)
    left.set(title="a recording of the first man", xlabel="step", ylabel="12 numbers at each step")
    scores = names["scores"]
    right.plot(scores, "o", label="network")
    right.axhline(names["most"], color="grey", ls="--", label="always the most frequent man")
    right.set(title="test accuracy", xlabel="seed", ylim=(0, 1.05), xticks=range(len(scores)))
    right.legend(**SMALL)
    return made


def next_character(names: Names) -> Figure:
    """The loss in bits by epoch."""
    made, history = figure(), names["model"].history_
    axes = made.subplots()
    epochs = [epoch.number for epoch in history.epochs]
    axes.plot(epochs, [epoch.loss / np.log(2) for epoch in history.epochs], "o-", label="training")
    axes.axhline(np.log2(names["scores"][-1]), color="grey", label="held-out text")
    axes.axhline(np.log2(names["unigram"]), color="grey", ls="--", label="frequencies")
    axes.set(xlabel="epoch", ylabel="bits a character", xticks=epochs, ylim=(0, None))
    axes.legend(**SMALL)
    return made


def memory(names: Names) -> Figure:
    """The gradient at each word of untrained networks, relative to the largest."""
    made, gap = figure(), names["gap"]
    axes = made.subplots()
    x, target = names["sentences"](gap, 200, np.random.default_rng(0))
    for kind in ("RNN", "LSTM", "attention"):
        shares = names["shares"](names["network"](kind, 0), x, target)
        axes.semilogy(range(gap + 1), shares, label=kind)
    axes.set(title="before training", xlabel="word", ylabel="gradient, relative to the largest")
    axes.set_xticks(range(0, gap + 1, max(gap // 10, 1)))
    axes.legend(**SMALL)
    return made


def judge_review(names: Names) -> Figure:
    """The thirds of a review: the accuracy of each alone, and how often it decides."""
    made, place = figure(), np.arange(3)
    axes = made.subplots()
    alone, decides = np.mean(names["places"], 0)
    axes.bar(place - 0.2, alone, 0.38, label="accuracy, without the others")
    axes.bar(place + 0.2, decides, 0.38, label="share of reviews in which it decides")
    axes.set(xticks=place, xticklabels=["first third", "middle", "last third"], ylim=(0, 1.05))
    axes.legend(**SMALL)
    return made


def recognise_exercise(names: Names) -> Figure:
    """A window of each exercise."""
    made = figure()
    of_window = names["y"][names["source"]]
    for k, axes in enumerate(made.subplots(1, len(names["names"]), sharey=True)):
        axes.plot(names["x"][np.argmax(of_window == k)], lw=0.8)
        axes.set_title(names["names"][k])
        axes.set_xlabel("step")
    return made


DRAWN: dict[str, Callable[[Names], Figure]] = {
    drawn.__name__: drawn
    for drawn in (
        forecast_co2,
        forecast_temperature,
        judge_review,
        memory,
        next_character,
        recognise_exercise,
        recognise_speaker,
    )
}
