# SPDX-License-Identifier: MIT
"""Decides who computes a call of a module: bptt, or PyTorch for a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

PLAIN = (Tensor, torch.nn.Parameter)
DTYPES = (torch.float32, torch.float64)


class Backend(str):
    """The name of who computed a call, "bptt" or "torch", with the reason if it was PyTorch.

    Attributes
    ----------
    reason : str
        Why bptt did not compute the call; empty if it did.
    """

    reason: str

    def __new__(cls, name: str, reason: str = "") -> Backend:
        self = super().__new__(cls, name)
        self.reason = reason
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Backend, (str(self), self.reason)


BPTT = Backend("bptt")


def reason(input: Any, others: Sequence[Any], traced: bool) -> str | None:
    """Why PyTorch has to compute with these tensors; None: it has not.

    `traced`: a tracer or a transform may have tensors of its own kind.
    """
    dtype = getattr(input, "dtype", None)
    if dtype not in DTYPES:
        return f"input has dtype {dtype}" if isinstance(input, Tensor) else "input is no tensor"
    for tensor in (input, *others):
        if tensor is None or (
            (type(tensor) in PLAIN or (traced and isinstance(tensor, Tensor)))
            and tensor.dtype is dtype
            and tensor.is_cpu
            and tensor.layout is torch.strided
        ):
            continue
        return _difference(tensor, dtype)
    if not traced and torch._C._get_tracing_state() is not None:
        return "torch.jit traces the call"
    return None


def _difference(tensor: Any, dtype: torch.dtype) -> str:
    if not isinstance(tensor, Tensor):
        return f"an argument is {type(tensor).__name__}, no tensor"
    if not tensor.is_cpu:
        return f"a tensor is on {tensor.device}"
    if tensor.layout is not torch.strided:
        return f"a tensor has the layout {tensor.layout}"
    if tensor.dtype is not dtype:
        return f"tensors have the dtypes {dtype} and {tensor.dtype}"
    return f"a tensor is a {type(tensor).__name__}"
