# SPDX-License-Identifier: MIT
"""The kind of a file, from its first bytes and its name."""

from __future__ import annotations

import os
import zipfile
from io import BytesIO
from typing import BinaryIO

__all__ = ["OTHERS", "Unreadable", "is_model", "kind_of"]

MOST_HEADER = 100_000_000  # bytes; the bound of safetensors itself

# Signatures at the start of a file. Zip archives, such as npz, are recognised by their members.
SIGNATURES = [
    (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "torch"),  # before PyTorch 1.6
    (b"\x93NUMPY", "npy"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    *((bytes([0x80, protocol]), "pickle") for protocol in range(2, 6)),
    # A message of ir_version, then producer_name, graph or opset_import.
    *((bytes([8, version, field]), "onnx") for version in range(1, 32) for field in b"\x12:B"),
]
# Suffixes of files without a signature.
SUFFIXES = {
    ".onnx": "onnx", ".pkl": "pickle", ".pickle": "pickle", ".json": "json", ".csv": "table",
    ".tsv": "table",
}  # fmt: skip

# Kinds other than safetensors and npz, with the rest of a sentence on each.
OTHERS = {
    "npy": "is one array in npy format, which numpy.load reads, expected arrays by name: "
    "bptt.save(new, {'weight_ih_l0': array, ...})",
    "table": "is a table, which numpy.loadtxt reads, expected arrays by name",
    "torch": "is a file of torch.save, which bptt.load and torch.load(weights_only=True) read",
    "torchscript": "is a TorchScript program, expected arrays by name: "
    "torch.jit.load(path).state_dict() has them, and bptt.load_model takes them",
    "hdf5": "is an HDF5 file, such as Keras writes, expected safetensors or npz: bptt.load_model "
    "reads its layers",
    "keras": "is a model of Keras, expected safetensors or npz: bptt.load_model reads its layers",
    "onnx": "is an ONNX graph, expected safetensors or npz: bptt.load_model reads its layers",
    "pickle": "is a pickle, which runs code when it is read, expected safetensors or npz: call "
    "bptt.save(new, arrays) where it was made, or pass the arrays: bptt.load_model(arrays)",
    "json": "is JSON, expected safetensors or npz: bptt.load_model reads the layers of RTNeural's "
    "and NAM's JSON",
    "zip": "is a zip archive of other files, expected safetensors or npz",
}


class Unreadable(ValueError):
    """Raised for valid files whose contents cannot be read; its text is the rest of a sentence."""


def kind_of(file: BinaryIO, name: str) -> str:
    """The kind of an open file, or "unknown". The file is rewound."""
    head = file.read(64)
    try:
        return _kind_of(head, file, name)
    finally:
        file.seek(0)


def _kind_of(head: bytes, file: BinaryIO, name: str) -> str:
    # Safetensors: the size of a header, and "{". No other format has this byte here.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MOST_HEADER:
        return "safetensors"
    if head[:2] == b"PK":
        return _kind_of_zip(_members(file))
    for signature, kind in SIGNATURES:
        if head.startswith(signature):
            return kind
    if head.lstrip()[:1] in (b"{", b"["):
        return "json"
    return SUFFIXES.get(os.path.splitext(name)[1].lower(), "unknown")


def is_model(ends: bytes) -> bool:
    """May `save` replace a file that starts with these bytes?"""
    return kind_of(BytesIO(ends), "") in ("safetensors", "npz")


def _members(file: BinaryIO) -> list[str]:
    """The names in an archive, or only the first name if the archive is incomplete."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except Exception:  # zipfile raises various errors for damaged archives
        file.seek(26)
        size = int.from_bytes(file.read(2), "little")
        file.seek(30)
        name = file.read(size)
        return [name.decode("utf-8", "replace")] if 0 < size == len(name) else []


def _kind_of_zip(names: list[str]) -> str:
    if any(name.endswith("/data.pkl") for name in names):
        script = any("/code/" in name or name.endswith("/constants.pkl") for name in names)
        return "torchscript" if script else "torch"
    if any(name in ("model.weights.h5", "metadata.json", "config.json") for name in names):
        return "keras"
    return "npz" if all(name.endswith(".npy") for name in names) else "zip"
