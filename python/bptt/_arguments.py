# SPDX-License-Identifier: MIT
"""Types of arguments on the command line, for argparse."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["as_file", "refused", "whole"]


def as_file(text: str) -> Path:
    """A file to write."""
    path = Path(text)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise refused(text, "a file in an existing folder that can be written")
    return path


def whole(least: int) -> Callable[[str], int]:
    """The type of whole numbers from `least` up."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise refused(text, f"a whole number from {least} up")
        return int(text)

    return parse


def refused(text: str, expected: str) -> Exception:
    from argparse import ArgumentTypeError  # imported here, as `import bptt` needs no parser

    return ArgumentTypeError(f"has {text!r}, expected {expected}")
