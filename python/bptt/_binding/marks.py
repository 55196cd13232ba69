# SPDX-License-Identifier: MIT
"""Marks by which a tape knows again the arrays that it refers to."""

from __future__ import annotations

from .. import _core
from .._types import Array


def marks(*arrays: Array) -> tuple[int, ...]:
    """Of C-contiguous arrays that a tape refers to: by these `check_marks` knows them again."""
    return tuple(_core.fingerprint(array) for array in arrays)


def check_marks(caller: str, kept: tuple[int, ...], **arrays: Array) -> None:
    for mark, (name, array) in zip(kept, arrays.items()):
        if _core.fingerprint(array) != mark:
            raise ValueError(
                f"{caller}: {name} has changed since the forward call, expected it as it was: the "
                "tape refers to it"
            )
