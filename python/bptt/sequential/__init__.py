# SPDX-License-Identifier: MIT
"""Layers in a row as one model: calls, gradients, streams, files."""

from .model import Sequential
from .tape import SequentialTape

__all__ = ["Sequential", "SequentialTape"]
