# SPDX-License-Identifier: MIT
"""``bptt demo``: four tasks, a table of results and a picture."""

from .command import add_arguments, run

__all__ = ["add_arguments", "run"]
