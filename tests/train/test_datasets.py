# SPDX-License-Identifier: MIT
"""The shipped data are what their sources say, complete, small and licensed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import bptt
from bptt.datasets import load_co2, load_japanese_vowels, load_text

DATA = Path(bptt.__file__).with_name("data")


def test_files_are_small_and_their_licences_named():
    files = {path.name: path for path in DATA.iterdir() if path.name != "__pycache__"}
    assert set(files) == {"README.md", "co2.csv", "hamlet.txt", "japanese_vowels.npz"}
    assert sum(path.stat().st_size for path in files.values()) < 550_000
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in files["README.md"].read_text().splitlines()
        if line.startswith("| `")
    ]
    licences = {row[0].strip("`"): row[3] for row in rows}
    assert set(licences) == set(files) - {"README.md"}
    assert licences["co2.csv"].startswith("public domain")
    assert "CC BY 4.0" in licences["japanese_vowels.npz"]
    assert licences["hamlet.txt"].startswith("public domain")


def test_co2():
    dates, ppm, measured = load_co2()
    assert len(dates) == len(ppm) == len(measured) == 2284
    assert (np.diff(dates) == np.timedelta64(7, "D")).all()
    assert (str(dates[0]), str(dates[-1])) == ("1958-03-29", "2001-12-29")
    assert (~measured).sum() == 59
    value = dict(zip(dates.astype(str), ppm))
    assert value["1958-03-29"] == 316.1
    assert value["2001-12-29"] == 371.5
    assert np.isclose(value["1958-05-10"], (316.9 + 317.5) / 2)  # between two measured weeks
    assert measured[dates >= np.datetime64("1990-01-01")].all()  # where forecasts are scored
    assert 310 < ppm.min() < ppm.max() < 375
    assert np.abs(np.diff(ppm)).max() < 3
    # A season: growth in eight weeks comes back after a year, and turns round after half of one.
    growth = ppm[8:] - ppm[:-8]
    correlation = [np.corrcoef(growth[:-lag], growth[lag:])[0, 1] for lag in (26, 52)]
    assert correlation[0] < -0.5
    assert correlation[1] > 0.7


def test_japanese_vowels():
    train, test = load_japanese_vowels()
    assert train.x.shape == (26, 270, 12)
    assert test.x.shape == (29, 370, 12)
    assert np.bincount(train.labels).tolist() == [30] * 9
    assert np.bincount(test.labels).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert (train.lengths.sum(), test.lengths.sum()) == (4274, 5687)
    assert min(train.lengths.min(), test.lengths.min()) == 7
    for part in (train, test):
        assert part.x.dtype == np.float32
        inside = np.arange(len(part.x))[:, None] < part.lengths
        assert (part.x[~inside] == 0).all()
        assert (part.x[inside] != 0).any(axis=-1).all()
        sequences = part.to_list()
        assert [len(one) for one in sequences] == part.lengths.tolist()
        np.testing.assert_array_equal(np.concatenate(sequences), part.x.swapaxes(0, 1)[inside.T])
    # The first channel's first and last number and the second's first, as in the source.
    assert train.x[0, 0, 0] == np.float32(1.860936)
    assert train.x[19, 0, 0] == np.float32(1.261441)
    assert train.x[0, 0, 1] == np.float32(-0.207383)


def test_text():
    text = load_text()
    assert text.isascii()
    assert 100_000 < len(text) == 173_943
    assert len(set(text)) == 65
    assert "\r" not in text
    assert "gutenberg" not in text.lower()
    assert text.startswith("HAMLET, PRINCE OF DENMARK\n\nby William Shakespeare\n")
    assert "\nTo be, or not to be,--that is the question:--\n" in text
    assert text.endswith("ordnance is shot off.]\n")
