# SPDX-License-Identifier: MIT
"""Arrays from untrusted files: everything is checked, and no code of the file is run.

A parser takes the whole content. It raises Unreadable for valid files with other contents, and any
other exception for damaged files.
"""

from __future__ import annotations

import csv
import importlib
import json
import math
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import Any

import numpy as np

from .._types import Array
from .._words import brief, some
from .formats import Unreadable

__all__ = [
    "METADATA",
    "PARSERS",
    "decode_bfloat16",
    "parse_checkpoint",
    "parse_npy",
    "parse_table",
    "safetensors_for",
]

METADATA = "__metadata__"  # safetensors reserves this name; npz files use it the same way

Parsed = tuple[dict[str, Array], dict[str, str]]

# --- safetensors ----------------------------------------------------------------------------------


def safetensors_for(size: int) -> Any:
    """The package safetensors, if there is memory for arrays of this size in bytes."""
    # The package makes two copies, and aborts the process if there is no memory for them.
    np.empty(2 * size + (1 << 20), np.uint8)
    try:
        importlib.import_module("safetensors.numpy")
        return importlib.import_module("safetensors")
    except ImportError as error:
        raise ImportError(
            "is a safetensors file, expected the package to be installed: "
            'pip install "bptt[safetensors]"'
        ) from error


def parse_safetensors(content: bytes) -> Parsed:
    """The arrays in the order of the file; dtypes that NumPy lacks become float32."""
    library = safetensors_for(len(content))
    try:
        entries = dict(library.deserialize(content))
    except library.SafetensorError as error:
        raise ValueError(str(error)) from None
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header.pop(METADATA, {})  # the package has checked the whole header
    arrays = {}
    for name in sorted(entries, key=lambda name: header[name]["data_offsets"]):
        code, shape, data = (entries[name][key] for key in ("dtype", "shape", "data"))
        if code not in DTYPES:
            raise Unreadable(
                f"has {brief(name)!r} of type {brief(str(code), 12)}, expected one of "
                + ", ".join(DTYPES)
            )
        dtype, decode = DTYPES[code]
        values = np.frombuffer(data, dtype)
        arrays[name] = _native(decode(values) if decode else values).reshape(shape)
    return arrays, metadata


def _metadata(value: Any) -> dict[str, str]:
    texts = [*value.keys(), *value.values()] if isinstance(value, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("its metadata has a name or value that is not text")
    return dict(value)


def _count(shape: Any) -> int:
    """The number of elements of a shape, which may be invalid."""
    if not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"it states the shape {brief(str(shape))}")
    return math.prod(shape)


def _native(array: Array) -> Array:
    """A copy in C order and the machine's byte order."""
    return np.array(array, array.dtype.newbyteorder("="), order="C")


