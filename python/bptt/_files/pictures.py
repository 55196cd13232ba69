# SPDX-License-Identifier: MIT
"""Pictures of commands, marked as made by bptt, since only such pictures may be replaced."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from .access import Own, check_target, write_file

__all__ = ["PICTURE", "check_format", "check_picture", "write_picture"]

MARK = "made by bptt"
KEYS = {"png": "Software", "svg": "Creator", "pdf": "Creator", "ps": "Creator", "eps": "Creator"}
PICTURE = Own("a picture made by bptt", lambda ends: MARK.encode() in ends)


def check_picture(caller: str, label: str, path: Path, force: bool) -> None:
    """Raise unless a picture of this name can be written; called before the work."""
    check_format(caller, label, path)
    check_target(caller, path, PICTURE, label, force)


def check_format(caller: str, label: str, path: Path) -> None:
    """Raise unless matplotlib is installed and knows the suffix."""
    if not importlib.util.find_spec("matplotlib"):
        raise ValueError(f'{caller}: {label} needs matplotlib: pip install "bptt[plot]"')
    suffixes = importlib.import_module("matplotlib.backend_bases").FigureCanvasBase.filetypes
    if path.suffix[1:].lower() not in suffixes:
        kinds = ", .".join(sorted(suffixes))
        raise ValueError(f"{caller}: {label} has {str(path)!r}, expected a name in .{kinds}")


def write_picture(
    caller: str, label: str, path: Path, figure: Any, dpi: int | str, force: bool
) -> None:
    """Write a figure in the format of the name, with a mark if the format has metadata."""
    kind = path.suffix[1:].lower()
    metadata = {KEYS[kind]: MARK} if kind in KEYS else None

    def write(file: Any) -> None:
        figure.savefig(file, format=kind, dpi=dpi, metadata=metadata)

    write_file(caller, path, write, PICTURE, label, force)
