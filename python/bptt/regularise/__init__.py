# SPDX-License-Identifier: MIT
"""Terms to add to a loss that keep gradients alive, with their own gradients."""

from .gradient_flossing import flossing
from .omega_term import Penalty, omega

__all__ = ["Penalty", "flossing", "omega"]