def decode_bfloat16(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _float8(exponent: int, bias: int, special: str) -> Callable[[Array], Array]:
    """A decoder of 8-bit floats, by a table of all 256 numbers."""
    codes, fraction = np.arange(256), 7 - exponent
    e, f = codes >> fraction & (1 << exponent) - 1, codes & (1 << fraction) - 1
    size = np.where(e == 0, np.ldexp(f, 1 - bias - fraction), 0.0)
    size = np.where(e > 0, np.ldexp(f + (1 << fraction), e - bias - fraction), size)
    table = np.where(codes < 128, size, -size)
    if special == "ieee":
        top = e == (1 << exponent) - 1
        table = np.where(top, np.where(f == 0, np.copysign(np.inf, table), np.nan), table)
    else:  # NaN has one code, or one for each sign
        table[codes == 0x80 if special == "unsigned zero" else codes & 0x7F == 0x7F] = np.nan
    table = table.astype(np.float32)
    return lambda bits: table[bits]


def _powers(bits: Array) -> Array:
    """Decode E8M0, exponents without a mantissa: scales of blocks."""
    return np.where(bits == 255, np.nan, np.ldexp(1.0, bits.astype(int) - 127)).astype(np.float32)


# By name in the format: NumPy's dtype of the bits, and a decoder if they are not numbers yet.
DTYPES: dict[str, tuple[str, Callable[[Array], Array] | None]] = {
    "F64": ("<f8", None), "F32": ("<f4", None), "F16": ("<f2", None),
    "BF16": ("<u2", decode_bfloat16),
    "F8_E4M3": ("u1", _float8(4, 7, "nan at the top")),
    "F8_E5M2": ("u1", _float8(5, 15, "ieee")),
    "F8_E4M3FNUZ": ("u1", _float8(4, 8, "unsigned zero")),
    "F8_E5M2FNUZ": ("u1", _float8(5, 16, "unsigned zero")),
    "F8_E8M0": ("u1", _powers),
    "I64": ("<i8", None), "I32": ("<i4", None), "I16": ("<i2", None), "I8": ("i1", None),
    "U64": ("<u8", None), "U32": ("<u4", None), "U16": ("<u2", None), "U8": ("u1", None),
    "BOOL": ("u1", lambda bits: bits != 0), "C64": ("<c8", None),
}  # fmt: skip

# --- NumPy's own ----------------------------------------------------------------------------------


def parse_npy(content: bytes) -> Array:
    """One array. Its header is compared with the size of the content before memory is taken."""
    file = BytesIO(content)
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:  # (3, 0) is for structured dtypes
        raise ValueError(f"it has version {version} of the npy format, expected (1, 0) or (2, 0)")
    try:
        shape, fortran, dtype = readers[version](file)
    except MemoryError:  # raised by Python's parser if nesting is too deep
        raise ValueError("its header is not a dict") from None
    if dtype.hasobject:
        raise Unreadable("holds pickled Python objects, which are code, expected numbers")
    if dtype.kind == "V" or not dtype.itemsize:
        raise Unreadable(f"holds raw bytes of dtype {brief(str(dtype))}, expected numbers")
    count, start = _count(shape), file.tell()
    if count * dtype.itemsize != len(content) - start:
        raise ValueError(
            f"it states {count} numbers of {dtype.itemsize} bytes, but holds "
            f"{len(content) - start} bytes"
        )
    values = np.frombuffer(content, dtype, count, start)
    return _native(values.reshape(shape[::-1]).T if fortran else values.reshape(shape))


def parse_npz(content: bytes) -> Parsed:
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(BytesIO(content)) as archive:
        members = archive.infolist()
        if sum(m.file_size for m in members) > 1032 * len(content):  # deflate's largest ratio
            raise ValueError("it states larger sizes than it can hold compressed")
        for member in members:
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("it is compressed by another method than NumPy's")
            name = member.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"it has {brief(name)} twice")
            arrays[name] = parse_npy(archive.read(member))  # reads to the end: checks the CRC
    metadata = arrays.pop(METADATA, None)
    return arrays, {} if metadata is None else _metadata(json.loads(metadata.tobytes()))


# --- PyTorch --------------------------------------------------------------------------------------


def parse_torch(content: bytes) -> Parsed:
    """A state dict, read by PyTorch with ``weights_only=True``."""
    state = _torch_object(content)
    if not _tensors(state):
        raise Unreadable(_nested(state))
    return {str(k): _of_tensor(str(k), v, len(content)) for k, v in state.items()}, {}


def parse_checkpoint(content: bytes) -> Parsed:
    """All tensors in the dicts of a checkpoint, with the keys on the way joined by dots."""
    state = _torch_object(content)
    if not isinstance(state, Mapping):
        raise Unreadable(_nested(state))
    tensors = list(_flattened(state))
    if sum(t.numel() * t.element_size() for _, t in tensors) > 16 * len(content):
        raise Unreadable("repeats its numbers under many names, expected a checkpoint of a model")
    arrays: dict[str, Array] = {}
    for name, tensor in tensors:
        if name in arrays:
            raise Unreadable(f"holds {brief(repr(name))} twice, expected different names")
        arrays[name] = _of_tensor(name, tensor, len(content))
    return arrays, {}


