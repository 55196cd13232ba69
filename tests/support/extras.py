# SPDX-License-Identifier: MIT
"""What parts of the package need that may not be installed."""

from __future__ import annotations

import pytest

# By the start of a module's name, or the name of a page of docs/; one package or several.
NEEDS = {
    "bptt.jax": "jax",
    "bptt.onnx": "onnx.helper",
    "bptt.torch": "torch",
    "estimators.md": "pandas sklearn",
    "jax.md": "jax",
    "onnx.md": "onnx.helper",
    "torch.md": "torch",
}


def import_needs(name: str) -> None:
    """Skip the test of a module or page whose package is not installed."""
    for start, packages in NEEDS.items():
        if name.startswith(start):
            for package in packages.split():
                pytest.importorskip(package)
