# SPDX-License-Identifier: MIT
"""HDF5 files as a tree of groups, by h5py: every size is checked before memory is taken.

Only what a file stores itself is read: no links to other files, no storage outside of the file.
"""

from __future__ import annotations

import importlib
import math
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np

from .._types import Array
from .._words import brief
from .formats import Unreadable
from .parse import decode_bfloat16

__all__ = ["Group", "h5py_for", "parse_hdf5"]

DEEPEST = 32  # groups inside each other
MOST = 100_000  # groups and arrays
MOST_ITEMS = 10_000  # of one attribute, such as names of layers
MOST_TEXT = 1 << 26  # bytes of one attribute
DEFLATE = 1032  # the largest ratio of zlib


class Group(NamedTuple):
    """A group of an HDF5 file.

    Attributes
    ----------
    attrs : dict
        Text, lists of text and numbers; others are left out.
    arrays : dict of str to ndarray
        The datasets that hold numbers.
    groups : dict of str to Group
    """

    attrs: dict[str, Any]
    arrays: dict[str, Array]
    groups: dict[str, Group]

    def at(self, path: str) -> Group | None:
        """The group at a path such as "layers/lstm", or None."""
        group: Group | None = self
        for part in filter(None, path.split("/")):
            group = group.groups.get(part) if group else None
        return group

    def array(self, path: str) -> Array | None:
        """The array at a path, or None."""
        folder, _, name = path.rpartition("/")
        group = self.at(folder)
        return group.arrays.get(name) if group else None


def h5py_for(what: str) -> Any:
    """The package h5py; `what` is the start of the message without it."""
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise ImportError(
            f'{what}, expected h5py to be installed: pip install "bptt[keras]"'
        ) from error


def parse_hdf5(content: bytes) -> Group:
    """The whole file as a tree."""
    h5py = h5py_for("is an HDF5 file")
    with h5py.File(BytesIO(content), "r") as file:
        return _Reader(h5py, len(content)).group(file)


class _Reader:
    def __init__(self, h5py: Any, size: int) -> None:
        self.h5py = h5py
        self.left = MOST
        self.bytes = DEFLATE * size  # what all arrays may take

    def group(self, group: Any, depth: int = 0) -> Group:
        if depth > DEEPEST:
            raise Unreadable(f"has groups inside each other, expected at most {DEEPEST}")
        found = Group(self._attributes(group), {}, {})
        for name in group:
            self.left -= 1
            if self.left < 0:
                raise Unreadable(f"has more than {MOST} entries, expected the weights of a model")
            if not isinstance(group.get(name, getlink=True), self.h5py.HardLink):
                raise Unreadable(f"has {brief(repr(name))} as a link, expected what it links to")
            child = group[name]
            if isinstance(child, self.h5py.Group):
                found.groups[name] = self.group(child, depth + 1)
            elif isinstance(child, self.h5py.Dataset):
                array = self._array(name, child)
                if array is not None:
                    found.arrays[name] = array
        return found

    def _attributes(self, group: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in group.attrs:
            kind = group.attrs.get_id(name)
            count = math.prod(kind.shape or ())
            if count > MOST_ITEMS or count * kind.dtype.itemsize > MOST_TEXT:
                raise Unreadable(f"has {brief(repr(name))} of {count} items, expected fewer")
            value = group.attrs[name]
            if isinstance(value, np.ndarray):
                value = [_text(item) for item in value.reshape(-1).tolist()]
            found[name] = _text(value)
        return found

    def _array(self, name: str, dataset: Any) -> Array | None:
        """The numbers of a dataset; None if it holds text, references or something else."""
        coded = dataset.attrs.get("dtype") == "bfloat16"
        if dataset.dtype.kind not in "fiub" and not (coded and dataset.dtype.itemsize == 2):
            return None
        if dataset.is_virtual or dataset.external:
            raise Unreadable(f"has {brief(repr(name))} in another file, expected it inside")
        size, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
        packed = dataset.id.get_create_plist().get_nfilters() > 0
        if size > stored * (DEFLATE if packed else 1) or size > self.bytes:
            raise Unreadable(
                f"states {size} bytes for {brief(repr(name))}, but holds {stored} bytes"
            )
        self.bytes -= size
        array = np.asarray(dataset[()])
        if coded and array.dtype.kind == "V":
            return decode_bfloat16(array.view(np.uint16))
        return np.array(array, array.dtype.newbyteorder("="), order="C")


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
