# SPDX-License-Identifier: MIT
"""Arrays in the source code and the private formats of other packages."""

from __future__ import annotations

import io
import pickle
import re
from typing import Any

import numpy as np

from bptt._types import Array


def c_arrays(text: str) -> dict[str, Array]:
    """The arrays of numbers in C source, flat, by name."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    found = re.findall(r"(\w+)\s*\[[^\]]*\]\s*=\s*\{([^{}]*)\}", text)
    return {name: np.array([_number(word) for word in body.split(",") if word.strip()])
            for name, body in found}  # fmt: skip


def _number(word: str) -> float:
    word = word.strip()
    if word.lower().lstrip("+-").startswith("0x"):
        return float.fromhex(word)
    return float(word.rstrip("fF"))


def icu_table(text: str) -> dict[str, Any]:
    """A table of an ICU resource bundle: strings, integers, lists of strings, vectors of int32."""
    found: dict[str, Any] = {}
    text = re.sub(r"^\s*//[^\n]*$", "", text.lstrip("\ufeff"), flags=re.MULTILINE)
    string = r'"((?:[^"\\]|\\.)*)"'
    entry = rf"(\w+)(?::(\w+))?\{{((?:{string}|[^{{}}\"])*)\}}"
    for name, kind, body, _ in re.findall(entry, text):
        strings = [re.sub(r"\\(.)", r"\1", word) for word in re.findall(string, body)]
        if kind == "int":
            found[name] = int(body)
        elif kind == "intvector":
            found[name] = np.array(re.findall(r"-?\d+", body), np.int64).astype(np.int32)
        else:
            found[name] = strings if "," in re.sub(string, "", body) else strings[0]
    return found


def dynet_arrays(text: str) -> dict[str, Array]:
    """The parameters of a text file of DyNet by name; matrices lie by column."""
    lines = text.splitlines()
    arrays = {}
    for head, body in zip(lines[::2], lines[1::2]):
        found = re.match(r"#(Lookup)?Parameter# (\S+) \{([\d,]+)\}", head)
        assert found
        if not found[1]:
            shape = [int(size) for size in found[3].split(",")]
            arrays[found[2]] = np.array(body.split(), np.float32).reshape(shape, order="F")
    return arrays


def paddle_array(content: bytes) -> Array:
    """One float32 array of Paddle before 2.0: versions, a message with the shape, the numbers."""
    at = 4
    levels = int.from_bytes(content[at : at + 8], "little")
    assert levels == 0
    at += 8 + 4
    size = int.from_bytes(content[at : at + 4], "little")
    message = content[at + 4 : at + 4 + size]
    assert message[:2] == b"\x08\x05"  # float32
    numbers = content[at + 4 + size :]
    return np.frombuffer(numbers, "<f4").reshape(_varints(message[2:]))


def _varints(message: bytes) -> list[int]:
    """The sizes, each a field 2 of type varint."""
    sizes, at = [], 0
    while at < len(message):
        assert message[at] == 0x10
        at, shift, value = at + 1, 0, 0
        while True:
            value |= (message[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if message[at - 1] < 128:
                break
        sizes.append(value)
    return sizes


def _made(kind: type, base: type, _: Any) -> Any:
    """Make an object as pickles of Python 2 ask for it."""
    if base is not object:
        raise pickle.UnpicklingError(f"{base} is no array")
    return kind()


KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): np.array(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.array(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("copy_reg", "_reconstructor"): _made,
    ("__builtin__", "object"): object,
}


class _ArraysOnly(pickle.Unpickler):
    """Makes arrays, and of the classes of one package what their objects hold; nothing else."""

    def __init__(self, content: bytes, package: str | None) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self.package = package

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        if self.package is not None and module.split(".")[0] == self.package:
            return type(name, (Held,), {})
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


class Held:
    """What an object of another package held: its attributes."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def arrays_of_pickle(content: bytes, package: str | None = None) -> Any:
    """A pickle of arrays in lists, dicts, and objects of `package`, of which no code is run."""
    return _ArraysOnly(content, package).load()
