# SPDX-License-Identifier: MIT
"""One training loop for every model: `fit`, its `History`, and what callbacks are given."""

from .callbacks import Step
from .entry import fit
from .history import Epoch, History

__all__ = ["Epoch", "History", "Step", "fit"]
