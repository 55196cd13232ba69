# SPDX-License-Identifier: MIT
"""Layers: parameters by name, calls, and exact gradients. PyTorch's arguments, names and shapes."""

from .attention import Attention
from .cells import GRU, LSTM, LSTM1997, MGU, RNN, SLSTM
from .embedding import Embedding
from .linear import Linear
from .recurrent import Recurrent
from .tape import RecurrentTape

__all__ = [
    "GRU",
    "LSTM",
    "LSTM1997",
    "MGU",
    "RNN",
    "SLSTM",
    "Attention",
    "Embedding",
    "Linear",
    "Recurrent",
    "RecurrentTape",
]
