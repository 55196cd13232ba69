# SPDX-License-Identifier: MIT
"""The file of a monitor: one sample a line, as JSON."""

from __future__ import annotations

import errno
import json
import os
import re
from typing import Any

__all__ = ["RecordFile"]

Record = dict[str, Any]

START = b'{"step": '
FIRST = re.compile(rb'\{"step": -?\d+')  # the first bytes of each line, and what follows them
AFTER = b', "cells": [{"name": "'
NUMBERS = ("last", "first", "horizon", "growth")


class RecordFile:
    """Appends samples, each in one write; `records` are those that were there.

    Raises
    ------
    ValueError
        If the file holds something else; it stays as it is.
    OSError
        If it cannot be read and written.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)  # wherever the program goes later
        self.records: list[Record] = []
        self._waiting: list[bytes] = []
        if not os.path.exists(path):
            open(path, "ab").close()  # fails now rather than in training
        elif not os.path.isfile(path) and not os.path.isdir(path):  # to open a folder is an OSError
            raise refused(path, "it is no regular file")
        else:
            self.records = _resume(path)

    def append(self, record: Record) -> None:
        """Write a sample, after those that an error kept from being written.

        Raises
        ------
        OSError
            If they cannot be written: they wait for the next call.
        """
        self._waiting.append(json.dumps(record, allow_nan=False).encode() + b"\n")
        content = b"".join(self._waiting)
        with open(self.path, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if file.write(content) != len(content):
                file.truncate(end)  # no half a line in the middle
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        self._waiting.clear()


def refused(path: str, why: object) -> ValueError:
    return ValueError(f"FlowMonitor: path has {path!r}, expected a file of a monitor: {why}")


def _resume(path: str) -> list[Record]:
    """The samples of a file; what is left of a last line that was cut off is removed."""
    with open(path, "r+b") as file:
        head = file.read(len(START))
        if not START.startswith(head):  # before all of a large file is read
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
            raise refused(path, "it has other JSON than samples")
        file.write(b"\n")  # all but the end of the line was there
        return [*records, whole]


def _parsed(path: str, line: bytes) -> Record:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise refused(path, error) from None
    if not _is_record(record):
        raise refused(path, "it has other JSON than samples")
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
    """Refuse what cannot be the beginning of a sample, or may as well be that of another thing."""
    begun, enough = FIRST.match(rest), START.startswith(rest[: len(START)])
    if begun and not records:  # nothing but this line shows whose file it is
        after = rest[begun.end() :]
        enough = after.startswith(AFTER) or AFTER.startswith(after)
    if not enough or not (begun or records):
        raise refused(path, f"its last line begins with {rest[:20]!r}")
