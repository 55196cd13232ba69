# SPDX-License-Identifier: MIT
"""The score of a trained model on data that it has not seen, beside a trivial baseline."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from .._types import Array
from ..models.writing import Writing
from .data import Sequences
from .series import SeriesData

__all__ = [
    "Score",
    "accuracy",
    "errors_of_forecasts",
    "held_out_rows",
    "perplexities",
    "root_mean_square",
    "root_mean_square_error",
]


class Score(NamedTuple):
    """The scores of the model and of the baseline, in words and numbers."""

    metric: str
    value: float
    baseline: float
    baseline_is: str
    held_out: str  # what it was measured on
    more: dict[str, float]  # further numbers
    higher_is_better: bool = False

    def better(self) -> bool:
        """Is the model better than the baseline?"""
        if self.higher_is_better:
            return self.value > self.baseline
        return self.value < self.baseline

    def __str__(self) -> str:
        more = "".join(f", {name} {value:.4g}" for name, value in self.more.items())
        return (
            f"{self.metric} {self.value:.4g}{more} on {self.held_out}; "
            f"{self.baseline_is}: {self.baseline:.4g}"
        )


def held_out_rows(y: Array, fraction: float, seed: int, by_class: bool) -> tuple[Array, Array]:
    """Rows to learn from and rows to hold out, drawn by `seed`, in equal shares of each class."""
    order = np.random.default_rng(seed).permutation(len(y))
    parts = [order[y[order] == one] for one in np.unique(y)] if by_class else [order]
    held = np.concatenate([part[: round(fraction * len(part))] for part in parts])
    if fraction and not len(held):  # too few of each class
        held = order[:1]
    return np.setdiff1d(np.arange(len(y)), held), np.sort(held)


def _held_out(held: Sequences) -> str:
    return f"{len(held)} held-out sequence{'s' * (len(held) != 1)}"


def accuracy(model: Any, learnt: Sequences, held: Sequences) -> Score:
    """Compare with the most frequent class of the training data."""
    assert learnt.y is not None
    assert held.y is not None
    classes, counts = np.unique(learnt.y, return_counts=True)
    usual = classes[counts.argmax()]
    return Score(
        "accuracy", model.score(held.X, held.y), float(np.mean(held.y == usual)),
        f"always answering {str(usual)!r}", _held_out(held), {}, True,
    )  # fmt: skip


def root_mean_square(model: Any, learnt: Sequences, held: Sequences) -> Score:
    """Compare with the mean of the training data."""
    assert learnt.y is not None
    assert held.y is not None
    return Score(
        "RMSE", root_mean_square_error(model, held), _size(held.y - learnt.y.mean()),
        f"always answering the mean, {learnt.y.mean():.4g}", _held_out(held), {},
    )  # fmt: skip


def root_mean_square_error(model: Any, data: Sequences) -> float:
    assert data.y is not None
    return _size(model.predict(data.X) - data.y)


def errors_of_forecasts(model: Any, data: SeriesData, cuts: list[int]) -> Score:
    """Compare with the last season, or else with the last value; filled gaps do not count."""
    errors, naive, inside, count = list[Array](), list[Array](), list[Array](), 0
    steps = np.arange(1, model.features_.steps + 1)
    for one, cut in zip(data.series, cuts):
        dates = None if one.dates is None else one.dates[: len(one.values)]
        found = model.backtest(one.values, start=cut, dates=dates, inputs=one.inputs)
        there = ~one.filled[found.origin[:, None] + steps]
        before = model.features_.base(one.values, found.origin, len(steps))
        low, high = found.quantiles[..., 0], found.quantiles[..., -1]
        errors.append((found.forecast - found.actual)[there])
        naive.append((before - found.actual)[there])
        inside.append(((low <= found.actual) & (found.actual <= high))[there])
        count += len(found.origin)
    what = "the values of the last season" if model.season else "the last value"
    level = max(model.quantiles) - min(model.quantiles)
    return Score(
        "RMSE", _size(np.concatenate(errors)), _size(np.concatenate(naive)), what,
        f"{count} forecasts of {len(steps)} held-out steps",
        {f"share of values in the {level:.0%} interval": float(np.concatenate(inside).mean())},
    )  # fmt: skip


def perplexities(model: Writing, learnt: str, held: str) -> Score:
    """Compare with the frequencies of the single tokens, each counted once more."""
    counts = Counter(model.vocabulary_.encode(model._tokens("fit", "text", learnt)).tolist())
    ids = model.vocabulary_.encode(model._tokens("fit", "text", held))[1:]
    total = sum(counts.values()) + len(model.vocabulary_)
    nats = -sum(math.log((counts[number] + 1) / total) for number in ids.tolist()) / len(ids)
    return Score(
        "perplexity", model.perplexity(held), math.exp(nats),
        f"frequencies of single {model.tokens}", f"{len(ids)} held-out {model.tokens}", {},
    )  # fmt: skip


def _size(errors: Array) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))
