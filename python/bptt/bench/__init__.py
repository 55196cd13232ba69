# SPDX-License-Identifier: MIT
"""``bptt bench``: the core against its NumPy reference and other libraries."""

from .command import add_arguments, run

__all__ = ["add_arguments", "run"]
