# SPDX-License-Identifier: MIT
"""Names, numbers and text in a header of C."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import numpy as np

from .._files.access import Path
from .._types import Array
from .._validate import as_path
from .._words import brief, shown

__all__ = [
    "CTYPES", "WHERE", "WIDE", "Names", "array_lines", "as_prefix", "identifier", "number", "texts"
]  # fmt: skip

WHERE = "save_c_header"
WIDE = np.dtype(np.float64)
IDENTIFIER = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")  # C++ reserves two underscores in a row
LONGEST = 1000  # characters of a prefix, so that the first line of the file can be recognised
CTYPES = {np.dtype(np.float32): ("float", ".9g", "f"), np.dtype(np.float64): ("double", ".17g", "")}


class Names:
    """The identifiers of a header, each used once."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._keys = {f"{prefix.upper()}_{own}": own for own in ("H", "CONST")}

    def array(self, key: str) -> str:
        return self._take(key, self.prefix, key)

    def macro(self, key: str, suffix: str) -> str:
        return self._take(key, self.prefix.upper(), f"{key}.{suffix}".upper())

    def _take(self, key: str, *words: str) -> str:
        name = identifier(*words)
        if name in self._keys:
            raise ValueError(
                f"{WHERE}: model has {shown(key)} and {shown(self._keys[name])}, which both "
                f"become {brief(name)}, expected names that differ in letters and digits"
            )
        self._keys[name] = key
        return name


def identifier(*words: str) -> str:
    return "_".join(re.findall("[A-Za-z0-9]+", " ".join(words)))


def as_prefix(path: Path, name: str | None) -> str:
    """The prefix of all names in a header."""
    if name is None:
        name = identifier(os.path.splitext(os.path.basename(as_path(WHERE, path)))[0])
    if not isinstance(name, str) or not IDENTIFIER.fullmatch(name) or len(name) > LONGEST:
        raise ValueError(f"{WHERE}: name is {shown(name)}, expected a C identifier, such as 'amp'")
    return name


def array_lines(names: Names, key: str, array: Array) -> list[str]:
    """An array, and macros for its shape."""
    ctype, _, _ = CTYPES[array.dtype]
    name = names.array(key)
    lines = [f"#define {names.macro(key, f'DIM{k}')} {n}" for k, n in enumerate(array.shape)]
    numbers = [number(value, array.dtype) for value in array.reshape(-1).tolist()]
    rows = [", ".join(numbers[k : k + 6]) for k in range(0, len(numbers), 6)]
    start = f"{names.prefix.upper()}_CONST {ctype} {name}[{array.size}] = {{"
    return ["", *lines, start, "    " + ",\n    ".join(rows), "};"]


def number(value: float, dtype: np.dtype[np.floating]) -> str:
    """A constant with the digits that give the same bits."""
    _, spec, suffix = CTYPES[dtype]
    text = format(value, spec)
    return (text if set(".e") & set(text) else text + ".0") + suffix


def texts(names: Names, key: str, values: Sequence[str]) -> list[str]:
    """A table of text in UTF-8."""
    rows = [f'    "{"".join(map(_escaped, value.encode()))}"' for value in values]
    name = names.array(key)
    return ["", f"static const char* const {name}[{len(rows)}] = {{", ",\n".join(rows), "};"]


def _escaped(byte: int) -> str:
    plain = 32 <= byte < 127 and chr(byte) not in '"\\?'  # two ? may begin a trigraph
    return chr(byte) if plain else f"\\{byte:03o}"
