# SPDX-License-Identifier: MIT
"""Files of named arrays: safetensors or NumPy's npz, never pickle; written atomically."""

from __future__ import annotations

import importlib.util
import json
import os
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from ._files.access import Own, Path, check_target, write_atomically
from ._files.contents import read
from ._files.formats import is_model
from ._files.parse import METADATA, PARSERS, safetensors_for
from ._types import Array
from ._validate import as_array, as_path, check_mapping, to_numpy
from ._words import printable, shown

__all__ = ["load", "load_metadata", "save"]

MODEL = Own("a safetensors or npz file", is_model)


def save(
    path: Path, arrays: Mapping[str, ArrayLike], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named arrays to a file, whole or not at all.

    The file is written under a temporary name in the same folder, flushed to the disk, and renamed:
    at any time, `path` has either its old or its new content. (A killed process may leave a
    temporary file ``.<random>.tmp`` behind.)

    Parameters
    ----------
    path : str or path-like
        The file: a new one, or an earlier one in either format. The suffix decides the format:
        safetensors for ``.safetensors``, npz for any other; without a suffix, safetensors if that
        package is installed, else npz.
    arrays : dict of str to array_like
        Numbers or booleans of up to 8 bytes each: ``layer.parameters``, the ``state_dict()`` of
        a layer, optimiser or schedule, or several of these merged by `bptt.optim.join`. Stored in C
        order and the machine's byte order.
    metadata : dict of str to str, optional
        Text to store beside the arrays; `load_metadata` reads it.

    Raises
    ------
    TypeError
        If a name or metadata is not text, or an array does not hold numbers or booleans; nothing is
        written.
    ValueError
        If an array is called ``__metadata__``, or its name contains a NUL or is longer than 65,000
        bytes; if the path leads to a device or anything else that is not a regular file, or
        to a file in another format, which is not overwritten.
    ImportError
        If the suffix is ``.safetensors`` and that package is not installed.
    OSError
        If the file cannot be written; FileNotFoundError if its folder does not exist.

    Examples
    --------
    Save the parameters of a layer, and load them into another:

    >>> import os, tempfile
    >>> import bptt
    >>> lstm, other = bptt.LSTM(3, 4, seed=0), bptt.LSTM(3, 4, seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.npz")
    ...     bptt.save(path, lstm.parameters, {"epoch": "7"})
    ...     other.load(bptt.load(path))
    ...     bptt.load_metadata(path)
    {'epoch': '7'}
    >>> bool((other.parameters["weight_hh_l0"] == lstm.parameters["weight_hh_l0"]).all())
    True
    """
    path = as_path("save", path)
    check_mapping("save", "arrays", arrays, tensors=True)
    checked = {name: _plain(name, array) for name, array in arrays.items()}
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, Mapping):
        raise TypeError(f"save: metadata is {shown(metadata)}, expected a dict of text")
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            has = f"{shown(key)}: {shown(value)}"
            raise TypeError(f"save: metadata has {has}, expected text as name and value")
        _utf8("metadata", key), _utf8("metadata", value)
    metadata = dict(metadata)
    target = check_target("save", path, MODEL)
    suffix = os.path.splitext(path)[1].lower()
    wanted = suffix == ".safetensors" or (not suffix and importlib.util.find_spec("safetensors"))
    write = _write_safetensors if wanted else _write_npz
    try:
        write_atomically(target, lambda file: write(file, checked, metadata))
    except ImportError as error:
        raise ImportError(f"save: {printable(path)} {error}") from error


def load(path: Path) -> dict[str, Array]:
    """Read named arrays from a file: safetensors, npz, or a state dict saved by PyTorch.

    The content decides the format, not the name. A file of `torch.save` is read by
    ``torch.load(weights_only=True)``, which runs no code of the file.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    dict of str to ndarray
        New arrays, in the order of the file. Dtypes that NumPy does not have, bfloat16 and 8-bit
        floats, become float32, which represents their numbers exactly.

    Raises
    ------
    ValueError
        If the file has none of these formats, is truncated or damaged, or holds pickled objects; if
        a checkpoint of PyTorch is not a dict of tensors (the message names its keys); if the path
        leads to a device or anything else that is not a regular file.
    ImportError
        If the file needs safetensors or PyTorch, and that package is not installed.
    OSError
        If the file cannot be read; FileNotFoundError if it does not exist.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import bptt
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "arrays.npz")
    ...     bptt.save(path, {"w": np.eye(2), "b": np.zeros(2)})
    ...     bptt.load(path)
    {'w': array([[1., 0.],
           [0., 1.]]), 'b': array([0., 0.])}
    """
    return _read("load", path)[0]


def load_metadata(path: Path) -> dict[str, str]:
    """Read the metadata that `save` stored in a file.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    dict of str to str
        The metadata; empty if there is none.

    Raises
    ------
    ValueError, ImportError, OSError
        As in `load`.
    """
    return _read("load_metadata", path)[1]


# --- writing --------------------------------------------------------------------------------------


def _plain(name: str, value: ArrayLike) -> Array:
    if "\0" in name:  # where zip archives would end the name
        raise ValueError(f"save: arrays has the name {shown(name)}, expected one without a NUL")
    if name == METADATA:
        raise ValueError(
            f"save: arrays has the name {name!r}, expected another name: this one is reserved"
        )
    if _utf8("arrays", name) > 65_000:  # a little less than zip archives can hold
        raise ValueError(f"save: arrays has the name {shown(name)}, expected up to 65,000 bytes")
    array = as_array("save", f"arrays[{shown(name)}]", to_numpy(value))
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(
            f"save: arrays[{shown(name)}] has dtype {array.dtype}, "
            "expected numbers or booleans of up to 8 bytes"
        )
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _utf8(label: str, text: str) -> int:
    """The size of a text in bytes."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"save: {label} has {shown(text)}, expected Unicode text") from None


def _write_safetensors(file: BinaryIO, arrays: dict[str, Array], metadata: dict[str, str]) -> None:
    library = safetensors_for(sum(array.nbytes for array in arrays.values()))
    content = library.numpy.save(arrays)
    if metadata:  # the package would write it in a random order
        start = 8 + int.from_bytes(content[:8], "little")
        header = {METADATA: metadata} | json.loads(content[8:start])
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        file.write(len(text).to_bytes(8, "little") + text + content[start:])
    else:
        file.write(content)


def _write_npz(file: BinaryIO, arrays: dict[str, Array], metadata: dict[str, str]) -> None:
    if metadata:
        text = json.dumps(metadata).encode()
        arrays = {METADATA: np.frombuffer(text, np.uint8)} | arrays
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            # A bare ZipInfo has no time stamp, so that equal arrays give equal files.
            with archive.open(zipfile.ZipInfo(name + ".npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


# --- reading --------------------------------------------------------------------------------------


def _read(caller: str, path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    return read(caller, path, PARSERS, MODEL.what)
