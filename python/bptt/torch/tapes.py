# SPDX-License-Identifier: MIT
"""Tapes as tensors, so that PyTorch frees them with its own saved tensors.

A tape is held by a tensor of one number. The number finds the tape, as long as the memory of that
tensor exists. So a tape ends where a saved tensor does: at a backward call without `retain_graph`,
and in the first pass of a checkpoint.
"""

from __future__ import annotations

import itertools
import weakref
from functools import partial
from typing import Any

import numpy as np
import torch

_numbers = itertools.count(1)
_held: dict[int, tuple[Any, Any]] = {}  # by number: what is held, and the reference that ends it


def hold(value: Any) -> torch.Tensor:
    """A tensor (1,) that holds `value`."""
    number = next(_numbers)
    array = np.array([number])
    _held[number] = value, weakref.ref(array, partial(_release, number))
    return torch.from_numpy(array)


def held(tensor: torch.Tensor) -> Any:
    """What the tensor holds, or None for a copy of one that is no more."""
    found = _held.get(int(tensor))
    return None if found is None else found[0]


def _release(number: int, _: Any) -> None:
    _held.pop(number, None)
