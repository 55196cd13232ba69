# SPDX-License-Identifier: MIT
"""How results are compared: tolerances, errors, bits."""

from __future__ import annotations

from typing import Any

import numpy as np

# Relative to the largest reference value. float64: some ten thousand roundings of 1e-16. float32:
# the same of 6e-8, and the elementary functions' 2e-7 (kernels/vector/math.inl).
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}
DTYPES = list(TOLERANCE)
# Against PyTorch, whose own results have roundings as well.
TOLERANCE_OF_TORCH = {"float64": 1e-10, "float32": 2e-5}
# Of operands of 16 bits: most results agree to 1e-6, but one that rounds to the other side changes
# more.
TOLERANCE_OF_INT8 = 3e-5


def error(got: Any, want: Any) -> float:
    """Largest difference, relative to the largest wanted value (absolute where all are zero)."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    if got.size == 0:
        return 0.0
    largest = np.abs(want).max()
    return float(np.abs(got - want).max() / (largest if largest > 0 else 1.0))


def assert_close(got: dict[str, Any], want: dict[str, Any], tolerance: float) -> None:
    assert got.keys() == want.keys()
    errors = {name: error(got[name], want[name]) for name in want}
    wrong = {name: e for name, e in errors.items() if not e <= tolerance}
    assert not wrong, f"relative errors {wrong}, tolerance {tolerance}"


def same_bits(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    different = [k for k in a if a[k].shape != b[k].shape or a[k].tobytes() != b[k].tobytes()]
    assert not different


# Results of which each sequence has its own: along axis 0 of the states, axis 1 of the others.
PER_SEQUENCE = ["d x", "d state[0]", "d state[1]", "state[0]", "state[1]", "y"]


def same_bits_per_sequence(part: dict[str, Any], whole: dict[str, Any], rows: list[int]) -> None:
    """`part`: the results of ``take(p, rows)``."""
    names = [name for name in PER_SEQUENCE if name in whole]
    want = {name: np.take(whole[name], rows, 0 if "state" in name else 1) for name in names}
    same_bits({name: part[name] for name in names}, want)
