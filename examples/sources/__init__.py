# SPDX-License-Identifier: MIT
"""Data of other packages, read for the examples."""
