# SPDX-License-Identifier: MIT
"""Trained weights for programs without Python: a C header, and RTNeural's JSON.

``bptt export`` writes both from the command line.
"""

from __future__ import annotations

from ..exchange.rtneural import load_rtneural, save_rtneural
from .c_header import save_c_header
from .command import add_arguments, run

__all__ = ["add_arguments", "load_rtneural", "run", "save_c_header", "save_rtneural"]
