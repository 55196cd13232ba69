# SPDX-License-Identifier: MIT
"""Fingerprints by which a tape sees that an array has changed."""

from __future__ import annotations

from .. import _core
from .._types import Array


def marks(*arrays: Array) -> tuple[int, ...]:
    """The fingerprints of C-contiguous arrays, for `check_marks`."""
    return tuple(_core.fingerprint(array) for array in arrays)


def check_marks(caller: str, kept: tuple[int, ...], **arrays: Array) -> None:
    for mark, (name, array) in zip(kept, arrays.items()):
        if _core.fingerprint(array) != mark:
            raise ValueError(
                f"{caller}: {name} has changed since the forward call, expected it as it was: the "
                "tape refers to it"
            )
