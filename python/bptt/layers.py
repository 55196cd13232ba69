# SPDX-License-Identifier: MIT
"""The recurrent layers: PyTorch's arguments, parameter names and shapes, NumPy arrays inside."""

from __future__ import annotations

from typing import final

from numpy.typing import DTypeLike

from .dense import Seed
from .recurrent import ACTIVATIONS, Cell, Recurrent, RecurrentTape

__all__ = ["GRU", "LSTM", "RNN", "Recurrent", "RecurrentTape"]


@final
class RNN(Recurrent):
    """RNN layers: h_t = activation(w_ih x_t + b_ih + w_hh h_{t-1} + b_hh)  (Elman, 1990).

    Parameters
    ----------
    activation : {"tanh", "relu", "leaky_relu", "sigmoid", "identity"}, optional
        Keyword only. All others are those of `Recurrent`; G = 1.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.layers import RNN
    >>> rnn = RNN(4, 3, activation="relu", seed=0)
    >>> rnn
    RNN(4, 3, activation='relu')
      weight_ih_l0  (3, 4)
      weight_hh_l0  (3, 3)
      bias_ih_l0    (3,)
      bias_hh_l0    (3,)
      27 parameters
    >>> y, h, tape = rnn.forward(np.ones((5, 2, 4)))
    >>> grads = rnn.backward(tape, np.ones_like(y))
    >>> y.shape, h.shape, grads.x.shape, grads.params["bias_hh_l0"].shape
    ((5, 2, 3), (1, 2, 3), (5, 2, 4), (3,))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        activation: str = "tanh",
        dtype: DTypeLike = "float32",
        seed: Seed = None,
        compute: str | None = None,
    ) -> None:
        if activation not in ACTIVATIONS:
            raise ValueError(f"RNN: activation is {activation!r}, expected one of {ACTIVATIONS}")
        self.activation = activation
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dtype=dtype, seed=seed, compute=compute,
        )  # fmt: skip

    @property
    def _cell(self) -> Cell:
        return Cell("rnn", gates=1, states=1, activation=self.activation)


@final
class LSTM(Recurrent):
    """LSTM layers with a forget gate; arguments of `Recurrent`; gates i f g o (G = 4).

    With the gates from w_ih x_t + b_ih + w_hh h_{t-1} + b_hh:
    c_t = sig(f) c_{t-1} + sig(i) tanh(g),   h_t = sig(o) tanh(c_t).

    References
    ----------
    Hochreiter & Schmidhuber (1997), Neural Computation 9(8); Gers, Schmidhuber & Cummins (2000),
    Neural Computation 12(10), for the forget gate.
    """

    _cell = Cell("lstm", gates=4, states=2)


@final
class GRU(Recurrent):
    """GRU layers; arguments of `Recurrent`; gates r z n (G = 3).

    The reset gate acts after the recurrent product, as in PyTorch and cuDNN:
    n_t = tanh(w_in x_t + b_in + sig(r) (w_hn h_{t-1} + b_hn)),
    h_t = (1 - sig(z)) n_t + sig(z) h_{t-1}   (Cho et al., 2014, arXiv:1406.1078).
    """

    _cell = Cell("gru", gates=3, states=1)
