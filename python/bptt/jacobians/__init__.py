# SPDX-License-Identifier: MIT
"""Jacobians of recurrences: how far, and how fast, gradients vanish or explode."""

from .bounds import decay_bound, memory_horizon, spectral_radius
from .exact import jacobian, jacobian_norms, singular_values, step_jacobians
from .lyapunov import lyapunov_spectrum

__all__ = [
    "decay_bound",
    "jacobian",
    "jacobian_norms",
    "lyapunov_spectrum",
    "memory_horizon",
    "singular_values",
    "spectral_radius",
    "step_jacobians",
]
