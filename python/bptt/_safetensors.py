# SPDX-License-Identifier: MIT
"""The safetensors format: the size of a JSON header, the header, the arrays.

Not by the package of that name, which ends the process when there is no memory, and writes arrays
that are not C-contiguous wrongly (0.8.0).

References
----------
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from .grads import Array

METADATA = "__metadata__"  # the name that is no array's
_DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "U32": "<u4",
    "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


def write(file: BinaryIO, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write arrays in C order, of the dtypes above in any byte order."""
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    # The wide ones first, so that all are aligned.
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    end = 0
    for name in names:
        array, begin = arrays[name], end
        end += array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype.newbyteorder("<")],
            "shape": array.shape,
            "data_offsets": (begin, end),
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        array = arrays[name]
        file.write(np.asarray(array, array.dtype.newbyteorder("<")).data)


def parse(content: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays, in new memory, and the metadata; ValueError for whatever is not right."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 + size:
        raise ValueError(f"the header has {size} bytes, expected fewer than the file")
    header = json.loads(content[8 : 8 + size], object_pairs_hook=_once)
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("the metadata is something else, expected text for text")
    data, end = memoryview(content)[8 + size :], 0
    arrays = {}
    for name, entry in sorted(header.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        begin, stop = entry["data_offsets"]
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), entry["shape"]
        if not all(type(n) is int and n >= 0 for n in (*shape, stop)) or begin != end:
            raise ValueError(f"{name!r} has a shape or a place that cannot be")
        if stop - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name!r} has {stop - begin} bytes, expected those of its shape")
        array = np.frombuffer(data[begin:stop], dtype).reshape(shape)
        arrays[name], end = array.astype(dtype.newbyteorder("=")), stop
    if end != len(data):
        raise ValueError(f"the arrays have {end} bytes, expected {len(data)}")
    return arrays, metadata


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found
