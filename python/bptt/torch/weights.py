# SPDX-License-Identifier: MIT
"""The arrays of a module's weights, which stay the same from call to call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .layout import array_of
from .stack import CellArrays, Stack


class WeightArrays:
    """Arrays in the memory of weights, to be made again where a weight has another memory."""

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
