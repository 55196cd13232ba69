# SPDX-License-Identifier: MIT
"""The arrays of a module's weights, kept from call to call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .layout import array_of
from .stack import CellArrays, Stack

DTYPES = {torch.float32: "float32", torch.float64: "float64"}


class WeightArrays:
    """Arrays in the memory of weights, made again when a weight has moved to other memory."""

    def __init__(self, weights: Sequence[Tensor], stack: Stack) -> None:
        self.dtype: torch.dtype = weights[0].dtype
        self.arrays = [array_of(weight) for weight in weights]
        # A weight that is not contiguous was copied: never the same again.
        self.known = [(w, w.data_ptr() if w.is_contiguous() else -1, w.numel()) for w in weights]
        self.cells: CellArrays = stack.cells(self.arrays)

    def fit(self, weights: Sequence[Tensor]) -> bool:
        """Are these the same tensors, and their memory the same?

        `tensor.data = other` keeps a tensor and changes its memory.
        """
        dtype = self.dtype
        for weight, (tensor, pointer, size) in zip(weights, self.known):
            if (
                weight is not tensor
                or weight.data_ptr() != pointer
                or weight.numel() != size
                or weight.dtype is not dtype
                or not weight.is_contiguous()
            ):
                return False
        return True


def known(module: Any, weights: Sequence[Tensor]) -> WeightArrays | None:
    """The arrays of an earlier call, if the weights are still in the same memory."""
    arrays: WeightArrays | None = module.__dict__.get("_arrays")
    return arrays if arrays is not None and arrays.fit(weights) else None


def remembered(module: Any, weights: Sequence[Tensor], stack: Stack) -> WeightArrays:
    """New arrays, which `known` will find."""
    arrays = WeightArrays(weights, stack)
    if all(weight.is_leaf for weight in weights):  # else new ones come with each call
        module.__dict__["_arrays"] = arrays
    return arrays
