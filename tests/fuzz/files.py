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
    include=["bptt.io", "bptt._files.formats", "bptt._files.parse", "bptt.exchange.rtneural"]
    + ["bptt.flow.command", "bptt.exchange.state_dict", "csv", "json", "numpy.lib", "zipfile"]
):
    import json
    import zipfile

    import numpy as np

    import bptt
    from bptt import load_model
    from bptt.flow import command
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
    found = load_model(path)
    for one in found.values() if isinstance(found, dict) else [found]:
        if isinstance(one, bptt.layers.Recurrent):
            y, _ = one(np.zeros((2, 1, one.input_size)))
            assert y.shape[:2] == (2, 1)


def rtneural(path: str) -> None:
    assert bptt.load_rtneural(path)


def data(path: str) -> None:
    array = command._array(path)
    assert array.dtype.kind in "biuf"
    assert array.nbytes <= 8 * os.path.getsize(path)


def table(path: str) -> None:
    os.replace(path, f"{path}.csv")
    assert command._array(f"{path}.csv").ndim == 2


# What is made of the bytes, and who reads it.
KINDS: list[tuple[Callable[[bytes], bytes], Callable[[str], None]]] = [
    (bytes, arrays), (archive, arrays), (with_header, arrays), (bytes, layer), (bytes, rtneural),
    (with_header, layer), (bytes, data), (bytes, table),
]  # fmt: skip


def one(data: bytes) -> None:
    make, read = KINDS[data[0] % len(KINDS) if data else 0]
    with open(PATH, "wb") as file:
        file.write(make(data[1:]))
    try:
        read(PATH)
    except (TypeError, ValueError) as error:
        text = str(error)
        if PATH not in text or not text.isprintable() or len(text) > 300 + len(PATH):
            raise RuntimeError(
                f"the error is no short line with the file's name: {error}"
            ) from error
    except MemoryError:  # what the file says of its sizes
        pass


def one_row() -> bytes:
    """The header of an RNN of one unit and 14 inputs."""
    shapes = {"weight_ih_l0": [1, 14], "weight_hh_l0": [1, 1], "bias_ih_l0": [1]}
    entries, at = {}, 0
    for name, shape in shapes.items():
        end = at + 4 * shape[0] * shape[-1]
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    return json.dumps(entries).encode()


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
    found += [(5, one_row()), (6, member.getvalue()), (7, b"a;b\n1;2\n")]
    for number, (kind, content) in enumerate(found):
        with open(os.path.join(folder, f"seed-{number}"), "wb") as file:
            file.write(bytes([kind]) + content)


if __name__ == "__main__":
    folder = next(a for a in sys.argv[1:] if not a.startswith("-"))
    if not os.listdir(folder):
        seeds(folder)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
