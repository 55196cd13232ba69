# SPDX-License-Identifier: MIT
"""Tapes as tensors, so that PyTorch frees them with its own saved tensors.

A small tensor holds a tape, which is found by the address of the tensor's memory while that memory
exists. So a tape is freed when PyTorch frees a saved tensor: at a backward call without
`retain_graph`, and in the first pass of a checkpoint.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import numpy as np
import torch

_held: dict[int, tuple[Any, Any]] = {}  # by address: what is held, and the reference that ends it


def hold(*values: Any) -> torch.Tensor:
    """A tensor (n,), each number of which holds one of the values."""
    array = np.zeros(len(values), np.int64)
    tensor = torch.from_numpy(array)
    for k, value in enumerate(values):
        address = tensor.data_ptr() + k * array.itemsize
        _held[address] = value, weakref.ref(array, partial(_release, address))
    return tensor


def held(tensor: torch.Tensor) -> Any:
    """What the first number of the tensor holds; None if it is a copy of one that does."""
    found = _held.get(tensor.data_ptr())
    return None if found is None else found[0]


def _release(address: int, _: Any) -> None:
    _held.pop(address, None)
