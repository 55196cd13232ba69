# SPDX-License-Identifier: MIT
"""Derivatives along a direction, and a check of gradients by finite differences."""

from .directional import hvp, jvp, layer_hvp, vjp

__all__ = ["hvp", "jvp", "layer_hvp", "vjp"]
