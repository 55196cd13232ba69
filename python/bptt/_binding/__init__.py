# SPDX-License-Identifier: MIT
"""The way into the core."""
