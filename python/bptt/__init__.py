# SPDX-License-Identifier: MIT
"""bptt: exact backpropagation through time on CPUs."""

from __future__ import annotations

from .config import show_config
from .functional import *

__version__ = "0.1.0"
