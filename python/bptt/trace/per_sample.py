# SPDX-License-Identifier: MIT
"""The gradients of the weights, sequence by sequence."""

from __future__ import annotations

import numpy as np

from .._types import Array
from .shares import gates_of_h, parts_of
from .trace import Trace, full_of


def per_sample_gradients(trace: Trace) -> dict[str, Array]:
    """The gradients of the weights, sequence by sequence.

    Parameters
    ----------
    trace : Trace
        The trace of a ``*_backward`` call with ``trace="full"``, or one of the `cells` of a layer's
        trace.

    Returns
    -------
    dict of str to ndarray
        w_ih (B, G*H, I), w_hh (B, G*H, H), b_ih and b_hh (B, G*H), in the dtype of the call (b_ih
        and b_hh even if the call had no bias). Their sums over the first axis are the gradients of
        the call.

    Raises
    ------
    ValueError
        Without ``trace="full"``, or with `layer_norm` or `heads`.

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
    full, weights = full_of(trace, "per_sample_gradients")

    def summed(G: Array, V: Array) -> Array:
        return np.asarray(np.matmul(G.transpose(1, 2, 0), V.transpose(1, 0, 2)))

    G, G_h = np.concatenate(list(full.gates.values()), -1), gates_of_h(full)
    parts = parts_of(full, weights[1])
    w_hh = [summed(part.G, part.V) for part in parts]
    return {
        "w_ih": summed(G, full.x), "w_hh": np.concatenate(w_hh, 1),
        "b_ih": G.sum(0), "b_hh": G_h.sum(0),
    }  # fmt: skip
