# SPDX-License-Identifier: MIT
"""Derivatives beside the gradient: along a direction, and by differences as a check."""

from .directional import hvp, jvp, layer_hvp, vjp

__all__ = ["hvp", "jvp", "layer_hvp", "vjp"]
