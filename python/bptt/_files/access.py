# SPDX-License-Identifier: MIT
"""Regular files: read, and written whole, but never over files of other programs."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from .._validate import as_path
from .._words import printable

__all__ = [
    "Own",
    "Path",
    "check_target",
    "mark",
    "naming",
    "open_file",
    "write_atomically",
    "write_file",
]

Path = str | os.PathLike[str]

END = 1 << 16  # bytes at either end of a file by which it is recognised


class Own(NamedTuple):
    """A kind of file that the package writes, and so may replace."""

    what: str  # as "a header made by bptt"
    shows: Callable[[bytes], bool]  # do the first and last bytes belong to such a file?


def mark(what: str, start: bytes, *words: bytes) -> Own:
    """Describe files that start with these bytes, with the words in their first or last bytes."""

    def shows(ends: bytes) -> bool:
        return ends.startswith(start) and all(word in ends for word in words)

    return Own(what, shows)


def open_file(caller: str, path: Path) -> BinaryIO:
    """Open a regular file for reading. Devices have no end, and pipes may block for ever."""
    name = as_path(caller, path)
    if not stat.S_ISREG(os.stat(name).st_mode):
        raise ValueError(f"{caller}: {printable(name)} is not a regular file, expected one")
    return open(name, "rb")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the name of a file to errors about its contents."""
    try:
        yield
    except (TypeError, ValueError) as error:
        shown = printable(os.fsdecode(path))
        if shown in str(error):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{error} (in {shown})") from error


def check_target(
    caller: str, path: Path, own: Own, label: str = "path", force: bool | None = None
) -> str:
    """Follow the path to its file, and raise unless the file is new, empty or of the kind `own`.

    `force`, an option of commands but not of functions, allows other files too.
    """
    name = as_path(caller, path, label)
    folder = os.path.dirname(name) or "."
    shown = f"{caller}: {label} has {name!r}"
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f"{caller}: {label} has the folder {folder!r}, expected one that exists"
        )
    try:
        status = os.stat(name)
    except FileNotFoundError:  # a new file, or a link to a new file
        return os.path.realpath(name)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(
            f"{shown}, which is not a regular file, expected a regular file or a new name"
        )
    if status.st_size and not force and not own.shows(_ends(name)):
        option = "" if force is None else ", or --force"
        raise ValueError(f"{shown}, not known to be {own.what}, expected one or a new name{option}")
    return os.path.realpath(name)  # through links: replace the file, not the link


def write_file(
    caller: str,
    path: Path,
    content: bytes | Callable[[BinaryIO], object],
    own: Own,
    label: str = "path",
    force: bool | None = None,
) -> None:
    """Write a file whole or not at all, if `check_target` allows it."""
    target = check_target(caller, path, own, label, force)
    write_atomically(target, content if callable(content) else lambda file: file.write(content))


def write_atomically(target: str, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name and rename it, so that it is never incomplete."""
    mode = stat.S_IMODE(os.stat(target).st_mode) if os.path.exists(target) else None
    temporary = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if mode is not None:  # keep the permissions
                os.chmod(temporary, mode)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:  # including KeyboardInterrupt
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename == temporary:
            error.filename, error.filename2 = target, None  # the name that the user knows
        raise
    _flush_folder(os.path.dirname(target))


def _flush_folder(folder: str) -> None:
    """Flush the rename to the disk, if the folder can be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _ends(name: str) -> bytes:
    with open(name, "rb") as file:
        first = file.read(END)
        file.seek(max(len(first), os.fstat(file.fileno()).st_size - END))
        return first + file.read(END)
