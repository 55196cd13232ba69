# SPDX-License-Identifier: MIT
"""Models in the format ONNX: loaded, run, trained and written.

The package onnx is imported by the functions, not before: ``pip install "bptt[onnx]"``.
"""

from __future__ import annotations

from .entry import load, load_layers
from .model import Input, Model
from .operator import Operator, OperatorTape
from .write import export

__all__ = ["Input", "Model", "Operator", "OperatorTape", "export", "load", "load_layers"]
