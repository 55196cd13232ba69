# SPDX-License-Identifier: MIT
"""The demo's other tasks: the adding problem, speakers, and CO2."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from .. import datasets, tasks
from .._types import Array
from ..init import chrono
from ..layers.cells import GRU, LSTM, RNN, Recurrent
from ..losses import cross_entropy, mse
from .console import Console, Result
from .model import Batch, Reader, fit, state_gradient_norms

__all__ = ["Forecast", "Sums", "adding", "co2", "speakers"]


class Sums(NamedTuple):
    """Results of the adding problem, by model."""

    losses: dict[str, list[float]]
    norms: dict[str, Array]  # ||dL/dh_t||, shape (T,)


ADDING_TASK = """
2  Adding problem: the sum of two marked numbers out of 100.
   An RNN and an LSTM of 32 units, trained alike; the LSTM's gates start with
   time scales of 1 to 100 steps (chrono initialisation)."""


def adding(console: Console, seed: int, steps: int) -> tuple[Sums, list[Result]]:
    """Train an RNN and an LSTM of the same width on the adding problem."""
    console.print(ADDING_TASK)

    def batch(size: int, rng: np.random.Generator) -> Batch:
        x, target, _ = tasks.adding(100, size, rng)
        return Batch(x, target[:, None])

    baseline = 1 / 6
    test = batch(4000, np.random.default_rng([seed, 1]))
    sums, results = Sums({}, {}), []
    layers: dict[str, Recurrent] = {"RNN": RNN(2, 32, seed=seed), "LSTM": LSTM(2, 32, seed=seed)}
    chrono(layers["LSTM"], 100, seed)
    for name, layer in layers.items():
        model = Reader(layer, 1, seed)
        draw = partial(batch, 64, np.random.default_rng([seed, 2]))
        sums.losses[name] = fit(model, draw, mse, steps=steps, lr=1e-2, console=console, name=name)
        first_500 = Batch(test.x[:, :500], test.target[:500])
        sums.norms[name] = state_gradient_norms(model, first_500, mse)
        score, _ = mse(model(test.x), test.target)
        first, last = sums.norms[name][[0, -1]]
        console.print(
            f"   {name:4} MSE {score:.4f}, always answering 1: {baseline:.4f}; "
            f"||dL/dh_1|| / ||dL/dh_100|| = {first / last:.0e}"
        )
        goal = 0.01 if name == "LSTM" else None
        results.append(Result("adding, T=100", name, score, "MSE", baseline, goal))
    return sums, results


def speakers(console: Console, seed: int, steps: int) -> Result:
    """Train a GRU to recognise the speaker from 7 to 29 frames of speech."""
    console.print("\n3  Who is speaking? 270 training and 370 test utterances of nine men")
    train, test = datasets.load_japanese_vowels()
    inside = np.arange(len(train.x))[:, None] < train.lengths
    mean, scale = train.x[inside].mean(axis=0), train.x[inside].std(axis=0)
    rng = np.random.default_rng(seed)

    def draw() -> Batch:
        b = rng.integers(0, len(train.labels), 54)
        x = (train.x[:, b] - mean) / scale
        # Noise regularises. Its size comes from cross-validation within the training set.
        noise = 0.6 * rng.standard_normal(x.shape, np.float32)
        return Batch(x + noise, train.labels[b], train.lengths[b])

    model = Reader(GRU(12, 64, seed=seed), 9, seed)
    fit(model, draw, cross_entropy, steps=steps, lr=5e-3, console=console, name="GRU")
    answers = model((test.x - mean) / scale, test.lengths).argmax(axis=1)
    accuracy = float(np.mean(answers == test.labels))
    baseline = float(np.bincount(test.labels).max() / len(test.labels))
    console.print(
        f"   GRU  accuracy {accuracy:.4f}, always the most frequent speaker: {baseline:.4f}"
    )
    return Result(
        "speaker of 9", "GRU", accuracy, "accuracy", baseline, goal=0.95, higher_is_better=True
    )


class Forecast(NamedTuple):
    """One forecast year, and the two years before it."""

    dates: Array
    ppm: Array  # measured, over all three years
    model: Array  # forecast of the last 52 weeks
    seasonal: Array  # the baseline


HISTORY, AHEAD = 104, 52  # weeks
CO2_TASK = """
4  CO2 at Mauna Loa, parts per million: the next 52 weeks from the last 104.
   Training uses the years up to 1989, the test every later week up to 2001.
   The baseline, seasonal naive with growth, is the same week of last year plus
   the mean yearly growth of the last ten years."""


def co2(console: Console, seed: int, steps: int) -> tuple[Forecast, Result]:
    """Train an LSTM to forecast a year from two years, all 52 weeks at once."""
    console.print(CO2_TASK)
    dates, ppm, _ = datasets.load_co2()
    held_out = int(np.searchsorted(dates, np.datetime64("1990-01-01")))
    origins = np.arange(HISTORY, len(ppm) - AHEAD + 1)  # index of each forecast's first week
    past = ppm[origins[:, None] + np.arange(-HISTORY, 0)]
    future = ppm[origins[:, None] + np.arange(AHEAD)]
    training, test = origins + AHEAD <= held_out, origins >= held_out

    # Inputs and answers are relative to the last week, since the level never repeats.
    last = past[:, -1:]
    scale = np.std(past[training] - last[training])
    x = ((past - last) / scale).T[:, :, None].astype(np.float32)
    y = ((future - last) / scale).astype(np.float32)
    rng = np.random.default_rng(seed)

    def draw() -> Batch:
        b = rng.choice(np.flatnonzero(training), 64)
        return Batch(x[:, b], y[b])

    model = Reader(LSTM(1, 48, seed=seed), AHEAD, seed)
    fit(model, draw, mse, steps=steps, lr=5e-3, console=console, name="LSTM")
    forecast = last[test] + scale * model(x[:, test])

    first = origins[test]
    naive = past[test][:, -AHEAD:]
    seasonal = naive + (ppm[first - 1] - ppm[first - 521])[:, None] / 10
    plain, baseline, score = (
        float(np.sqrt(np.mean((f - future[test]) ** 2))) for f in (naive, seasonal, forecast)
    )
    console.print(
        f"   LSTM RMSE {score:.3f} ppm, seasonal naive with growth {baseline:.3f}, "
        f"without growth {plain:.3f}"
    )
    shown = slice(first[-1] - HISTORY, first[-1] + AHEAD)
    picture = Forecast(dates[shown], ppm[shown], forecast[-1], seasonal[-1])
    result = Result("CO2, 52 weeks", "LSTM", score, "RMSE, ppm", baseline, goal=baseline)
    return picture, result
