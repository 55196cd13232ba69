# SPDX-License-Identifier: MIT
"""Terms to add to a loss that keep gradients alive, with their own gradients."""

from .flossing import flossing
from .omega import Penalty, omega

__all__ = ["Penalty", "flossing", "omega"]
