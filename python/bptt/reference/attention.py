# SPDX-License-Identifier: MIT
"""Attention in plain NumPy, one sequence after the other: a part of `bptt.reference`.

Like all of `bptt.reference` it checks nothing, never imports the core, and lets complex input flow
through. For each sequence, X holds the steps within its length in rows, and a kind of attention is
only its scores e(X) and their gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from .._grads import AttentionGrads
from .._types import Array

__all__ = [
    "additive_attention_backward",
    "additive_attention_forward",
    "dot_attention_backward",
    "dot_attention_forward",
]


class AttentionTape(NamedTuple):
    """The arguments of one forward call, and its weights."""

    arguments: dict[str, Any]
    lengths: Array
    weights: Array


def softmax(e: Array) -> Array:
    p = np.exp(e - e.real.max())
    return np.asarray(p / p.sum())


def pool(
    x: Array, lengths: Any, scores: Callable[[int, Array], Array], arguments: dict[str, Any]
) -> tuple[Array, Array, AttentionTape]:
    """context = sum_t a_t x_t with a = softmax(e), for each sequence."""
    T, B, H = x.shape
    lengths = np.full(B, T) if lengths is None else np.array(lengths)
    dtype = np.result_type(*(a for a in arguments.values() if isinstance(a, np.ndarray)))
    context, weights = np.zeros((B, H), dtype), np.zeros((T, B), dtype)
    for b, n in enumerate(lengths):
        if n:
            X = x[:n, b]
            weights[:n, b] = softmax(scores(b, X))
            context[b] = weights[:n, b] @ X
    return context, weights, AttentionTape(arguments, lengths, weights.copy())


def pool_grad(
    tape: AttentionTape, b: int, dcontext: Array | None, dweights: Array | None
) -> tuple[Array, Array, Array]:
    """For sequence b: X, and the gradients of its scores and of X by the direct path."""
    n = tape.lengths[b]
    X, a = tape.arguments["x"][:n, b], tape.weights[:n, b]
    d = np.zeros(X.shape[1]) if dcontext is None else np.asarray(dcontext)[b]
    da = X @ d + (0 if dweights is None else np.asarray(dweights)[:n, b])
    jacobian = np.diag(a) - np.outer(a, a)  # of softmax
    return X, jacobian @ da, np.outer(a, d)


def some(d: dict[str, Any], grads: Iterable[str] | None) -> AttentionGrads:
    """The gradients that `grads` names; None: all."""
    names = d if grads is None else set(grads)
    return AttentionGrads(*(d.get(n) if n in names else None for n in AttentionGrads._fields))


def dot_attention_forward(
    x: Array, query: Array, *, scale: float | None = None, lengths: Any = None
) -> tuple[Array, Array, AttentionTape]:
    """Dot-product attention; see `bptt.dot_attention_forward`."""
    x, query = np.array(x), np.array(query)
    scale = x.shape[2] ** -0.5 if scale is None else scale
    return pool(
        x, lengths, lambda b, X: scale * (X @ query[b]), {"x": x, "query": query, "scale": scale}
    )


def dot_attention_backward(
    tape: AttentionTape,
    dcontext: Array | None = None,
    dweights: Array | None = None,
    *,
    grads: Iterable[str] | None = None,
) -> AttentionGrads:
    """Gradients of dot-product attention; see `bptt.dot_attention_backward`."""
    x, query, scale = tape.arguments.values()
    dx, dquery = np.zeros_like(x), np.zeros_like(query)
    for b, n in enumerate(tape.lengths):
        X, de, direct = pool_grad(tape, b, dcontext, dweights)
        dx[:n, b] = direct + scale * np.outer(de, query[b])
        dquery[b] = scale * (de @ X)
    return some({"x": dx, "query": dquery}, grads)


def additive_attention_forward(
    x: Array,
    w_key: Array,
    w_score: Array,
    query: Array | None = None,
    w_query: Array | None = None,
    b: Array | None = None,
    *,
    lengths: Any = None,
) -> tuple[Array, Array, AttentionTape]:
    """Additive attention; see `bptt.additive_attention_forward`."""
    given = {"x": x, "w_key": w_key, "w_score": w_score, "query": query, "w_query": w_query, "b": b}
    p: dict[str, Any] = {name: None if a is None else np.array(a) for name, a in given.items()}
    return pool(p["x"], lengths, lambda k, X: hidden(p, k, X) @ p["w_score"], p)


def hidden(p: dict[str, Any], k: int, X: Array) -> Array:
    """tanh of the sum of keys, query and bias of sequence k, one row per step."""
    a = X @ p["w_key"].T
    if p["query"] is not None:
        a = a + p["w_query"] @ p["query"][k]
    if p["b"] is not None:
        a = a + p["b"]
    return np.asarray(np.tanh(a))


def additive_attention_backward(
    tape: AttentionTape,
    dcontext: Array | None = None,
    dweights: Array | None = None,
    *,
    grads: Iterable[str] | None = None,
) -> AttentionGrads:
    """Gradients of additive attention; see `bptt.additive_attention_backward`."""
    p = tape.arguments
    d: dict[str, Any] = {name: None if a is None else np.zeros_like(a) for name, a in p.items()}
    for k, n in enumerate(tape.lengths):
        if not n:
            continue
        X, de, direct = pool_grad(tape, k, dcontext, dweights)
        h = hidden(p, k, X)
        ds = np.outer(de, p["w_score"]) * (1 - h * h)
        d["x"][:n, k] = direct + ds @ p["w_key"]
        d["w_key"] += ds.T @ X
        d["w_score"] += de @ h
        if p["query"] is not None:
            d["query"][k] = ds.sum(0) @ p["w_query"]
            d["w_query"] += np.outer(ds.sum(0), p["query"][k])
        if p["b"] is not None:
            d["b"] += ds.sum(0)
    return some(d, grads)
