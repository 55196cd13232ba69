# SPDX-License-Identifier: MIT
"""PyTorch's recurrent modules, computed by bptt: `bptt.torch.LSTM` in place of `torch.nn.LSTM`.

They are subclasses of PyTorch's, with the same arguments, parameters and results. PyTorch
computes the calls that bptt cannot: ``module.backend`` says which of the two did, and why.

>>> import torch
>>> import bptt.torch
>>> lstm = bptt.torch.LSTM(3, 4, num_layers=2)
>>> y, (h, c) = lstm(torch.ones(10, 2, 3))
>>> y.sum().backward()
>>> y.shape, lstm.weight_ih_l0.grad.shape, lstm.backend
(torch.Size([10, 2, 4]), torch.Size([16, 3]), 'bptt')
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        'bptt.torch: PyTorch is not installed; install it by pip install "bptt[torch]"'
    ) from error

from .cells import GRUCell, LSTMCell, RNNCell
from .layer import Layer
from .modules import GRU, LSTM, RNN
from .monitor import Watch, watch
from .swap import Accelerated, accelerate, restore

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Accelerated",
    "GRUCell",
    "LSTMCell",
    "Layer",
    "RNNCell",
    "Watch",
    "accelerate",
    "restore",
    "watch",
]
