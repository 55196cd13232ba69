# SPDX-License-Identifier: MIT
"""Tables with named columns, from CSV and parquet; errors name the line and the column."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any, NamedTuple

import numpy as np

from .._types import Array
from .._validate import as_path
from .._words import brief, listed, printable
from .access import Path, open_file
from .formats import OTHERS, kind_of

__all__ = ["Table", "parse_text", "read_table"]

PARQUET = b"PAR1"
TABLES = "a table with the names of its columns in the first row: .csv, .tsv or .parquet"


class Table(NamedTuple):
    """A table as text.

    Attributes
    ----------
    place : str
        The caller and the file, for messages.
    columns : dict of str to list of str
        The cells of each column, by its name.
    rows : list of str
        Where each row is in the file, as "line 7".
    """

    place: str
    columns: dict[str, list[str]]
    rows: list[str]

    def __len__(self) -> int:
        return len(self.rows)

    def check_has(self, names: Sequence[str]) -> None:
        """Raise unless all these columns exist."""
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise ValueError(
                f"{self.place} has the columns {listed(self.columns, 20)}, expected also "
                f"{listed(missing)}"
            )

    def numbers(self, name: str) -> Array:
        """A column of finite numbers, in float64."""
        return np.array([self._parsed(name, k, _finite, "a number") for k in range(len(self))])

    def numbers_and_gaps(self, name: str) -> Array:
        """A column of finite numbers, in float64; NaN where a cell is empty or "nan"."""
        return np.array([
            np.nan if cell.strip().lower() in ("", "nan")
            else self._parsed(name, k, _finite, "a number")
            for k, cell in enumerate(self.columns[name])
        ])  # fmt: skip

    def dates(self, name: str) -> Array:
        """A column of dates or times, as 2024-12-31 or 2024-12-31 23:59."""
        what = "a date such as 2024-12-31"
        return np.array([self._parsed(name, k, _date, what) for k in range(len(self))])

    def begins_with_text(self, name: str) -> bool:
        """Is the first cell that is not empty no number?"""
        cell = next((cell for cell in self.columns[name] if cell.strip()), "0")
        try:
            float(cell)
        except ValueError:
            return True
        return False

    def texts(self, name: str) -> list[str]:
        """A column in which no cell is empty."""
        return [self._parsed(name, k, _text, "text") for k in range(len(self))]

    def classes(self, name: str) -> Array:
        """A column of classes: whole numbers if all are, else text."""
        texts = self.texts(name)
        try:
            return np.array([int(text) for text in texts])
        except (ValueError, OverflowError):
            return np.array(texts)

    def at(self, name: str, row: int) -> str:
        """The place of a cell."""
        return f"{self.rows[row]}, column {[*self.columns].index(name) + 1} ({brief(name)!r})"

    def _parsed(self, name: str, row: int, parse: Callable[[str], Any], what: str) -> Any:
        cell = self.columns[name][row]
        try:
            return parse(cell)
        except ValueError:
            hint = "" if cell.strip() else ": fill gaps first"
            raise self.error(name, row, what + hint) from None

    def error(self, name: str, row: int, expected: str) -> ValueError:
        """Name a wrong cell, its place, and the contents that are expected."""
        cell = self.columns[name][row]
        has = f"{brief(cell)!r}" if cell.strip() else "nothing"
        return ValueError(f"{self.place} has {has} in {self.at(name, row)}, expected {expected}")


def _finite(cell: str) -> float:
    value = float(cell)
    if not np.isfinite(value):
        raise ValueError
    return value


def _date(cell: str) -> Any:
    cell = cell.strip()
    if cell[4:5] != "-" or cell[10:11] not in ("", "T", " ") or "+" in cell:  # no zone: no guess
        raise ValueError
    return np.datetime64(cell, "s")


def _text(cell: str) -> str:
    if not cell.strip():
        raise ValueError
    return cell.strip()


# --- reading --------------------------------------------------------------------------------------


def read_table(caller: str, path: Path) -> Table:
    """Read a table; the first row has the names of the columns."""
    name = as_path(caller, path)
    place = f"{caller}: {printable(name)}"
    with open_file(caller, name) as file:
        kind, parquet = kind_of(file, name), file.read(4) == PARQUET
        file.seek(0)
        if kind in OTHERS and kind != "table":
            raise ValueError(f"{place} {OTHERS[kind].split(', ')[0]}, expected {TABLES}")
        content = b"" if parquet else file.read()
    table = _of_parquet(place, name) if parquet else _of_csv(place, parse_text(place, content))
    if not len(table):
        raise ValueError(f"{place} has no row below the names, expected one or more")
    return table


def parse_text(place: str, content: bytes) -> str:
    """The text of a file in UTF-8."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{place} has the byte 0x{content[error.start]:02x} in line {line}, expected text in "
            "UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{place} has a NUL in line {line}, expected text, not a binary file")
    if not text.strip():
        raise ValueError(f"{place} is empty, expected text")
    return text


def _of_csv(place: str, text: str) -> Table:
    first = next(line for line in text.splitlines() if line.strip())
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True,
                        strict=True)  # fmt: skip
    names, cells, rows, start = list[str](), list[list[str]](), list[str](), 1
    try:
        for row in reader:
            if any(map(str.strip, row)):
                if not names:
                    names = _names(place, start, row)
                elif len(row) != len(names):
                    raise ValueError(
                        f"{place} has {len(row)} columns in line {start}, expected {len(names)} as "
                        "in the first row"
                    )
                else:
                    cells.append(row)
                    rows.append(f"line {start}")
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{place} is no table at line {start}: {error}") from None
    return Table(place, {name: [row[k] for row in cells] for k, name in enumerate(names)}, rows)


def _names(place: str, line: int, row: list[str]) -> list[str]:
    names = [name.strip() for name in row]
    if all(_is_number(name) for name in names):
        raise ValueError(
            f"{place} has numbers in line {line}, expected the names of the columns there"
        )
    for k, name in enumerate(names):
        if not name or name in names[:k]:
            has = f"the name {brief(name)!r} twice" if name else "no name"
            raise ValueError(
                f"{place} has {has} in line {line}, column {k + 1}, expected a name for each column"
            )
    return names


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _of_parquet(place: str, path: str) -> Table:
    try:
        pandas = importlib.import_module("pandas")
        frame = pandas.read_parquet(path)
    except ImportError:
        raise ImportError(
            f"{place} is a parquet file, expected pandas to be installed: "
            "pip install pandas pyarrow"
        ) from None
    except (OSError, MemoryError):
        raise
    except Exception as error:  # readers raise various errors for damaged files
        raise ValueError(f"{place} is damaged ({brief(str(error), 90)})") from error
    columns = {}
    for name in frame.columns:
        empty, values = frame[name].isna().tolist(), frame[name].tolist()
        columns[str(name)] = ["" if no else str(value) for no, value in zip(empty, values)]
    return Table(place, columns, [f"row {k + 1}" for k in range(len(frame))])
