# SPDX-License-Identifier: MIT
"""Layers: parameters by name, calls, and exact gradients. PyTorch's arguments, names and shapes."""

from .attention import Attention
from .cells import GRU, LSTM, LSTM1997, MGU, RNN, SLSTM
from .dropout import Dropout
from .embedding import Embedding
from .layer_norm import LayerNorm
from .linear import Linear
from .pooling import Last, MeanPool
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
    "Dropout",
    "Embedding",
    "Last",
    "LayerNorm",
    "Linear",
    "MeanPool",
    "Recurrent",
    "RecurrentTape",
]
