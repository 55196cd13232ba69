# SPDX-License-Identifier: MIT
"""Jacobians of recurrences: how fast gradients vanish or explode, and how far they reach."""

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
