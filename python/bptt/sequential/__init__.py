# SPDX-License-Identifier: MIT
"""Layers in a row as one model: calls, gradients, streams, files."""

from .model import Sequential, SequentialTape

__all__ = ["Sequential", "SequentialTape"]
