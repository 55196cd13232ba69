# SPDX-License-Identifier: MIT
"""Folders of the source tree."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
