# SPDX-License-Identifier: MIT
"""The estimator `Forecaster`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from .._files.access import Path
from .._guesses import answering
from .._types import Array
from .._validate import as_count
from ..losses import quantile_loss
from ..sequential.model import Sequential
from ..training import History, fit
from .forecasts import Forecasts
from .network import network_of
from .series import as_series
from .windows import Features, as_levels, examples, first_held_out

__all__ = ["Forecaster"]


class Forecaster(Forecasts):
    """Forecast the next steps of time series, with intervals.

    A recurrent layer reads the changes of a series, and a linear layer gives the quantiles of the
    next `steps` values at once. They are relative to the newest value or to the last season, and
    scaled by the size of the changes of each series. Every step that has read half a window counts
    in training (the "forking sequences" of Wen et al.).

    Parameters
    ----------
    steps : int
        The steps of a forecast.
    window : int, optional
        The steps that a forecast reads, 2 or more; it should span the longest season.
    season : int, optional
        The steps of a season that repeats: forecasts are then relative to the last season.
    quantiles : sequence of float, optional
        In increasing order, 0.5 among them; the outer ones are the ends of an interval.
    cell : {"lstm", "gru", "rnn", "mgu", "slstm", "lstm1997"}, optional
    hidden_size, num_layers : int, optional
        Of the recurrent layer.
    dropout : float, optional
        Between the layers.
    epochs, batch_size, lr, schedule, patience, progress
        As in `bptt.fit`.
    validation : float, optional
        The fraction of each series, its latest part, that is held out for early stopping and for
        `coverage_`; None for none.
    seed : int, optional
        For parameters, order and dropout.

    Attributes
    ----------
    model_ : Sequential
        The network: its input is `features_`, its output (T, B, steps * Q).
    features_ : Features
        What the network reads.
    series_, scales_ : list of Series, list of Scale
        The end of each series, from which `predict` goes on, and its units.
    single_ : bool
        Was it one series?
    coverage_ : dict of float to float
        As in `Backtest`, of the forecasts within the held-out part. That part also chose the epoch,
        so `backtest` of later data may show a little less.
    history_ : History
        Losses are in units of the scaled changes.

    References
    ----------
    Wen, Torkkola, Narayanaswamy & Madeka (2017), "A multi-horizon quantile recurrent forecaster",
    arXiv:1711.11053. Chernozhukov, Fernandez-Val & Galichon (2010), "Quantile and probability
    curves without crossing", Econometrica 78(3), 1093-1125: the sorting of the quantiles.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.models import Forecaster
    >>> y = 20 + np.sin(np.arange(400) * 2 * np.pi / 12)  # a season of 12 steps
    >>> model = Forecaster(steps=6, window=24, hidden_size=16, epochs=60, lr=0.02).fit(y)
    >>> truth = 20 + np.sin(np.arange(400, 406) * 2 * np.pi / 12)
    >>> bool(np.abs(model.predict() - truth).max() < 0.1)
    True
    >>> model.predict_quantiles(2).shape
    (2, 3)
    """

    FITTED: ClassVar[dict[str, Any]] = {
        "model_": Sequential, "features_": Features, "series_": list, "scales_": list,
        "single_": bool, "coverage_": dict, "history_": History,
    }  # fmt: skip

    @answering
    def __init__(
        self, steps: int, window: int = 100, *, season: int | None = None,
        quantiles: Sequence[float] = (0.1, 0.5, 0.9), cell: str = "lstm", hidden_size: int = 64,
        num_layers: int = 1, dropout: float = 0.0, epochs: int = 100, batch_size: int = 32,
        lr: float = 5e-3, schedule: str | None = "cosine", validation: float | None = 0.2,
        patience: int | None = 20, seed: int = 0, progress: bool | None = None,
    ) -> None:  # fmt: skip
        self.steps, self.window, self.season, self.quantiles = steps, window, season, quantiles
        self.cell, self.hidden_size, self.num_layers = cell, hidden_size, num_layers
        self.dropout, self.epochs, self.batch_size, self.lr = dropout, epochs, batch_size, lr
        self.schedule, self.validation, self.patience = schedule, validation, patience
        self.seed, self.progress = seed, progress

    def fit(
        self, series: Any, *, inputs: Any = None, dates: Any = None, target: Any = None,
        group_column: Any = None, checkpoint: Path | None = None,
    ) -> Forecaster:  # fmt: skip
        """Train on one series or several.

        Parameters
        ----------
        series : array_like, list or frame
            One series (T,); several as (n, T) or a list of n arrays; a Series of pandas; a frame
            with a column for each series, or with the columns `target` and `group_column`.
        inputs : array_like, optional
            Inputs whose future is known, such as holidays: (T, K), for several series a list. Rows
            beyond the end of the series are its future. For a frame, names of columns; rows at the
            end in which the value is missing are the future.
        dates : array_like of datetime64, optional
            The date of each step: (T,) for all series, or a list of them. Hour, weekday and day of
            the year become inputs if the dates are close enough together for them. For a frame, the
            name of a column; a datetime index needs no argument.
        target, group_column : str, optional
            The column of a frame with the values, and the one with the name of the series that a
            row belongs to.
        checkpoint : str or path-like, optional
            As in `bptt.fit`.

        Raises
        ------
        ValueError, TypeError
            If an argument is wrong, a value is missing, or a series is too short: it needs
            window + steps + season values (1 in place of no season) besides those held out.
        """
        caller = "Forecaster.fit"
        steps = as_count(caller, "steps", self.steps, 1)
        window = as_count(caller, "window", self.window, 2)
        season = None if self.season is None else as_count(caller, "season", self.season, 1)
        levels = as_levels(caller, self.quantiles)
        found, single = as_series(caller, series, inputs, dates, target, group_column)
        cuts = [
            first_held_out(caller, f"series[{k}]", len(one), steps, window, season, self.validation)
            for k, one in enumerate(found)
        ]
        features, scales, learn, held = examples(found, cuts, steps, window, season)
        model = network_of(caller, self, features.size, steps * len(levels))
        holds = self.validation is not None
        history = fit(
            model, learn, loss=loss_of(levels), epochs=self.epochs, batch_size=self.batch_size,
            lr=self.lr, schedule=self.schedule, validation=held if holds else None,
            patience=self.patience if holds else None, checkpoint=checkpoint, seed=self.seed,
            progress=self.progress,
        )  # fmt: skip
        self.model_, self.features_, self.scales_, self.history_ = model, features, scales, history
        self.series_, self.single_ = [one.tail(self._least) for one in found], single
        origins = [np.arange(c - 1, len(one) - steps) for c, one in zip(cuts, found)]
        self.coverage_ = self._backtest(found, scales, origins).coverage if holds else {}
        return self


def loss_of(levels: Array) -> Callable[[Array, Array], tuple[float, Array]]:
    """The quantile loss of predictions (T, B, steps * Q), without steps whose target is NaN."""

    def loss(prediction: Array, target: Array) -> tuple[float, Array]:
        rows = prediction.reshape(*target.shape, len(levels))
        value, grad = quantile_loss(rows, target, levels, mask=~np.isnan(target[..., 0]))
        return value, grad.reshape(prediction.shape)

    return loss
