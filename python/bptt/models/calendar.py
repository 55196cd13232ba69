# SPDX-License-Identifier: MIT
"""Dates as inputs: where each lies in its day, week and year."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._types import Array

__all__ = ["cycles_of", "dates_after", "phases", "step_of"]

DAY = np.timedelta64(1, "D")
# Of each cycle: its length, and how far into it a date is, both in days.
CYCLES = {"day": 1.0, "week": 7.0, "year": 365.2425}


def step_of(dates: Array) -> Any:
    """The time from one date to the next: the median, in the unit of the dates."""
    steps = np.sort(np.diff(dates))
    return steps[len(steps) // 2]


def cycles_of(dates: Array) -> tuple[str, ...]:
    """The cycles that have two dates or more each, and that the dates go through once or more."""
    days = (dates[[0, 1, -1]].astype("datetime64[s]") - dates[0].astype("datetime64[s]")) / DAY
    step = float(step_of(dates.astype("datetime64[s]")) / DAY)
    return tuple(name for name, cycle in CYCLES.items() if 2 * step <= cycle <= days[-1])


def phases(dates: Array, cycles: tuple[str, ...]) -> Array:
    """The sine and cosine of each cycle's phase, shape (T, 2 len(cycles))."""
    moments = dates.astype("datetime64[s]")
    day, year = moments.astype("datetime64[D]"), moments.astype("datetime64[Y]")
    hours = (moments - day) / DAY
    into = {
        "day": hours,
        "week": (day.astype(np.int64) + 3) % 7 + hours,  # 1970 began on a Thursday; 0: Monday
        "year": (moments - year.astype("datetime64[s]")) / DAY,
    }
    angles = [2 * np.pi * into[name] / CYCLES[name] for name in cycles]
    columns = [function(angle) for angle in angles for function in (np.sin, np.cos)]
    return np.stack(columns, 1) if columns else np.zeros((len(dates), 0))


def dates_after(dates: Array, steps: int) -> Array:
    """The next dates of a series: of days without weekends, of months at the same place in them."""
    step, count = step_of(dates), np.arange(1, steps + 1)
    found: Array = dates[-1] + step * count
    if np.datetime_data(dates.dtype)[0] in ("Y", "M"):
        return found
    days, months = dates.astype("datetime64[D]"), dates.astype("datetime64[M]")
    if step == DAY and days[-1] - days[0] >= 7 * DAY and np.is_busday(days).all():
        found = np.busday_offset(days[-1], count) + (dates[-1] - days[-1])
    for end in (0, 1):  # after the first moment of the month, or before that of the next
        places = dates - (months + end).astype(dates.dtype)
        if (places == places[0]).all() and (np.diff(months) > np.timedelta64(0)).all():
            found = (months[-1] + end + step_of(months) * count).astype(dates.dtype) + places[0]
            break
    return found
