# SPDX-License-Identifier: MIT
"""HDF5 files as a tree of groups.

HDF5's library crashes on some damaged files. So h5py reads in a process of its own.
"""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._types import Array
from .formats import Unreadable
from .parse import decode_bfloat16

__all__ = ["Group", "h5py_for", "parse_hdf5"]

READER = Path(__file__).with_name("hdf5_reader.py")
SECONDS = 20  # and one more for each megabyte


class Group(NamedTuple):
    """A group of an HDF5 file.

    Attributes
    ----------
    attrs : dict
        Text, lists of text and numbers.
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
    h5py_for("is an HDF5 file")
    command = [sys.executable, str(READER)]
    given = json.dumps([path for path in sys.path if isinstance(path, str)]).encode() + b"\n"
    try:
        done = subprocess.run(
            command,
            input=given + content,
            capture_output=True,
            timeout=SECONDS + len(content) / 1e6,
        )
    except subprocess.TimeoutExpired:
        raise ValueError("HDF5's library does not come to an end") from None
    line, _, data = done.stdout.partition(b"\n")
    if done.returncode or not line:
        raise ValueError("HDF5's library fails on it")
    answer = json.loads(line)
    if "refused" in answer:
        raise Unreadable(answer["refused"])
    if "damaged" in answer:
        raise ValueError(answer["damaged"])
    return _group(answer["tree"], data)


def _group(tree: dict[str, Any], data: bytes) -> Group:
    return Group(
        tree["attrs"],
        {name: _array(data=data, **about) for name, about in tree["arrays"].items()},
        {name: _group(inner, data) for name, inner in tree["groups"].items()},
    )


def _array(data: bytes, dtype: str, shape: list[int], start: int) -> Array:
    coded = dtype == "bfloat16"
    kind = np.dtype("<u2" if coded else dtype)
    values = np.frombuffer(data, kind, math.prod(shape), start).reshape(shape)
    return decode_bfloat16(values) if coded else np.array(values, kind.newbyteorder("="))
