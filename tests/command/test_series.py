# SPDX-License-Identifier: MIT
"""``bptt fit --task forecast``: known inputs and gaps, from files to forecasts."""

from __future__ import annotations

import csv
import json
from io import StringIO

import numpy as np
import pytest

from bptt import models
from bptt.command.data import Columns
from bptt.command.series import read_series
from support.command import main

QUICK = ("--epochs", "40", "--hidden-size", "12", "--lr", "0.02", "--window", "12", "--batch-size",
         "8", "--json")  # fmt: skip
DAYS = np.arange("2024-01-01", "2024-12-31", dtype="datetime64[D]")
RNG = np.random.default_rng(0)
HOLIDAY = (RNG.random(len(DAYS)) < 0.2).astype(int)
SALES = (10 + 5 * HOLIDAY + RNG.normal(0, 0.2, len(DAYS))).round(3)


def table(path, columns):
    """Write columns by name; None is an empty cell."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values()))
    return path


def blanked(values, *rows):
    return [None if k in rows else value for k, value in enumerate(values)]


# --- known inputs ---------------------------------------------------------------------------------


def test_inputs_that_are_known_ahead(tmp_path, capsys):
    """A holiday that nothing else announces is in the forecast."""
    future = range(len(DAYS) - 7, len(DAYS))
    data, out = tmp_path / "d.csv", tmp_path / "m.npz"
    table(data, {"date": DAYS, "sales": blanked(SALES, *future), "holiday": HOLIDAY})
    options = ("fit", data, "--task", "forecast", "--steps", "7", "--target", "sales", *QUICK)
    without = json.loads(main(capsys, *options[:2], *options[2:], "--out", tmp_path / "b.npz",
                              "--inputs", "holiday", "--test", "0")[1])  # fmt: skip
    assert without["score"] is None
    code, output, error = main(capsys, *options, "--out", out, "--inputs", "holiday")
    said = json.loads(output)
    assert (code, error, said["note"]) == (0, "", None)
    assert said["score"]["value"] < said["score"]["baseline"] / 3
    rows = json.loads(main(capsys, "predict", out, data, "--json")[1])["predictions"]
    assert [row["date"] for row in rows] == [str(DAYS[k]) for k in future]
    np.testing.assert_allclose([row["prediction"] for row in rows], SALES[-7:], atol=2)
    direct = models.load(out).predict(
        series=[SALES[:-7]], dates=DAYS[:-7].astype("datetime64[s]"), inputs=[HOLIDAY]
    )
    assert [row["prediction"] for row in rows] == direct[0].tolist()


def test_several_series_with_inputs_and_futures_of_their_own(tmp_path, capsys):
    shops, columns = {"a": SALES, "b": SALES[:200] * 3}, {"day": [], "shop": [], "y": [], "h": []}
    for shop, values in shops.items():
        columns["day"] += [*DAYS[: len(values)]]
        columns["shop"] += [shop] * len(values)
        columns["y"] += blanked(values, *range(len(values) - 3, len(values)))
        columns["h"] += [*HOLIDAY[: len(values)]]
    data, out = table(tmp_path / "d.csv", columns), tmp_path / "m.npz"
    code, output, _ = main(
        capsys, "fit", data, "--task", "forecast", "--steps", "3", "--target", "y", "--inputs", "h",
        "--group-column", "shop", "--out", out, *QUICK,
    )  # fmt: skip
    assert code == 0
    assert json.loads(output)["data"].startswith("2 series of 197 to 362 steps, 2024-01-01")
    rows = json.loads(main(capsys, "predict", out, data, "--json")[1])["predictions"]
    assert [(row["series"], row["step"]) for row in rows] == [
        (shop, step) for shop in "ab" for step in (1, 2, 3)
    ]
    for shop, values in shops.items():
        forecast = [row["prediction"] for row in rows if row["series"] == shop]
        np.testing.assert_allclose(forecast, values[-3:], atol=0.3 * np.std(values) * 3)


def test_inputs_in_arrays(tmp_path, capsys):
    data, out = tmp_path / "d.npz", tmp_path / "m.npz"
    np.savez(data, y=SALES[:-7], inputs=HOLIDAY[:, None])
    options = ("fit", data, "--task", "forecast", "--steps", "7", "--out", out, *QUICK)
    assert main(capsys, *options)[0] == 0
    rows = json.loads(main(capsys, "predict", out, data, "--json")[1])["predictions"]
    np.testing.assert_allclose([row["prediction"] for row in rows], SALES[-7:], atol=2)
    for inputs in (HOLIDAY, HOLIDAY[:100, None], HOLIDAY[None, :, None]):
        np.savez(data, y=SALES[:-7], inputs=inputs)
        code, _, error = main(capsys, *options)
        assert (code, error.count("\n")) == (2, 1)
        assert "expected (T or more, K)" in error


def test_a_model_with_inputs_needs_those_of_the_forecast(tmp_path, capsys):
    data, out = tmp_path / "d.csv", tmp_path / "m.npz"
    columns = {"date": DAYS, "sales": SALES, "holiday": HOLIDAY}
    table(data, columns)
    code, output, _ = main(capsys, "fit", data, "--task", "forecast", "--steps", "7", "--target",
                           "sales", "--inputs", "holiday", "--out", out, *QUICK)  # fmt: skip
    assert "predict needs 7 more steps at the end" in json.loads(output)["note"]
    code, _, error = main(capsys, "predict", out, data)
    assert code == 2
    assert "0 rows after the last value of 'sales', expected 7 with ['holiday'] and n" in error
    table(data, {name: columns[name] for name in ("date", "sales")})
    code, _, error = main(capsys, "predict", out, data)
    assert (code, "expected also ['holiday']" in error) == (2, True)


def test_inputs_choose_the_columns_of_sequences(tmp_path, capsys):
    """Here a second target would give the first one away."""
    data, out, names = tmp_path / "d.csv", tmp_path / "m.npz", np.repeat(np.arange(30), 6)
    x, mood = RNG.normal(names[:, None] % 2, 0.3, (180, 2)), names % 2
    table(data, {"rec": names, "x": x[:, 0], "other": mood, "z": x[:, 1], "mood": mood})
    code, output, _ = main(capsys, "fit", data, "--task", "classify", "--group-column", "rec",
                           "--inputs", "z", "x", "--out", out, "--epochs", "3")  # fmt: skip
    assert code in (0, 1)
    assert "30 sequences of 6 steps, 2 features" in output
    few = table(tmp_path / "f.csv", {"rec": names, "z": x[:, 1], "x": x[:, 0]})
    assert main(capsys, "predict", out, few)[0] == 0
    assert main(capsys, "predict", out, data)[1] == main(capsys, "predict", out, few)[1]


# --- gaps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((6, 9), ("nothing in line 8, column 2 ('y')", "fill the gap, or let --fill-gaps do so")),
        ((0,), ("nothing in line 2, column 2", "a series begins with a value")),
        ((363, 364), ("nothing in line 365", "no value follows; delete the row", "--inputs")),
        (range(365), ("nothing in line 2", "the series has none")),
    ],
)
def test_an_empty_cell_is_named_with_what_to_do(rows, words, tmp_path, capsys):
    data, out = tmp_path / "d.csv", tmp_path / "m.npz"
    table(data, {"day": DAYS, "y": blanked(SALES, *rows)})
    options = ("fit", data, "--task", "forecast", "--steps", "2", "--out", out, *QUICK)
    for more in ((), ("--fill-gaps",))[: 1 if 6 in rows and 0 not in rows else 2]:
        code, output, error = main(capsys, *options, *more)
        assert (code, output, error.count("\n"), out.exists()) == (2, "", 1, False)
        assert all(word in error for word in ("fit: ", "d.csv", *words)), error


def read(path, **columns):
    return read_series("fit", path, Columns(**columns))


def test_gaps_are_filled_by_straight_lines(tmp_path):
    path = table(tmp_path / "d.csv", {"day": DAYS[:6], "y": [1, None, "nan", 7, 7, 9]})
    (one,) = read(path, fill_gaps=True).series
    assert one.values.tolist() == [1, 3, 5, 7, 7, 9]
    assert one.filled.tolist() == [False, True, True, False, False, False]
    # Of missing rows too: two days, then one.
    kept = [0, 1, 4, 5, 6, 8]
    path = table(tmp_path / "d.csv", {"day": DAYS[kept], "y": [0, 1, 4, None, 6, 9]})
    data = read(path, fill_gaps=True)
    (one,) = data.series
    assert one.dates.astype("datetime64[D]").tolist() == DAYS[:9].tolist()
    assert one.values.tolist() == [0, 1, 2, 3, 4, 5, 6, 7.5, 9]
    assert np.flatnonzero(one.filled).tolist() == [2, 3, 5, 7]
    assert str(data) == "1 series of 9 steps, 4 of them filled, 2024-01-01 to 2024-01-09"


def test_months_have_different_lengths_but_no_gaps(tmp_path):
    months = np.arange("2020-01", "2024-01", dtype="datetime64[M]").astype("datetime64[D]")
    path = table(tmp_path / "d.csv", {"month": months, "y": range(48)})
    assert read(path).note is None
    assert len(read(path, fill_gaps=True).values[0]) == 48
    fewer = np.delete(months, [5, 20, 21])
    path = table(tmp_path / "d.csv", {"month": fewer, "y": np.delete(np.arange(48), [5, 20, 21])})
    assert "2 steps are longer than usual, the first before line 7, column 1" in read(path).note
    np.testing.assert_allclose(read(path, fill_gaps=True).values[0], np.arange(48))


def test_missing_rows_are_told(tmp_path, capsys):
    data, out = tmp_path / "d.csv", tmp_path / "m.npz"
    kept = np.delete(np.arange(len(DAYS)), [100, 101, 102])
    table(data, {"day": DAYS[kept], "y": SALES[kept]})
    options = ("fit", data, "--task", "forecast", "--steps", "2", "--out", out, *QUICK)
    said = json.loads(main(capsys, *options)[1])
    assert said["note"] == "a step is longer than usual, the first before line 102, column 1 " \
        "('day'); each counts as one; --fill-gaps fills them"  # fmt: skip
    said = json.loads(main(capsys, *options, "--fill-gaps")[1])
    assert said["note"] is None
    assert "365 steps, 3 of them filled" in said["data"]
    assert models.load(out).series_[0].dates[-1] < DAYS[-1]


def test_dates_of_another_form_are_told(tmp_path, capsys):
    data, out = tmp_path / "d.csv", tmp_path / "m.npz"
    days = [f"{d[8:]}/{d[5:7]}/{d[:4]}" for d in DAYS.astype(str)]
    table(data, {"day": days, "y": SALES})
    options = ("fit", data, "--task", "forecast", "--steps", "2", "--out", out, *QUICK)
    said = json.loads(main(capsys, *options)[1])
    assert said["note"] == "column 'day' is not read: '01/01/2024' is no date such as 2024-12-31"
    assert "'01/01/2024'" in main(capsys, *options, "--date", "day")[2]
    table(data, {"shop": ["a"] * 150 + ["b"] * 150, "y": SALES[:300]})
    said = json.loads(main(capsys, *options)[1])
    assert (
        said["note"] == "column 'shop' is not read: if it tells series apart, --group-column shop"
    )


def test_filled_values_do_not_count_in_the_score(tmp_path, capsys):
    """Absurd values would ruin it; straight lines over a jagged series would improve it."""
    data, out, y = tmp_path / "d.csv", tmp_path / "m.npz", np.tile([0.0, 1.0], 150)
    holes = range(281, 299)
    table(data, {"y": blanked(y, *holes)})
    said = json.loads(main(capsys, "fit", data, "--task", "forecast", "--steps", "1", "--out", out,
                           "--fill-gaps", *QUICK)[1])  # fmt: skip
    assert said["score"]["baseline"] == 1.0
    table(data, {"y": blanked(y, *range(240, 299))})
    assert json.loads(main(capsys, "predict", out, data, "--json")[1])["predictions"]


def test_gaps_that_cannot_be_filled(tmp_path, capsys):
    data, out = tmp_path / "d.csv", tmp_path / "m.npz"
    options = ("fit", data, "--task", "forecast", "--steps", "2", "--target", "y", "--fill-gaps",
               "--out", out, *QUICK)  # fmt: skip
    kept = np.delete(np.arange(len(DAYS)), 100)
    table(data, {"day": DAYS[kept], "y": SALES[kept], "h": HOLIDAY[kept]})
    code, _, error = main(capsys, *options, "--inputs", "h")
    assert (code, "'2024-04-11' in line 102, column 1" in error) == (2, True)
    assert "a missing row has no ['h']" in error
    far = DAYS.copy()
    far[-1] = np.datetime64("2924-12-30")
    table(data, {"day": far, "y": SALES})
    code, _, error = main(capsys, *options)
    assert (code, "'2924-12-30' in line 366" in error) == (2, True)
    table(data, {"day": DAYS[::-1], "y": SALES})
    assert "expected a later date than in line 2" in main(capsys, *options)[2]
    npz = tmp_path / "d.npz"
    np.savez(npz, y=SALES)
    for option in ("--fill-gaps", "--target"):
        more = (option,) if option == "--fill-gaps" else (option, "y")
        code, _, error = main(capsys, "fit", npz, "--task", "forecast", "--steps", "2", "--out",
                              out, *more)  # fmt: skip
        assert (code, f"expected a table with {option}" in error) == (2, True)
    assert not out.exists()


def test_the_model_remembers_how_its_table_is_read(tmp_path, capsys):
    data, out = tmp_path / "d.csv", tmp_path / "m.npz"
    table(data, {"day": DAYS, "y": blanked(SALES, 50, 51), "z": SALES})
    main(capsys, "fit", data, "--task", "forecast", "--steps", "2", "--target", "y", "--fill-gaps",
         "--out", out, *QUICK)  # fmt: skip
    code, output, error = main(capsys, "predict", out, data)
    rows = [*csv.DictReader(StringIO(output))]
    assert (code, error, [row["date"] for row in rows]) == (0, "", ["2024-12-31", "2025-01-01"])
