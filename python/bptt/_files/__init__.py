# SPDX-License-Identifier: MIT
"""Reading and writing files."""
