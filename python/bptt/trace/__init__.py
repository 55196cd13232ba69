# SPDX-License-Identifier: MIT
"""Traces: the gradient at each step of a backward pass."""
