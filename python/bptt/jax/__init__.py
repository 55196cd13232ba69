# SPDX-License-Identifier: MIT
"""RNN, LSTM and GRU for JAX programs, computed by bptt inside `jit`, `grad`, `vmap` and `scan`.

A compiled program calls the core through a callback; nothing is built against JAX.

>>> import jax, jax.numpy as jnp
>>> import bptt.jax
>>> x, w_ih, w_hh = jnp.ones((10, 2, 3)), jnp.full((16, 3), 0.1), jnp.full((16, 4), 0.1)
>>> def loss(w_ih, w_hh):
...     y, (h, c) = bptt.jax.lstm(x, w_ih, w_hh)
...     return (y**2).mean()
>>> dw_ih, dw_hh = jax.jit(jax.grad(loss, argnums=(0, 1)))(w_ih, w_hh)
>>> dw_ih.shape, dw_hh.shape
((16, 3), (16, 4))
"""

from __future__ import annotations

try:
    import jax.experimental.buffer_callback as _buffer_callback  # noqa: F401
except ImportError as error:
    raise ImportError(
        'bptt.jax: JAX 0.7 or newer is not installed: pip install "bptt[jax]"'
    ) from error

from .functions import gru, lstm, rnn

__all__ = ["gru", "lstm", "rnn"]
