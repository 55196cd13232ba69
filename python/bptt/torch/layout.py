# SPDX-License-Identifier: MIT
"""Converts PyTorch's layouts of tensors to the core's (T, B, ...) arrays, and back."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from .._types import Array


def memory_of(tensor: torch.Tensor) -> Array:
    """The tensor's memory as an array; a copy where that is not what the tensor means."""
    try:
        array: Array = (tensor.detach() if tensor.requires_grad else tensor).numpy()
    except RuntimeError:  # such as an imaginary part of a conjugate, which is negated when read
        array = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach()).numpy()
    return array


def array_of(tensor: torch.Tensor) -> Array:
    """As `memory_of`, but contiguous."""
    array = memory_of(tensor)
    return array if array.flags.c_contiguous else array.copy()


# Of kinds without all axes: how to index tensors on their way in, and arrays on their way out.
VIEWS: dict[str, tuple[Any, Any]] = {
    "single": (np.s_[:, None], np.s_[:, 0]),
    "step": (np.s_[None], np.s_[0]),
    "vector": (np.s_[None, None], np.s_[0, 0]),
}


class Layout(NamedTuple):
    """The axes of time and batch of a sequence.

    Attributes
    ----------
    kind : {"time", "batch", "single", "packed", "step", "vector"}
        (T, B, n), (B, T, n), (T, n), the rows of a `PackedSequence`, (B, n) of one step, or (n,).
        States are (cells, B, n), (cells, n) of "single", and (B, n) or (n,) of one step.
    steps, batch : int
        T and B.
    rows : ndarray of int, or None
        The places in (T * B) of the rows of a `PackedSequence`; None: all, in order.
    """

    kind: str
    steps: int
    batch: int
    rows: Array | None = None

    def inward(self, tensor: torch.Tensor) -> Array:
        """A sequence as the core takes it, in the tensor's memory where that is possible."""
        array = memory_of(tensor)
        if self.kind == "batch":
            array = array.swapaxes(0, 1)
        elif self.kind == "packed":
            return self._spread(array)
        elif self.kind != "time":
            array = array[VIEWS[self.kind][0]]
        return array if array.flags.c_contiguous else array.copy()

    def outward(self, array: Array) -> torch.Tensor:
        """A sequence of the core, as PyTorch returns it."""
        array = writable(array)
        if self.kind == "batch":
            array = array.swapaxes(0, 1)
        elif self.kind == "packed":
            array = array.reshape(self.steps * self.batch, -1)
            array = array if self.rows is None else array[self.rows]
        elif self.kind != "time":
            array = array[VIEWS[self.kind][1]]
        return torch.from_numpy(array)

    def state_inward(self, tensor: torch.Tensor) -> Array:
        array = array_of(tensor)
        return array[VIEWS[self.kind][0]] if self.kind in VIEWS else array

    def state_outward(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(array[VIEWS[self.kind][1]] if self.kind in VIEWS else array)

    def _spread(self, array: Array) -> Array:
        shape = (self.steps, self.batch, array.shape[1])
        if self.rows is None:
            return (array if array.flags.c_contiguous else array.copy()).reshape(shape)
        padded = np.zeros((self.steps * self.batch, array.shape[1]), array.dtype)
        padded[self.rows] = array
        return padded.reshape(shape)


@lru_cache(maxsize=1024)
def layout_of(shape: tuple[int, ...], batch_first: bool, input_size: int) -> Layout | None:
    """The layout of the input of a module with this shape; None if it has no such input."""
    if len(shape) not in (2, 3) or shape[-1] != input_size:
        return None
    if len(shape) == 2:
        found = Layout("single", shape[0], 1)
    elif batch_first:
        found = Layout("batch", shape[1], shape[0])
    else:
        found = Layout("time", shape[0], shape[1])
    return found if found.steps else None


def packed_layout(batch_sizes: torch.Tensor) -> tuple[Layout, Array | None]:
    """The layout of a `PackedSequence`, and the lengths of its sequences, None: all equal."""
    sizes = batch_sizes.numpy()
    T, B = len(sizes), int(sizes[0])
    if int(sizes[-1]) == B:
        return Layout("packed", T, B), None
    running = np.arange(B) < sizes[:, None]
    return Layout("packed", T, B, np.flatnonzero(running)), running.sum(0)


class _Memory:
    """The memory of an array, to be written."""

    def __init__(self, array: Array) -> None:
        self.array = array
        interface: Any = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def writable(array: Array) -> Array:
    """The array, or another one of its memory that may be written.

    The core marks as read-only what a tape refers to. PyTorch counts the changes of a tensor, and
    refuses a backward call after one.
    """
    if not array.flags.writeable:
        try:
            array.flags.writeable = True
        except ValueError:  # of memory that NumPy does not own
            array = np.asarray(_Memory(array))
    return array
