# SPDX-License-Identifier: MIT
"""Helpers that tests share. A test file imports from here, never from another test file."""
