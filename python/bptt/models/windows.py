# SPDX-License-Identifier: MIT
"""A series as the network of a `Forecaster` reads it: scaled, with dates and known inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .._types import Array
from .._validate import as_number
from .._words import shown
from ..losses import as_quantiles
from .calendar import cycles_of, phases
from .files import record
from .series import Series

__all__ = ["Examples", "Features", "Scale", "as_levels", "examples", "first_held_out", "windows"]


@record
@dataclass(frozen=True)
class Scale:
    """The units of one series: root mean squares of its changes.

    Attributes
    ----------
    step, season : float
        From one step, and from one season, to the next.
    ahead : float
        From the value that a forecast begins with to the actual one.
    """

    step: float
    season: float
    ahead: float


@record
@dataclass(frozen=True, eq=False)
class Features:
    """What the network reads at each step, and what it forecasts.

    It reads the change since the step before; the change since a season before, if any; the
    phases of the date; the known inputs of the next `steps` steps, standardised. All are known at
    that step, so that a trained network can read on. It forecasts changes from the newest value, or
    from the values of the last season.

    Attributes
    ----------
    steps : int
        The steps of a forecast.
    season : int or None
    cycles : tuple of str
        Of the dates; see `phases`.
    mean, std : ndarray, shape (K,)
        Of the known inputs.
    """

    steps: int
    season: int | None
    cycles: tuple[str, ...]
    mean: Array
    std: Array

    @classmethod
    def of(cls, series: Sequence[Series], steps: int, season: int | None) -> Features:
        dates, known = series[0].dates, np.concatenate([one.inputs for one in series])
        std = known.std(axis=0)
        cycles = () if dates is None or len(dates) < 2 else cycles_of(dates)
        return cls(steps, season, cycles, known.mean(axis=0), np.where(std > 0, std, 1.0))

    @property
    def size(self) -> int:
        return 1 + bool(self.season) + 2 * len(self.cycles) + self.steps * len(self.mean)

    @property
    def lead(self) -> int:
        """The first step that has features."""
        return self.season or 1

    def scale(self, values: Array) -> Scale:
        h = min(self.steps, max(len(values) - self.lead - 1, 1))
        origins = np.arange(self.lead, len(values) - h)
        ahead = sliding_window_view(values[self.lead + 1 :], h) - self.base(values, origins, h)
        season = values[self.lead :] - values[: -self.lead]
        return Scale(_size(np.diff(values)), _size(season), _size(ahead))

    def base(self, values: Array, origins: Array, steps: int) -> Array:
        """What forecasts from `origins` begin with, shape (n, steps)."""
        if self.season is None:
            return np.repeat(values[origins][:, None], steps, axis=1)
        h = np.arange(1, steps + 1)
        found: Array = values[origins[:, None] + h - self.season * -(-h // self.season)]
        return found

    def read(self, series: Series, scale: Scale) -> Array:
        """The features from step `lead` on, shape (T - lead, size).

        Where known inputs are not given, they are NaN.
        """
        lead, values = self.lead, series.values
        parts = [(values[lead:] - values[lead - 1 : -1])[:, None] / scale.step]
        if self.season:
            parts.append((values[lead:] - values[:-lead])[:, None] / scale.season)
        if self.cycles and series.dates is not None:
            parts.append(phases(series.dates[lead:], self.cycles))
        if len(self.mean):
            rows = np.full((len(series) + self.steps, len(self.mean)), np.nan)
            given = series.inputs[: len(rows)]
            rows[: len(given)] = (given - self.mean) / self.std
            after = sliding_window_view(rows[lead + 1 :], self.steps, axis=0)
            parts.append(after.reshape(len(series) - lead, -1))
        return np.concatenate(parts, 1).astype(np.float32)

    def targets(self, series: Series, scale: Scale) -> Array:
        """The scaled changes that forecasts from step `lead` on have to give, (n, steps)."""
        values, origins = series.values, np.arange(self.lead, len(series) - self.steps)
        ahead = sliding_window_view(values[self.lead + 1 :], self.steps)
        changes = ahead - self.base(values, origins, self.steps)
        return (changes / scale.ahead).astype(np.float32)


def _size(changes: Array) -> float:
    """The root mean square; 1 if nothing changes."""
    return float(np.sqrt(np.mean(changes**2))) or 1.0 if changes.size else 1.0


def windows(
    features: Array, targets: Array, window: int, begin: int, end: int
) -> tuple[Array, Array]:
    """Windows of `window` steps, a quarter of that apart; targets count at steps begin..end-1.

    The other targets are NaN, as are those in the first half of each window, where the network has
    read too little to forecast.
    """
    ends = np.arange(end - 1, max(begin, window - 1) - 1, -max(window // 4, 1))[::-1]
    at = ends[:, None] + np.arange(1 - window, 1)
    wanted = targets[at]
    wanted[:, : window // 2] = np.nan
    wanted[at < begin] = np.nan
    return features[at], wanted


class Examples(NamedTuple):
    """What a `Forecaster` learns from: `learn` and `held` are pairs for `bptt.fit`."""

    features: Features
    scales: list[Scale]
    learn: tuple[Array, Array]
    held: tuple[Array, Array]


def examples(
    series: Sequence[Series],
    held_out: Sequence[int],
    steps: int,
    window: int,
    season: int | None,
) -> Examples:
    """Windows of several series; `held_out` has the first step of each that is held out.

    Features and scales know nothing of the steps that are held out.
    """
    learnt = [one.upto(cut) for one, cut in zip(series, held_out)]
    features = Features.of(learnt, steps, season)
    scales = [features.scale(one.values) for one in learnt]
    learn, held = list[Any](), list[Any]()
    for one, scale, cut in zip(series, scales, held_out):
        x, targets = features.read(one, scale), features.targets(one, scale)
        learn.append(windows(x, targets, window, 0, cut - steps - features.lead))
        held.append(windows(x, targets, window, cut - 1 - features.lead, len(targets)))
    return Examples(features, scales, _joined(learn), _joined(held))


def _joined(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    x, targets = zip(*parts)
    return np.concatenate(x), np.concatenate(targets)


# --- checks ---------------------------------------------------------------------------------------


def as_levels(caller: str, quantiles: Any) -> Array:
    levels = as_quantiles(caller, quantiles)
    if not (np.diff(levels) > 0).all() or 0.5 not in levels:
        raise ValueError(
            f"{caller}: quantiles is {shown(quantiles)}, expected increasing numbers, 0.5 among "
            "them"
        )
    return levels


def first_held_out(
    caller: str, label: str, T: int, steps: int, window: int, season: int | None, validation: Any
) -> int:
    """The first step that is held out; raise if too few come before it."""
    held = 0
    if validation is not None:
        fraction = as_number(caller, "validation", validation)
        if not 0 < fraction < 1:
            raise ValueError(f"{caller}: validation is {fraction:g}, expected between 0 and 1")
        held = max(round(fraction * T), steps)
    least = window + steps + (season or 1)
    if T - held < least:
        raise ValueError(
            f"{caller}: {label} has {T} steps, {held} of them held out, expected window + steps + "
            f"{'1' if season is None else 'season'} = {least} others"
        )
    return T - held
