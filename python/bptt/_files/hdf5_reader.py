# SPDX-License-Identifier: MIT
"""Reads one HDF5 file in a process of its own, where a damaged file can do no harm.

Run as a program, not imported: ``python hdf5_reader.py``. The first line of its input is JSON, the
search path of modules; the rest is the file. Its output is a line of JSON, either the fault or the
tree of groups, and then the arrays of the tree as raw bytes.

Only what a file stores itself is read: no links to other files, no storage outside of the file.
"""

from __future__ import annotations

import json
import math
import sys
from io import BytesIO
from typing import Any

DEEPEST = 32  # groups inside each other
MOST = 100_000  # groups and arrays
MOST_ITEMS = 10_000  # of one attribute, such as names of layers
MOST_TEXT = 1 << 26  # bytes of one attribute
DEFLATE = 1032  # the largest ratio of zlib
MEMORY = 4 << 30  # bytes of address space, besides those for the arrays


class Refused(Exception):
    """Raised for valid files that are not read; its text is the rest of a sentence."""


class Reader:
    """Collects the tree, which says where each array starts, and the arrays."""

    def __init__(self, h5py: Any, size: int) -> None:
        self.h5py = h5py
        self.left = MOST
        self.bytes = DEFLATE * size  # what all arrays may take
        self.arrays: list[Any] = []
        self.written = 0  # bytes of these arrays

    def group(self, group: Any, depth: int = 0) -> dict[str, Any]:
        if depth > DEEPEST:
            raise Refused(f"has groups inside each other, expected at most {DEEPEST}")
        found: dict[str, Any] = {"attrs": self.attributes(group), "arrays": {}, "groups": {}}
        for name in group:
            self.left -= 1
            if self.left < 0:
                raise Refused(f"has more than {MOST} entries, expected the weights of a model")
            if not isinstance(group.get(name, getlink=True), self.h5py.HardLink):
                raise Refused(f"has {name[:40]!r} as a link, expected what it links to")
            child = group[name]
            if isinstance(child, self.h5py.Group):
                found["groups"][name] = self.group(child, depth + 1)
            elif isinstance(child, self.h5py.Dataset):
                about = self.array(name[:40], child)
                if about is not None:
                    found["arrays"][name] = about
        return found

    def attributes(self, group: Any) -> dict[str, Any]:
        """Text, lists of text, and numbers; others are left out."""
        found: dict[str, Any] = {}
        for name in group.attrs:
            kind = group.attrs.get_id(name)
            count = math.prod(kind.shape or ())
            if count > MOST_ITEMS or count * kind.dtype.itemsize > MOST_TEXT:
                raise Refused(f"has {name[:40]!r} of {count} items, expected fewer")
            value = group.attrs[name]
            if getattr(kind, "shape", None):
                value = [text(item) for item in value.reshape(-1).tolist()]
            value = text(value.item() if hasattr(value, "item") else value)
            if isinstance(value, (str, int, float, bool, list)):
                found[name] = value
        return found

    def array(self, name: str, dataset: Any) -> dict[str, Any] | None:
        """Describe the numbers of a dataset; None if it holds text, references or others."""
        coded = dataset.attrs.get("dtype") == "bfloat16" and dataset.dtype.itemsize == 2
        if dataset.dtype.kind not in "fiub" and not coded:
            return None
        if dataset.is_virtual or dataset.external:
            raise Refused(f"has {name!r} in another file, expected it inside")
        size, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
        packed = dataset.id.get_create_plist().get_nfilters() > 0
        if size > stored * (DEFLATE if packed else 1) or size > self.bytes:
            raise Refused(f"states {size} bytes for {name!r}, but holds {stored} bytes")
        self.bytes -= size
        array = dataset[()]
        self.arrays.append(array)
        start, self.written = self.written, self.written + array.nbytes
        dtype = "bfloat16" if coded and array.dtype.kind == "V" else array.dtype.str
        return {"dtype": dtype, "shape": list(array.shape), "start": start}


def text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def limit_memory(size: int) -> None:
    """Bound the memory of this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    bound = MEMORY + 3 * DEFLATE * size
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or bound < hard:
        resource.setrlimit(resource.RLIMIT_AS, (bound, hard))


def main() -> None:
    sys.path[:] = json.loads(sys.stdin.buffer.readline())
    content = sys.stdin.buffer.read()
    import h5py

    limit_memory(len(content))
    reader = Reader(h5py, len(content))
    answer: dict[str, Any]
    try:
        with h5py.File(BytesIO(content), "r") as file:
            answer = {"tree": reader.group(file)}
    except Refused as error:
        answer = {"refused": str(error)}
    except Exception as error:  # h5py raises various errors for damaged files
        answer = {"damaged": str(error)[:200]}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    if "tree" in answer:
        for array in reader.arrays:
            sys.stdout.buffer.write(array.tobytes())


if __name__ == "__main__":
    main()
