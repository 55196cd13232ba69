# SPDX-License-Identifier: MIT
"""`Forecaster`: what it reads and learns, against definitions; forms of series; bad input."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from bptt.models import Forecaster, load
from bptt.models.backtest import backtest_of
from bptt.models.calendar import cycles_of, dates_after, phases
from bptt.models.series import Series
from bptt.models.windows import Features, windows

DAYS = np.datetime64("2020-01-01") + np.arange(300)


def wave(T: int = 300, season: int = 12, level: float = 0.0) -> Any:
    noise = np.random.default_rng(0).standard_normal(T)
    return level + np.sin(np.arange(T) * 2 * np.pi / season) + 0.05 * noise


def small(steps: int = 3, window: int = 12, **options: Any) -> Forecaster:
    options = {"hidden_size": 5, "epochs": 2, **options}
    return Forecaster(steps, window, **options)


# --- what the network reads -----------------------------------------------------------------------


@pytest.mark.parametrize("season", [None, 1, 2, 5])
def test_features_and_targets_are_their_definitions(season) -> None:
    rng, T, steps = np.random.default_rng(0), 40, 3
    y, known = rng.standard_normal(T).cumsum(), rng.standard_normal((T + steps, 2))
    one = Series(y, known, DAYS[:T])
    features = Features.of([one], steps, season)
    scale, lead = features.scale(y), season or 1
    x, targets = features.read(one, scale), features.targets(one, scale)
    assert x.shape == (T - lead, features.size)
    assert targets.shape == (T - lead - steps, steps)
    past = [season * -(-h // season) - h if season else 0 for h in range(1, steps + 1)]
    wanted = np.array([[y[t + h] - y[t - past[h - 1]] for h in range(1, steps + 1)]
                       for t in range(lead, T - steps)])  # fmt: skip
    np.testing.assert_allclose(targets * scale.ahead, wanted, atol=1e-5)
    assert np.sqrt(np.mean(targets**2)) == pytest.approx(1, abs=1e-5)
    columns = [(y[lead:] - y[lead - 1 : -1]) / np.sqrt(np.mean(np.diff(y) ** 2))]
    if season:
        change = y[lead:] - y[:-lead]
        columns.append(change / np.sqrt(np.mean(change**2)))
    columns += list(phases(DAYS[lead:T], features.cycles).T)
    unit = (known - known.mean(0)) / known.std(0)
    columns += [unit[lead + h : T + h, k] for k in range(2) for h in range(1, steps + 1)]
    np.testing.assert_allclose(x, np.stack(columns, 1), atol=1e-5)


@pytest.mark.parametrize(("window", "begin", "end"), [(8, 0, 30), (8, 13, 30), (5, 2, 7)])
def test_each_target_within_bounds_counts_and_no_other(window, begin, end) -> None:
    x = np.arange(40.0)[:, None]
    read, wanted = windows(x, np.repeat(x, 3, 1), window, begin, end)
    assert (np.diff(read[:, :, 0], axis=1) == 1).all()
    counts = ~np.isnan(wanted[..., 0])
    np.testing.assert_array_equal(wanted[counts][:, 0], read[counts][:, 0])
    assert not counts[:, : window // 2].any()
    least = max(begin, window - 1)
    seen = set(wanted[counts][:, 0])
    assert set(range(least + window // 2, end)) <= seen <= set(range(begin, end))


def test_held_out_steps_do_not_change_the_training() -> None:
    y = wave()
    other = y.copy()
    other[240:] += 100
    losses = [[e.loss for e in small().fit(one).history_.epochs] for one in (y, other)]
    assert losses[0] == losses[1]
    assert small().fit(y[:240]).history_.epochs[0].loss != losses[0][0]


def test_the_phases_of_dates() -> None:
    hours = np.datetime64("2021-03-01T00") + np.arange(24 * 400)
    assert cycles_of(hours) == ("day", "week", "year")
    assert cycles_of(hours[: 24 * 30]) == ("day", "week")
    assert cycles_of(np.arange("2000-01", "2004-01", dtype="datetime64[M]")) == ("year",)
    assert cycles_of(np.arange("2000", "2020", dtype="datetime64[Y]")) == ()
    day, week, year = np.split(phases(hours, ("day", "week", "year")), 3, axis=1)
    np.testing.assert_allclose(day[:25], [[np.sin(a), np.cos(a)] for a in
                                          np.arange(25) * np.pi / 12], atol=1e-12)  # fmt: skip
    np.testing.assert_allclose(week[0], [0, 1], atol=1e-12)  # 1 March 2021 was a Monday
    np.testing.assert_allclose(week[24 * 7], week[0], atol=1e-12)
    angle = 2 * np.pi * 59 / 365.2425
    np.testing.assert_allclose(year[0], [np.sin(angle), np.cos(angle)], atol=1e-12)


def test_the_next_dates() -> None:
    months = np.arange("2000-01", "2000-11", dtype="datetime64[M]")
    assert dates_after(months, 3).astype(str).tolist() == ["2000-11", "2000-12", "2001-01"]


# --- forecasts ------------------------------------------------------------------------------------


def test_it_learns_a_season_and_its_interval() -> None:
    y = wave(600, level=50)
    model = Forecaster(6, 24, hidden_size=16, epochs=40, lr=0.02).fit(y[:500])
    tested = model.backtest(y, start=500)
    last = y[tested.origin][:, None]
    assert tested.rmse < 0.5 * np.sqrt(np.mean((last - tested.actual) ** 2))
    assert 0.5 < model.coverage_[0.8] < 0.98
    assert (np.diff(tested.quantiles, axis=-1) >= 0).all()
    np.testing.assert_array_equal(model.predict(2), model.predict()[:2])
    np.testing.assert_array_equal(model.predict_quantiles()[:, 1], model.predict())


def test_level_and_unit_of_a_series_change_the_forecast_alike() -> None:
    y = wave()
    plain, scaled = small(seed=3).fit(y), small(seed=3).fit(1000 + 20 * y)
    np.testing.assert_allclose(scaled.predict(), 1000 + 20 * plain.predict(), rtol=1e-4)


def test_the_season_of_an_exact_series_needs_no_training() -> None:
    y = np.tile([3.0, 1.0, 4.0, 1.0, 5.0], 20)
    forecast = small(steps=7, season=5).fit(y).predict()
    np.testing.assert_allclose(forecast, np.tile([3.0, 1, 4, 1, 5], 2)[:7], atol=0.7)


def test_known_inputs_of_the_future_are_used() -> None:
    rng, T = np.random.default_rng(1), 700
    known = (rng.random((T + 2, 1)) < 0.3).astype(float)
    y = 10 * known[:T, 0] + 0.1 * rng.standard_normal(T)
    model = Forecaster(2, 10, hidden_size=16, epochs=40, lr=0.02, seed=0)
    model.fit(y, inputs=known)
    assert np.abs(model.predict() - 10 * known[T:, 0]).max() < 2
    for future in ([[0], [1]], [[1], [0]]):
        forecast = model.predict(inputs=future)
        assert np.abs(forecast - 10 * np.ravel(future)).max() < 2


def test_a_backtest_counts_what_lies_between_quantiles() -> None:
    y, levels = np.arange(10.0), np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    origins = np.array([2, 5])
    actual = y[origins[:, None] + [1, 2]]
    shifts = np.array([[-2, -1, 0, 1, 2], [-1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [-2, -2, -2, 1, 3]])
    quantiles = actual[..., None] + shifts.reshape(2, 2, 5)
    tested = backtest_of([Series(y, np.zeros((10, 0)))], [origins], [quantiles], levels)
    assert tested.coverage == {0.8: 0.75, 0.5: 0.5}
    assert tested.rmse == pytest.approx(np.sqrt((0 + 9 + 9 + 4) / 4))
    assert tested.mae == 2
    np.testing.assert_array_equal(tested.actual, actual)


def test_a_backtest_is_predict_from_each_step() -> None:
    y = np.stack([wave(), wave(level=5) * 3])
    model = small(dropout=0.2, num_layers=2).fit(y)
    tested = model.backtest(y, start=280, stride=4)
    for k, origin, forecast in zip(tested.series, tested.origin, tested.forecast):
        # The scale is of the values before `start`.
        some = model._quantiles(
            Series(y[k, : origin + 1], np.zeros((300, 0))),
            model.features_.scale(y[k, :280]), np.array([origin]),
        )  # fmt: skip
        np.testing.assert_allclose(forecast, some[0, :, 1], rtol=1e-5)
    assert tested.origin[:4].tolist() == [279, 283, 287, 291]


# --- forms of series ------------------------------------------------------------------------------


def test_frames_of_pandas_are_their_arrays() -> None:
    pandas = pytest.importorskip("pandas")
    a, b, known = wave(), wave(level=2, season=7), (np.arange(303) % 7 == 0).astype(float)
    both = small().fit([a, b], dates=DAYS)
    wide = small().fit(pandas.DataFrame({"a": a, "b": b}, index=pandas.DatetimeIndex(DAYS)))
    long = pandas.DataFrame({
        "day": np.tile(DAYS, 2), "of": ["x"] * 300 + ["y"] * 300, "value": np.r_[a, b],
    })  # fmt: skip
    mixed = long.sample(frac=1, random_state=0).sort_values("day", kind="stable")
    grouped = small().fit(long, target="value", group_column="of", dates="day")
    shuffled = small().fit(mixed, target="value", group_column="of", dates="day")
    assert both.predict().shape == (2, 3)
    for other in (wide, grouped):
        np.testing.assert_array_equal(other.predict(), both.predict())
    assert shuffled.predict().shape == (2, 3)
    assert both.dates(2).astype(str).tolist() == [["2020-10-27", "2020-10-28"]] * 2
    frame = pandas.DataFrame({"y": a, "holiday": known[:300]}, index=pandas.DatetimeIndex(DAYS))
    one = small().fit(frame, target="y", inputs=["holiday"])
    plain = small().fit(a, inputs=known, dates=DAYS)
    np.testing.assert_array_equal(one.predict(inputs=known[300:]), plain.predict())
    alone = small().fit(pandas.Series(a, pandas.DatetimeIndex(DAYS)))
    np.testing.assert_array_equal(alone.predict(), small().fit(a, dates=DAYS).predict())


def test_rows_of_a_frame_without_a_value_at_its_end_are_the_future() -> None:
    pandas = pytest.importorskip("pandas")
    a, b, known = wave(), wave(level=2)[:200], (np.arange(303) % 7 == 0)
    frame = pandas.concat([
        pandas.DataFrame({"y": [*y, *[np.nan] * 3], "holiday": known[: len(y) + 3], "of": name})
        for name, y in (("x", a), ("y", b))
    ])  # fmt: skip
    frame["size"] = np.arange(len(frame)) % 5  # of another dtype than holiday
    names = {"target": "y", "group_column": "of", "inputs": ["holiday", "size"]}
    rows = [part[["holiday", "size"]].to_numpy(float) for _, part in frame.groupby("of")]
    model, same = small().fit(frame, **names), small().fit([a, b], inputs=rows)
    np.testing.assert_array_equal(model.predict(), same.predict())
    newer = model.predict(series=frame, **names)
    np.testing.assert_array_equal(newer, same.predict(series=[a, b], inputs=rows))
    unknown = frame.assign(size=np.where(np.arange(len(frame)) < len(frame) - 1, 1.0, np.nan))
    with pytest.raises(ValueError, match=r"inputs\['y'\] has NaN"):
        small().fit(unknown, **names)
    with pytest.raises(ValueError, match=r"series\['y'\] has NaN"):  # nothing is known ahead
        small().fit(frame, target="y", group_column="of")
    with pytest.raises(ValueError, match=r"series\['of'\] is missing in row 1"):
        small().fit(frame.assign(of=["x", None, *frame["of"][2:]]), **names)


def test_series_of_different_lengths_and_a_newer_series() -> None:
    y = wave()
    model = small().fit([y, y[:250]])
    assert model.predict().shape == (2, 3)
    again = model.predict(series=[y, y[:250], y[20:]])
    assert again.shape == (3, 3)
    assert model.predict(series=y).shape == (3,)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_file_has_the_same_forecasts(suffix, tmp_path) -> None:
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    known = np.arange(303)[:, None] % 5
    model = small(season=7, quantiles=[0.05, 0.5, 0.95]).fit(wave(), inputs=known, dates=DAYS)
    model.save(tmp_path / f"model.{suffix}")
    again = load(tmp_path / f"model.{suffix}")
    assert again.predict_quantiles().tobytes() == model.predict_quantiles().tobytes()
    assert again.coverage_ == model.coverage_
    assert (again.dates() == model.dates()).all()


# --- bad input ------------------------------------------------------------------------------------

Y = wave(60)


@pytest.mark.parametrize(
    ("options", "call", "message"),
    [
        ({"steps": 0}, {}, "steps is 0, expected 1 or more"),
        ({"window": 1}, {}, "window is 1, expected 2 or more"),
        ({"season": 0}, {}, "season is 0, expected 1 or more"),
        ({"cell": "x"}, {}, "cell is 'x', expected one of ("),
        ({"quantiles": (0.1, 0.9)}, {}, "quantiles is (0.1, 0.9), expected increasing"),
        ({"quantiles": (0.5, 1.0)}, {}, "quantiles is (0.5, 1.0), expected numbers between 0 and"),
        ({"validation": 1.0}, {}, "validation is 1, expected between 0 and 1"),
        ({"window": 50}, {}, "series[0] has 60 steps, 12 of them held out, expected window + "),
        ({}, {"series": [1.0, np.nan]}, "series has NaN or inf at [1], expected finite numbers"),
        ({}, {"series": np.zeros((2, 3, 4))}, "series[0] has shape (3, 4), expected (T,)"),
        ({}, {"series": 3}, "series has shape (), expected (T,)"),
        ({}, {"series": []}, "series[0] has 0 steps, 3 of them held out"),
        ({}, {"series": ["a", "b"]}, "series has dtype <U1, expected numbers"),
        ({}, {"inputs": np.ones(10)}, "inputs has 10 rows, expected 60 or more"),
        ({}, {"series": [Y, Y], "inputs": [Y]}, "inputs has another length, expected 2"),
        ({}, {"series": [Y, Y], "inputs": [Y, np.ones((60, 2))]}, "inputs[1] has 2 columns"),
        ({}, {"dates": np.arange(60)}, "dates has dtype int64, expected datetime64"),
        ({}, {"dates": DAYS[:59]}, "dates has shape (59,), expected (60,)"),
        ({}, {"dates": DAYS[:60][::-1]}, "dates does not increase, expected the order of time"),
        ({}, {"target": "y"}, "target is 'y', expected it with a frame of pandas only"),
    ],
)
def test_bad_arguments_of_fit(options, call, message) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(f"Forecaster.fit: {message}")):
        small(**options).fit(**{"series": Y, **call})


def test_bad_arguments_of_predict() -> None:
    with pytest.raises(ValueError, match=r"Forecaster.predict: the estimator is not fitted"):
        small().predict()
    model = small().fit(Y, inputs=Y)
    for call, message in [
        ({"steps": 4}, "steps is 4, expected 1..3"),
        ({}, "inputs[0] has 0 rows after the end of the series, expected 3"),
        ({"inputs": np.ones((3, 2))}, "inputs has shape (3, 2), expected (steps, 1)"),
        ({"series": Y[:12], "inputs": Y}, "series[0] has 12 steps, expected 13 or more"),
        ({"series": Y}, "inputs[0] has 0 columns, expected 1 as in fit"),
    ]:
        with pytest.raises(ValueError, match=re.escape(f"Forecaster.predict: {message}")):
            model.predict(**call)
    with pytest.raises(ValueError, match=r"Forecaster.dates: fit was given no dates"):
        model.dates()
    dated = small().fit(Y, dates=DAYS[:60])
    with pytest.raises(ValueError, match=r"dates\[0\] is missing, expected dates as in fit"):
        dated.predict(series=Y)


@pytest.mark.parametrize("change", ["steps", "quantiles", "scales_", "series_"])
def test_a_file_whose_parts_do_not_fit_is_refused(change, tmp_path) -> None:
    model = small().fit(Y)
    wrong = {"steps": 4, "quantiles": (0.5,), "scales_": [], "series_": [Series(Y, Y[:, None])]}
    setattr(model, change, wrong[change])
    model.save(tmp_path / "model.npz")
    with pytest.raises(ValueError, match=r"model.npz is damaged: .* not fit"):
        load(tmp_path / "model.npz")
