# SPDX-License-Identifier: MIT
"""Published results, run again: one script for each, and shared modules."""
