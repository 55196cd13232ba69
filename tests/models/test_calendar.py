# SPDX-License-Identifier: MIT
"""The dates after a series, and the forms in which series have dates of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bptt.models import Forecaster, SequenceClassifier
from bptt.models.calendar import dates_after

WEEKDAYS = np.busday_offset("2020-01-03", np.arange(10))
SMALL: dict[str, Any] = {"hidden_size": 2, "epochs": 1}


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (["2019-10-01", "2019-11-01", "2019-12-01"], ["2020-01-01", "2020-02-01", "2020-03-01"]),
        (["2019-11-30", "2019-12-31"], ["2020-01-31", "2020-02-29", "2020-03-31"]),
        (["2019-10-15T06", "2019-11-15T06"], ["2019-12-15T06", "2020-01-15T06", "2020-02-15T06"]),
        (["2018-01-01", "2019-01-01"], ["2020-01-01", "2021-01-01", "2022-01-01"]),
        (["2019-07-01", "2019-10-01"], ["2020-01-01", "2020-04-01", "2020-07-01"]),
        (["2019-10", "2019-11"], ["2019-12", "2020-01", "2020-02"]),
        (["2018", "2019"], ["2020", "2021", "2022"]),
        (["2020-01-01", "2020-01-08"], ["2020-01-15", "2020-01-22", "2020-01-29"]),
        (["2020-01-30", "2020-01-31"], ["2020-02-01", "2020-02-02", "2020-02-03"]),
        (["2020-01-01T00", "2020-01-01T01"], ["2020-01-01T02", "2020-01-01T03", "2020-01-01T04"]),
        (WEEKDAYS[:8], ["2020-01-15", "2020-01-16", "2020-01-17"]),
        (WEEKDAYS[:6], ["2020-01-13", "2020-01-14", "2020-01-15"]),  # after a Friday
    ],
    ids=str,
)
def test_dates_after(dates: Any, expected: list[str]) -> None:
    known = np.array(dates, np.datetime64(dates[0]).dtype)
    np.testing.assert_array_equal(dates_after(known, 3), np.array(expected, known.dtype))


def test_each_series_of_pandas_has_its_dates() -> None:
    pandas = pytest.importorskip("pandas")
    values = np.sin(np.arange(60.0))
    one = pandas.Series(values, pandas.date_range("2020-01-01", periods=60))
    two = pandas.Series(values, pandas.date_range("2021-01-01", periods=60))
    model = Forecaster(2, 3, **SMALL).fit([one, two])
    expected = [["2020-03-01", "2020-03-02"], ["2021-03-02", "2021-03-03"]]
    np.testing.assert_array_equal(model.dates(), np.array(expected, "datetime64"))
    with pytest.raises(ValueError, match=r"dates\[1\] is missing, expected all dates or none"):
        Forecaster(2, 3, **SMALL).fit([one, values])


@pytest.mark.parametrize("series", [{"a": [1.0, 2.0]}, {1.0, 2.0}, 5, "text", b"text", None, []])
def test_what_is_no_series_is_refused(series: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"Forecaster\.fit: series"):
        Forecaster(2, 3, **SMALL).fit(series)


@pytest.mark.parametrize("name", ["dates", "target", "group_column"])
def test_arguments_of_other_series_need_them(name: str) -> None:
    model = Forecaster(2, 3, **SMALL).fit(np.sin(np.arange(60.0)))
    for method in (model.predict, model.predict_quantiles):
        with pytest.raises(TypeError, match=f"{name} is given without series, expected both"):
            method(**{name: "a"})


@pytest.mark.parametrize("X", [np.zeros((4, 0, 2)), [np.zeros((0, 2))] * 4], ids=["array", "list"])
def test_sequences_without_a_step_are_refused(X: Any) -> None:
    with pytest.raises(ValueError, match=r"SequenceClassifier\.fit: X has no steps, expected one"):
        SequenceClassifier(**SMALL).fit(X, [0, 1, 0, 1])
