# SPDX-License-Identifier: MIT
"""The file of a monitor: one sample per line, as JSON."""

from __future__ import annotations

import errno
import json
import os
import re
from typing import Any

__all__ = ["RecordFile"]

Record = dict[str, Any]

START = b'{"step": '
FIRST = re.compile(rb'\{"step": -?\d+')  # the first bytes of each line
AFTER = b', "cells": [{"name": "'  # the bytes that follow
NUMBERS = ("last", "first", "horizon", "growth")


class RecordFile:
    """Appends samples to a file, each in one write.

    Attributes
    ----------
    path : str
        The file.
    records : list of dict
        The samples that were in the file already.

    Raises
    ------
    ValueError
        If the file has other content; it is not changed.
    OSError
        If the file cannot be read and written.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)  # valid even if the working directory changes
        self.records: list[Record] = []
        self._waiting: list[bytes] = []
        if not os.path.exists(path):
            open(path, "ab").close()  # raises an error now rather than during training
        elif not os.path.isfile(path) and not os.path.isdir(path):  # opening a folder is an OSError
            raise refused(path, "it is not a regular file")
        else:
            self.records = _resume(path)

    def append(self, record: Record) -> None:
        """Write a sample, after any samples that could not be written before.

        Raises
        ------
        OSError
            If the samples cannot be written; they wait for the next call.
        """
        self._waiting.append(json.dumps(record, allow_nan=False).encode() + b"\n")
        content = b"".join(self._waiting)
        with open(self.path, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if file.write(content) != len(content):
                file.truncate(end)  # leave no incomplete line
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        self._waiting.clear()


def refused(path: str, why: object) -> ValueError:
    return ValueError(f"FlowMonitor: path has {path!r}, expected a file of a monitor: {why}")


def _resume(path: str) -> list[Record]:
    """The samples of a file; an incomplete last line is removed."""
    with open(path, "r+b") as file:
        head = file.read(len(START))
        if not START.startswith(head):  # refuse a large file before reading all of it
            raise refused(path, f"it begins with {head!r}")
        *lines, rest = (head + file.read()).split(b"\n")
        records = [_parsed(path, line) for line in lines]
        if not rest:
            return records
        try:
            whole = json.loads(rest)
        except (ValueError, RecursionError):
            _check_cut(path, rest.rstrip(b"\0"), records)
            file.truncate(sum(len(line) + 1 for line in lines))
            return records
        if not _is_record(whole):
            raise refused(path, "it has JSON that is not a sample")
        file.write(b"\n")  # only the end of the line was missing
        return [*records, whole]


def _parsed(path: str, line: bytes) -> Record:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise refused(path, error) from None
    if not _is_record(record):
        raise refused(path, "it has JSON that is not a sample")
    return dict(record)


def _is_record(value: Any) -> bool:
    if not isinstance(value, dict) or type(value.get("step")) is not int:
        return False
    cells = value.get("cells")
    return isinstance(cells, list) and len(cells) > 0 and all(map(_is_cell, cells))


def _is_cell(value: Any) -> bool:
    if not isinstance(value, dict) or not {"name", "verdict", "saturated", *NUMBERS} <= set(value):
        return False
    texts, gates = (value["name"], value["verdict"]), value["saturated"]
    if not isinstance(gates, dict) or not all(isinstance(text, str) for text in texts):
        return False
    numbers = [value[name] for name in NUMBERS] + list(gates.values())
    return all(n is None or type(n) in (int, float) for n in numbers)


def _check_cut(path: str, rest: bytes, records: list[Record]) -> None:
    """Raise unless an incomplete line is the beginning of a sample of a monitor."""
    begun, enough = FIRST.match(rest), START.startswith(rest[: len(START)])
    if begun and not records:  # no complete line shows that a monitor wrote the file
        after = rest[begun.end() :]
        enough = after.startswith(AFTER) or AFTER.startswith(after)
    if not enough or not (begun or records):
        raise refused(path, f"its last line begins with {rest[:20]!r}")
