# SPDX-License-Identifier: MIT
"""The weights' gradients of each sequence."""

from __future__ import annotations

import numpy as np

from .._types import Array
from .shares import gates_of_h, needed, parts_of
from .trace import Trace


def per_sample_gradients(trace: Trace) -> dict[str, Array]:
    """The weights' gradients of each sequence apart.

    Parameters
    ----------
    trace : Trace
        Of a backward call with ``trace="full"``; from a function, or one of a layer's `cells`.

    Returns
    -------
    dict of str to ndarray
        w_ih (B, G*H, I), w_hh (B, G*H, H), b_ih and b_hh (B, G*H), in the dtype of the call (b_ih
        and b_hh also where the call had no bias). Summed over the first axis they are the
        gradients of the call.

    Raises
    ------
    ValueError
        Without ``trace="full"``.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> x, w_ih, w_hh = np.ones((5, 3, 2)), np.eye(4, 2), 0.5 * np.eye(4)
    >>> y, h, tape = bptt.rnn_forward(x, w_ih, w_hh)
    >>> grads = bptt.rnn_backward(tape, np.ones_like(y), trace="full")
    >>> each = bptt.per_sample_gradients(grads.trace)
    >>> each["w_hh"].shape
    (3, 4, 4)
    >>> np.allclose(each["w_hh"].sum(0), grads.w_hh)
    True
    """
    full = needed(trace, "per_sample_gradients")

    def summed(G: Array, V: Array) -> Array:
        return np.asarray(np.matmul(G.transpose(1, 2, 0), V.transpose(1, 0, 2)))

    G, G_h = np.concatenate(list(full.gates.values()), -1), gates_of_h(full)
    parts = parts_of(full, trace.weights[1])
    w_hh = [summed(part.G, part.V) for part in parts]
    return {
        "w_ih": summed(G, full.x), "w_hh": np.concatenate(w_hh, 1),
        "b_ih": G.sum(0), "b_hh": G_h.sum(0),
    }  # fmt: skip
