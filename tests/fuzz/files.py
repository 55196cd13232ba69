# SPDX-License-Identifier: MIT
"""Model files of any content: arrays and layers, or a ValueError that names the file. For atheris;
see scripts/fuzz."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import atheris

with atheris.instrument_imports(
    include=["bptt.io", "bptt.export.rtneural", "bptt.flow.models", "zipfile", "json", "numpy.lib"]
):
    import json
    import zipfile

    import numpy as np

    import bptt
    from bptt.flow import layer_of
    from bptt.io import load, load_metadata

PATH = os.path.join(tempfile.mkdtemp(), "model")


def archive(member: bytes) -> bytes:
    """A sound archive, so that what is in it gets read."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("weight_hh_l0.npy", member)
    return buffer.getvalue()


def with_header(text: bytes) -> bytes:
    """A safetensors file with this header and 64 bytes of arrays."""
    return len(text).to_bytes(8, "little") + text + bytes(64)


def arrays(path: str) -> None:
    for array in load(path).values():
        assert array.dtype.kind != "O"
    for key, value in load_metadata(path).items():
        assert isinstance(key, str)
        assert isinstance(value, str)


def layer(path: str) -> None:
    found = layer_of(path)
    y, _ = found(np.zeros((2, 1, found.input_size)))
    assert y.shape[:2] == (2, 1)


def rtneural(path: str) -> None:
    assert bptt.load_rtneural(path)


# What is made of the bytes, and who reads it.
KINDS: list[tuple[Callable[[bytes], bytes], Callable[[str], None]]] = [
    (bytes, arrays), (archive, arrays), (with_header, arrays), (bytes, layer), (bytes, rtneural),
]  # fmt: skip


def one(data: bytes) -> None:
    make, read = KINDS[data[0] % len(KINDS) if data else 0]
    with open(PATH, "wb") as file:
        file.write(make(data[1:]))
    try:
        read(PATH)
    except ValueError as error:
        if PATH not in str(error) and read is not layer:
            raise RuntimeError(f"the error does not name the file: {error}") from error
    except MemoryError:  # what the file says of its sizes
        pass


def seeds(folder: str) -> None:
    """Sound files of every kind, to start from."""
    small = bptt.LSTM(2, 3, seed=0)
    found: list[tuple[int, Any]] = []
    for name in ("a.npz", "a.safetensors"):
        path = os.path.join(folder, name)
        bptt.save(path, small.parameters, {"epoch": "7"})
        with open(path, "rb") as file:
            content = file.read()
        os.unlink(path)
        found += [(0, content), (3, content)]
    member = io.BytesIO()
    np.save(member, np.ones((2, 3), np.float32))
    header = {"w": {"dtype": "F32", "shape": [2, 8], "data_offsets": [0, 64]}}
    path = os.path.join(folder, "a.json")
    bptt.save_rtneural(path, [small, bptt.Linear(3, 1, seed=0)])
    with open(path, "rb") as file:
        model = file.read()
    os.unlink(path)
    found += [(1, member.getvalue()), (2, json.dumps(header).encode()), (4, model)]
    for number, (kind, content) in enumerate(found):
        with open(os.path.join(folder, f"seed-{number}"), "wb") as file:
            file.write(bytes([kind]) + content)


if __name__ == "__main__":
    folder = next(a for a in sys.argv[1:] if not a.startswith("-"))
    if not os.listdir(folder):
        seeds(folder)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
