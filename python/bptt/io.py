# SPDX-License-Identifier: MIT
"""Arrays by name in one file: safetensors or NumPy's npz, never pickle, written atomically."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from ._convert import as_array, as_path
from .grads import Array, check_mapping, shown

__all__ = ["load", "load_metadata", "save"]

Path = str | os.PathLike[str]

MOST_BYTES = 65535 - len(".npy")  # of a name: zip archives take no longer ones
_METADATA = "__metadata__"  # safetensors reserves this name; npz files use it the same way


def save(
    path: Path, arrays: Mapping[str, ArrayLike], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays to a file, whole or not at all.

    The file is written under a temporary name in the same folder, flushed to the disk, and renamed:
    whatever happens meanwhile, `path` holds the old content or the new one. (Only a killed process
    can leave a temporary file ``.<random>.tmp`` behind.)

    Parameters
    ----------
    path : str or path-like
        Exactly this file is written. Its name decides the format: safetensors for a name in
        ``.safetensors``, npz for any other suffix; without a suffix, safetensors where that package
        is installed, else npz. `load` looks at the content, not at the name.
    arrays : dict of str to array_like
        Numbers or booleans of up to 8 bytes; stored in C order and the machine's byte order.
    metadata : dict of str to str, optional
        For `load_metadata`.

    Raises
    ------
    TypeError
        If a name or metadata is not text, or an array holds something else; nothing is written.
    ValueError
        If an array is called ``__metadata__`` or its name holds a NUL, or the path leads to
        something else than a file, as a device.
    ImportError
        If the name asks for safetensors and the package is not installed.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from bptt.io import load, load_metadata, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.npz")
    ...     save(path, {"w": np.eye(2)}, {"epoch": "7"})
    ...     load(path), load_metadata(path)
    ({'w': array([[1., 0.],
           [0., 1.]])}, {'epoch': '7'})
    """
    path = as_path("save", path)
    check_mapping("save", "arrays", arrays)
    checked = {name: _plain(name, array) for name, array in arrays.items()}
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, Mapping):
        raise TypeError(f"save: metadata is {shown(metadata)}, expected a dict of text")
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            has = f"{shown(key)}: {shown(value)}"
            raise TypeError(f"save: metadata has {has}, expected text for text")
    metadata = dict(metadata)
    target = os.path.realpath(os.fspath(path))  # through links: replace the file, not the link
    suffix = os.path.splitext(target)[1].lower()
    if suffix == ".safetensors" or (not suffix and importlib.util.find_spec("safetensors")):
        library = _safetensors("save", path, sum(array.nbytes for array in checked.values()))
        content = library.save(checked, metadata or None)
        write_atomically(target, lambda file: file.write(content))
    else:
        write_atomically(target, lambda file: _write_npz(file, checked, metadata))


def load(path: Path) -> dict[str, Array]:
    """Read the arrays of a file in safetensors or npz format, whatever its name.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    dict of str to ndarray
        In new memory.

    Raises
    ------
    ValueError
        If the file is in neither format, truncated or damaged, or holds pickled objects.
    ImportError
        If it is a safetensors file and the package is not installed.
    OSError
        If the file cannot be read, as FileNotFoundError.
    """
    return _read("load", path)[0]


def load_metadata(path: Path) -> dict[str, str]:
    """Read the metadata given to `save`, empty if there was none. Errors are those of `load`."""
    return _read("load_metadata", path)[1]


# --- writing --------------------------------------------------------------------------------------


def _plain(name: str, value: ArrayLike) -> Array:
    if "\0" in name:  # zip archives cut a name there
        raise ValueError(f"save: arrays has the name {shown(name)}, expected one without a NUL")
    if name == _METADATA:
        raise ValueError(f"save: arrays has the name {name!r}, expected another: it is reserved")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"save: arrays has the name {shown(name)}, expected Unicode") from None
    if size > MOST_BYTES:
        raise ValueError(
            f"save: arrays has the name {shown(name)}, expected at most {MOST_BYTES} bytes of UTF-8"
        )
    array = as_array("save", f"arrays[{shown(name)}]", value)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(
            f"save: arrays[{shown(name)}] has dtype {array.dtype}, "
            "expected numbers or booleans of up to 8 bytes"
        )
    # safetensors 0.8.0 writes other layouts wrongly, without an error.
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _safetensors(where: str, path: Path, size: int) -> Any:
    """The package, for arrays of so many bytes."""
    # It makes two copies, and ends the process where there is no memory for them.
    np.empty(2 * size + (1 << 20), np.uint8)
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            f"{where}: {os.fspath(path)} is a safetensors file, expected the package to be "
            'installed: pip install "bptt[safetensors]"'
        ) from error
    return safetensors.numpy


def _write_npz(file: BinaryIO, arrays: dict[str, Array], metadata: dict[str, str]) -> None:
    if metadata:
        text = json.dumps(metadata).encode()
        arrays = {_METADATA: np.frombuffer(text, np.uint8)} | arrays
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            # A bare ZipInfo has no time stamp: equal arrays give equal files.
            with archive.open(zipfile.ZipInfo(name + ".npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def write_atomically(target: str, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name and rename it, so that it is never seen half-written.

    Raises ValueError if something else than a regular file stands there: it would be replaced.
    """
    mode = None
    if os.path.lexists(target):
        if not os.path.isfile(target):
            raise ValueError(f"{target} is no regular file, expected one or nothing there")
        mode = os.stat(target).st_mode & 0o7777
    temporary = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if mode is not None:  # no more readers than before
                os.chmod(temporary, mode)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:  # KeyboardInterrupt as well
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(descriptor)  # the rename itself
        finally:
            os.close(descriptor)


# --- reading --------------------------------------------------------------------------------------


def _read(where: str, path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    path = as_path(where, path)
    with open(path, "rb") as file:
        content = file.read()
    try:
        if content[:2] == b"PK":  # a zip archive
            return _parse_npz(content)
        if content[8:9] == b"{":  # a length of 8 bytes, then JSON
            return _parse_safetensors(content, _safetensors(where, path, len(content)))
        raise ValueError("no such format")
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # whatever the parsers make of a damaged file
        raise ValueError(
            f"{where}: {os.fspath(path)} is damaged or not a safetensors or npz file ({error})"
        ) from error


def _parse_npz(content: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    arrays = {}
    with zipfile.ZipFile(BytesIO(content)) as archive:
        for name in archive.namelist():
            # Read whole, which checks the sum, before the header is believed.
            member = BytesIO(archive.read(name))
            array = np.lib.format.read_array(member, allow_pickle=False)
            arrays[name.removesuffix(".npy")] = array
    metadata = arrays.pop(_METADATA, None)
    return arrays, {} if metadata is None else json.loads(metadata.tobytes())


def _parse_safetensors(content: bytes, library: Any) -> tuple[dict[str, Array], dict[str, str]]:
    arrays = library.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    writable = {k: a if a.flags.writeable else a.copy() for k, a in arrays.items()}
    return writable, header.get(_METADATA, {})
