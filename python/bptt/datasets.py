# SPDX-License-Identifier: MIT
"""Three small real data sets in the package: CO2 measurements, speech, and a text.

Nothing is downloaded. Sources and licences are in ``bptt/data/README.md`` and below; the licence of
the package does not cover the data.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .batches import pad_sequences

__all__ = ["CO2", "JapaneseVowels", "Sequences", "load_co2", "load_japanese_vowels", "load_text"]

_DATA = Path(__file__).with_name("data")


class CO2(NamedTuple):
    """A weekly series without gaps.

    Attributes
    ----------
    dates : ndarray of datetime64[D], shape (2284,)
        The Saturday that ends each week.
    ppm : ndarray of float64, shape (2284,)
        Mole fraction of CO2 in dry air, parts per million by volume.
    measured : ndarray of bool, shape (2284,)
        False where the value is interpolated.
    """

    dates: NDArray[np.datetime64]
    ppm: NDArray[np.float64]
    measured: NDArray[np.bool_]


class Sequences(NamedTuple):
    """Labelled sequences of different lengths.

    Attributes
    ----------
    x : ndarray of float32, shape (T, B, I)
        The sequences, time-major, zero beyond their lengths.
    lengths : ndarray of int64, shape (B,)
        Length of each sequence.
    labels : ndarray of int64, shape (B,)
        Label of each sequence.
    """

    x: NDArray[np.float32]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]

    def to_list(self) -> list[NDArray[np.float32]]:
        """Return the sequences without their padding, B arrays of shape (T_i, I)."""
        return [self.x[:length, k] for k, length in enumerate(self.lengths)]


class JapaneseVowels(NamedTuple):
    """The two parts of the data set, as its authors divided it.

    Attributes
    ----------
    train, test : Sequences
        For training, and for the test.
    """

    train: Sequences
    test: Sequences


def load_co2() -> CO2:
    """Weekly atmospheric CO2 at Mauna Loa, Hawaii, 1958 to 2001.

    59 of the 2284 weeks were not measured, in 22 gaps (the longest 18 weeks, from January 1964).
    They are filled by linear interpolation between neighbouring weeks and marked in `measured`;
    leave them out of scores.

    Returns
    -------
    CO2
        dates, ppm and measured, each of shape (2284,).

    Notes
    -----
    Source: C. D. Keeling and T. P. Whorf (2004), Scripps Institution of Oceanography, in *Trends:
    A Compendium of Data on Global Change*, CDIAC, Oak Ridge National Laboratory; taken from the
    data sets of statsmodels. Public domain.

    Examples
    --------
    >>> from bptt.datasets import load_co2
    >>> dates, ppm, measured = load_co2()
    >>> print(dates[0], ppm[0], dates[-1], ppm[-1], (~measured).sum())
    1958-03-29 316.1 2001-12-29 371.5 59
    """
    with open(_DATA / "co2.csv", encoding="ascii", newline="") as file:
        rows = list(csv.DictReader(file))
    dates = np.array([row["date"] for row in rows], "datetime64[D]")
    ppm = np.array([float(row["ppm"] or "nan") for row in rows])
    measured = ~np.isnan(ppm)
    week = np.arange(len(ppm))
    return CO2(dates, np.interp(week, week[measured], ppm[measured]), measured)


def load_japanese_vowels() -> JapaneseVowels:
    """Nine men saying the vowels /ae/; the label is the speaker, 0 to 8.

    Returns
    -------
    JapaneseVowels
        `train`: 270 sequences (30 of each speaker) of 7 to 26 frames, x of shape (26, 270, 12).
        `test`: 370 sequences (24 to 88 of each) of 7 to 29 frames, x of shape (29, 370, 12).
        A frame holds 12 LPC cepstrum coefficients (no unit) of 25.6 ms of speech; a new frame
        starts every 6.4 ms.

    Notes
    -----
    Source: M. Kudo, J. Toyama and M. Shimbo (1999), Pattern Recognition Letters 20(11-13),
    1103-1111; UCI Machine Learning Repository, doi:10.24432/C5NS47. Licence: CC BY 4.0. Here as
    float32, which keeps every digit, with speakers counted from 0.

    Examples
    --------
    >>> from bptt.datasets import load_japanese_vowels
    >>> train, test = load_japanese_vowels()
    >>> train.x.shape, test.x.shape, train.lengths[:4].tolist(), train.labels[:4].tolist()
    ((26, 270, 12), (29, 370, 12), [20, 26, 22, 20], [0, 0, 0, 0])
    """
    with np.load(_DATA / "japanese_vowels.npz", allow_pickle=False) as data:
        parts = [
            _padded(_frames(data[f"{p}_bytes"]), data[f"{p}_lengths"], data[f"{p}_labels"])
            for p in ("train", "test")
        ]
    return JapaneseVowels(*parts)


def _frames(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Decode [3 bytes, frames, channels]: differences in millionths + 2^23, lowest byte first."""
    differences = np.tensordot([1, 1 << 8, 1 << 16], stored.astype(np.int64), 1) - (1 << 23)
    return (differences.cumsum(axis=0) / 1e6).astype(np.float32)


def _padded(
    frames: NDArray[np.float32], lengths: NDArray[np.int16], labels: NDArray[np.int16]
) -> Sequences:
    x, steps = pad_sequences(np.split(frames, np.cumsum(lengths)[:-1]))
    return Sequences(x, steps, labels.astype(np.int64))


def load_text() -> str:
    """Shakespeare's *Hamlet*: 173943 characters of plain ASCII, 65 of them different.

    Returns
    -------
    str
        The play with its stage directions, lines ending in ``"\\n"``.

    Notes
    -----
    Source: Project Gutenberg's text without its header, as shipped by the Open Knowledge
    Foundation's package shakespeare 0.6. Public domain.

    Examples
    --------
    >>> from bptt.datasets import load_text
    >>> load_text()[:25]
    'HAMLET, PRINCE OF DENMARK'
    """
    import bz2  # which a Python may lack

    return bz2.decompress((_DATA / "hamlet.txt.bz2").read_bytes()).decode("ascii")
