# SPDX-License-Identifier: MIT
"""Trained layers of other libraries and programs: their files, dicts of arrays and modules."""

from __future__ import annotations

from .conventions import layer_from_arrays
from .keras_write import save_keras
from .loader import load_model
from .rtneural import load_rtneural, save_rtneural

__all__ = ["layer_from_arrays", "load_model", "load_rtneural", "save_keras", "save_rtneural"]
