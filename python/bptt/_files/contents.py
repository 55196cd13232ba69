# SPDX-License-Identifier: MIT
"""The contents of one file: whole and checked, or one plain sentence that names the file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from typing import TypeVar

from .._validate import as_path
from .._words import brief, printable
from .access import Path, open_file
from .formats import OTHERS, Unreadable, kind_of

__all__ = ["read"]

Contents = TypeVar("Contents")
Parsers = Mapping[str, Callable[[bytes], Contents]]  # by the kind of the file


def read(caller: str, path: Path, parsers: Parsers[Contents], what: str) -> Contents:
    """Read a file by the parser of its kind; `what` names the kinds, as "a safetensors file"."""
    path = as_path(caller, path)
    place = f"{caller}: {printable(path)}"
    with open_file(caller, path) as file:
        kind = kind_of(file, path)
        if kind in OTHERS and kind not in parsers:  # refuse the file before reading all of it
            raise ValueError(f"{place} {OTHERS[kind]}")
        content = file.read() if kind in parsers else b""
    try:
        if kind not in parsers:
            raise ValueError("no such format")
        return parsers[kind](content)
    except ImportError as error:
        raise ImportError(f"{place} {error}") from error
    except Unreadable as error:
        raise ValueError(f"{place} {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # parsers raise various errors for damaged files
        known = isinstance(error, (ValueError, zipfile.BadZipFile))
        reason = f" ({brief(str(error), 90)})" if known else ""
        raise ValueError(f"{place} is damaged or not {what}{reason}") from error
