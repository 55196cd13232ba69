# SPDX-License-Identifier: MIT
"""Measured speed on several kinds of machine, and the tables that pages show of it."""
