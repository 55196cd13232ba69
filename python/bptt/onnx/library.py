# SPDX-License-Identifier: MIT
"""The package onnx, imported when it is needed."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["library"]


def library(caller: str, module: str = "onnx") -> Any:
    """The package onnx, or one of its modules."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{caller}: the package onnx is not installed, expected it: pip install "bptt[onnx]"'
        ) from error
