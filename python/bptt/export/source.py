# SPDX-License-Identifier: MIT
"""A model to export, from a file."""

from __future__ import annotations

from typing import Any

from .._files.access import Path, naming
from ..io import load, load_metadata
from ..sequential.description import KEY
from ..sequential.rebuild import from_metadata

__all__ = ["read_model"]


def read_model(caller: str, path: Path) -> Any:
    """The `Sequential` of a file by its `save`; of any other file the arrays by name."""
    arrays, metadata = load(path), load_metadata(path)
    if KEY not in metadata:
        return arrays
    with naming(path):
        return from_metadata(caller, metadata, arrays)