def _flattened(state: Mapping[Any, Any], prefix: str = "", depth: int = 8) -> Iterator[Any]:
    for key, value in state.items():
        if isinstance(value, Mapping) and depth:
            yield from _flattened(value, f"{prefix}{key}.", depth - 1)
        elif hasattr(value, "detach"):
            yield f"{prefix}{key}", value


def _torch_object(content: bytes) -> Any:
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise ImportError(
            'is a file of torch.save, expected PyTorch (pip install "bptt[torch]"), or npz; '
            "where PyTorch is installed: state = torch.load(path, 'cpu', weights_only=True); "
            "numpy.savez(new, **{k: v.float().numpy() for k, v in state.items()})"
        ) from error
    try:
        return torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise Unreadable(
            "holds objects that could run code when they are read, expected a state dict: call "
            "torch.save(model.state_dict(), new) where it was made"
        ) from None


def _tensors(value: Any) -> bool:
    """Is it a dict of tensors only?"""
    return isinstance(value, Mapping) and all(hasattr(v, "detach") for v in value.values())


def _nested(state: Any) -> str:
    """A message on the contents of a checkpoint, and how to extract its state dict."""
    if not isinstance(state, Mapping):
        return f"holds a {type(state).__name__}, expected a dict of tensors"
    text = f"holds {some([str(k) for k in state])}, expected a dict of tensors"
    path = _path(state)
    if not path:
        return text
    keys = "".join(f"[{brief(repr(key))}]" for key in path)
    return f"{text}: bptt.save(new, torch.load(path, 'cpu', weights_only=True){keys})"


def _path(state: Mapping[Any, Any], depth: int = 4) -> list[Any]:
    """The keys to the first dict of tensors."""
    for key, value in state.items():
        if isinstance(value, Mapping) and value:
            rest = [] if _tensors(value) else _path(value, depth - 1) if depth else []
            if rest or _tensors(value):
                return [key, *rest]
    return []


def _of_tensor(name: str, tensor: Any, most: int) -> Array:
    if tensor.numel() * tensor.element_size() > most:  # strides of 0 repeat a number
        raise ValueError(f"{brief(name)} states more numbers than the file holds")
    if str(tensor.layout) != "torch.strided" or tensor.is_quantized or tensor.is_meta:
        raise Unreadable(
            f"has {brief(repr(name))} as a sparse, quantised or meta tensor, expected plain numbers"
        )
    tensor = tensor.detach()
    try:
        return _native(tensor.numpy())
    except TypeError:  # bfloat16 or 8-bit floats
        return _native(tensor.float().numpy())


# --- tables ---------------------------------------------------------------------------------------


def parse_table(content: bytes) -> Array:
    """Rows of numbers, (rows, columns), separated by commas, semicolons or tabs.

    A first row of names is skipped.
    """
    lines = content.decode("utf-8-sig").splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = next((mark for mark in "\t;" if mark in first), ",")
    rows: list[list[float]] = []
    may_be_names = True  # until the first row
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    for row in reader:
        if not any(map(str.strip, row)):
            continue
        values = [_float(text) for text in row]
        if not (may_be_names and all(value is None for value in values)):
            columns = len(rows[0]) if rows else len(row)
            rows.append(_checked(reader.line_num, row, values, columns))
        may_be_names = False
    if not rows:
        raise Unreadable("has no row of numbers, expected one for each step")
    return np.array(rows)


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _checked(number: int, row: list[str], values: list[float | None], columns: int) -> list[float]:
    if len(values) != columns:
        raise Unreadable(f"has {len(values)} columns in line {number}, expected {columns}")
    if None in values:
        k = values.index(None)
        raise Unreadable(
            f"has {brief(row[k])!r} in line {number}, column {k + 1}, expected a number"
        )
    return [value for value in values if value is not None]


PARSERS: dict[str, Callable[[bytes], Parsed]] = {
    "safetensors": parse_safetensors,
    "npz": parse_npz,
    "torch": parse_torch,
}
