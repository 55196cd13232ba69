# SPDX-License-Identifier: MIT
"""Attention over the steps of sequences: dot product and additive, forward and backward.

Whole batches in NumPy. The twins in `bptt.reference` take one sequence after the other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._binding.marks import check_marks, marks
from .._grads import AttentionGrads
from .._types import Array, Wanted
from .._validate import (
    as_arrays,
    as_finite,
    as_lengths_within,
    as_names,
    as_real,
    check_shape,
    prepare,
)

__all__ = [
    "additive_attention_backward",
    "additive_attention_forward",
    "dot_attention_backward",
    "dot_attention_forward",
]


# --- what both kinds have in common


def check_attention(caller: str, x: Array, query: Array | None, lengths: ArrayLike | None) -> Array:
    """Check what a forward call is given; return (T, B): is step t inside sequence b?"""
    if x.ndim != 3:
        raise ValueError(f"{caller}: x has shape {x.shape}, expected three axes (T, B, H)")
    T, B, _ = x.shape
    if query is not None and (query.ndim != 2 or len(query) != B):
        raise ValueError(f"{caller}: query has shape {query.shape}, expected (B, Q) = ({B}, Q)")
    within = as_lengths_within(caller, lengths, T, B)
    return np.ones((T, B), bool) if within is None else np.arange(T)[:, None] < within


def _zero_unless(on: Array, array: Array) -> Array:
    """The array itself if all is on, else a copy; not a product, since NaN may stand where off."""
    return array if on.all() else np.where(on[..., None], array, 0)


def _sum(array: Array) -> Array:
    """Over the first axis, in float64: a float32 sum of many loses one digit after the other."""
    return np.asarray(array.sum(axis=0, dtype=np.float64).astype(array.dtype))


def _pool(x: Array, scores: Array, on: Array) -> tuple[Array, Array]:
    """Context (B, H) and weights (T, B), the softmax of each sequence's valid scores."""
    filled = on.any(axis=0)
    scores = np.where(on, scores, -np.inf)
    largest = np.where(filled, scores.max(axis=0, initial=-np.inf), 0)
    with np.errstate(over="ignore"):  # a difference beyond the range is -inf, of weight 0
        weights = np.exp(scores - largest)
    weights /= np.where(filled, _sum(weights), 1)
    weights.flags.writeable = False  # the tape refers to it
    return np.einsum("tb,tbh->bh", weights, x), weights


def _pool_grad(
    caller: str,
    tape: DotTape | AdditiveTape,
    dcontext: ArrayLike | None,
    dweights: ArrayLike | None,
) -> tuple[Array, Array]:
    """Gradients of the scores (T, B), and of x (T, B, H) by the direct path."""

    def given(name: str, value: ArrayLike | None, symbols: str, shape: tuple[int, ...]) -> Array:
        if value is None:
            return np.zeros(shape, tape.x.dtype)
        array = prepare(as_real(caller, name, value), tape.x.dtype)
        check_shape(caller, name, array, symbols, shape)
        return array

    a, dc = tape.weights, given("dcontext", dcontext, "(B, H)", tape.x.shape[1:])
    da = np.einsum("tbh,bh->tb", tape.x, dc) + given("dweights", dweights, "(T, B)", a.shape)
    da[~tape.on] = 0
    return a * (da - _sum(a * da)), a[:, :, None] * dc


def _wanted(caller: str, grads: Wanted, known: tuple[str, ...]) -> frozenset[str]:
    return frozenset(known) if grads is None else as_names(caller, "grads", grads, known)


def _check_tape(caller: str, tape: Any, kind: type[DotTape] | type[AdditiveTape]) -> None:
    if not isinstance(tape, kind):
        has, name = type(tape).__name__, caller.replace("backward", "forward")
        raise TypeError(f"{caller}: tape is of type {has}, expected the third result of {name}")
    check_marks(caller, tape.marks, x=tape.x, weights=tape.weights)


# --- dot product


class DotTape(NamedTuple):
    """What `dot_attention_backward` needs of one forward call."""

    x: Array  # (T, B, H), zero in the padding
    query: Array
    scale: float
    on: Array  # (T, B): is step t inside sequence b?
    weights: Array
    marks: tuple[int, ...]  # of x and the weights


def as_scale(caller: str, scale: float | None, size: int) -> float:
    if scale is None:
        return float(max(size, 1) ** -0.5)
    return as_finite(caller, "scale", scale)


def dot_attention_forward(
    x: ArrayLike,
    query: ArrayLike,
    *,
    scale: float | None = None,
    lengths: ArrayLike | None = None,
) -> tuple[Array, Array, DotTape]:
    """Dot-product attention of one query per sequence over its steps.

    e_t = scale query . x_t,   a = softmax(e),   context = sum_t a_t x_t

    Parameters
    ----------
    x : array_like, shape (T, B, H)
        T steps of B sequences, as of a recurrent layer; the tape refers to it (see `lstm_forward`).
    query : array_like, shape (B, H)
        What to look for, such as the last state.
    scale : float, optional
        1 / sqrt(H) if omitted (Vaswani et al.), as in PyTorch; 1 gives the form of Luong et al.
    lengths : array_like of int, shape (B,), optional
        Of each sequence, 0..T in any order; T if omitted. Steps beyond are never used.

    Returns
    -------
    context : ndarray, shape (B, H)
        0 where the length is 0.
    weights : ndarray, shape (T, B)
        Their sum over the steps of a sequence is 1; 0 beyond its length. Read-only, since the tape
        refers to it.
    tape : DotTape
        For `dot_attention_backward`.

    Raises
    ------
    ValueError
        If shapes disagree, a length is outside 0..T, or `scale` is not finite.
    TypeError
        If an array does not hold real numbers, or `lengths` integers.

    Notes
    -----
    Computes in float64 if x or query is float64, else in float32.

    References
    ----------
    Luong, Pham & Manning (2015), "Effective approaches to attention-based neural machine
    translation", EMNLP; the scale: Vaswani et al. (2017), "Attention is all you need", NeurIPS.

    Examples
    --------
    >>> from bptt.functional.attention import dot_attention_forward
    >>> context, weights, tape = dot_attention_forward([[[0.0, 1.0]], [[1.0, 0.0]]], [[0.0, 0.0]])
    >>> context, weights
    (array([[0.5, 0.5]]), array([[0.5],
           [0.5]]))
    """
    caller = "dot_attention_forward"
    arrays = as_arrays(caller, {"x": x, "query": query}, {})
    on = check_attention(caller, arrays[0], arrays[1], lengths)
    return _dot(caller, on, scale, *arrays)


def _dot(
    caller: str, on: Array, scale: float | None, x: Array, query: Array
) -> tuple[Array, Array, DotTape]:
    check_shape(caller, "query", query, "(B, H)", x.shape[1:])
    scale = as_scale(caller, scale, x.shape[2])
    x, query = _zero_unless(on, x), _zero_unless(np.any(on, axis=0), query.copy())
    # The query is scaled, not the product, which could overflow.
    context, weights = _pool(x, np.einsum("tbh,bh->tb", x, scale * query), on)
    return context, weights, DotTape(x, query, scale, on, weights, marks(x, weights))


def dot_attention_backward(
    tape: DotTape,
    dcontext: ArrayLike | None = None,
    dweights: ArrayLike | None = None,
    *,
    grads: Wanted = None,
) -> AttentionGrads:
    """Gradients of dot-product attention.

    With da_t = dcontext . x_t + dweights_t and de_t = a_t (da_t - sum_s a_s da_s):
    dx_t = a_t dcontext + scale de_t query,   dquery = scale sum_t de_t x_t

    Parameters
    ----------
    tape : DotTape
        From `dot_attention_forward`; it can be used again.
    dcontext : array_like, shape (B, H), optional
        Gradient of the loss with respect to the context; zeros if omitted. Not used where the
        length is 0.
    dweights : array_like, shape (T, B), optional
        Gradient of the loss with respect to the weights; zeros if omitted. Padding is never used.
    grads : collection of str, optional
        Names of the gradients to compute, as fields of `AttentionGrads`; all if omitted.

    Returns
    -------
    AttentionGrads
        x and query; x is exactly 0 beyond the lengths.

    Raises
    ------
    ValueError
        If a shape disagrees with the tape's, or x has changed since, as in `lstm_backward`.
    TypeError
        If tape is not one of `dot_attention_forward`, or an array does not hold real numbers.

    References
    ----------
    As in `dot_attention_forward`.
    """
    caller = "dot_attention_backward"
    _check_tape(caller, tape, DotTape)
    wanted = _wanted(caller, grads, ("x", "query"))
    de, dx = _pool_grad(caller, tape, dcontext, dweights)
    de *= tape.scale
    dquery = np.einsum("tb,tbh->bh", de, tape.x) if "query" in wanted else None
    if "x" not in wanted:
        return AttentionGrads(None, dquery)
    dx += de[:, :, None] * tape.query
    dx[~tape.on] = 0
    return AttentionGrads(dx, dquery)


# --- additive


class AdditiveTape(NamedTuple):
    """What `additive_attention_backward` needs of one forward call; copies of all but x.

    Attributes
    ----------
    hidden : ndarray, shape (T, B, A)
        tanh of the sum of key, query and bias.
    """

    x: Array  # (T, B, H), zero in the padding
    w_key: Array
    w_score: Array
    query: Array | None
    w_query: Array | None
    has_bias: bool
    on: Array  # (T, B): is step t inside sequence b?
    hidden: Array
    weights: Array
    marks: tuple[int, ...]  # of x and the weights


def additive_attention_forward(
    x: ArrayLike,
    w_key: ArrayLike,
    w_score: ArrayLike,
    query: ArrayLike | None = None,
    w_query: ArrayLike | None = None,
    b: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
) -> tuple[Array, Array, AdditiveTape]:
    """Additive attention of one query per sequence over its steps; also without a query.

    e_t = w_score . tanh(w_key x_t + w_query query + b),   a = softmax(e),   context = sum_t a_t x_t

    Parameters
    ----------
    x : array_like, shape (T, B, H)
        T steps of B sequences, as of a recurrent layer; the tape refers to it (see `lstm_forward`).
    w_key : array_like, shape (A, H)
    w_score : array_like, shape (A,)
    query : array_like, shape (B, Q), optional
        Such as the last state. Without it w_score is a learnt query, the same for all sequences.
    w_query : array_like, shape (A, Q), optional
        Given if and only if `query` is.
    b : array_like, shape (A,), optional
        Bias; none if omitted.
    lengths : array_like of int, shape (B,), optional
        Of each sequence, 0..T in any order; T if omitted. Steps beyond are never used.

    Returns
    -------
    context : ndarray, shape (B, H)
        0 where the length is 0.
    weights : ndarray, shape (T, B)
        Their sum over the steps of a sequence is 1; 0 beyond its length. Read-only, since the tape
        refers to it.
    tape : AdditiveTape
        For `additive_attention_backward`.

    Raises
    ------
    ValueError
        If shapes disagree, a length is outside 0..T, or one of query and w_query is missing.
    TypeError
        If an array does not hold real numbers, or `lengths` integers.

    Notes
    -----
    Computes in float64 if any array is float64, else in float32.

    References
    ----------
    Bahdanau, Cho & Bengio (2015), "Neural machine translation by jointly learning to align and
    translate", ICLR; without a query: Yang et al. (2016), "Hierarchical attention networks for
    document classification", NAACL.
    """
    caller = "additive_attention_forward"
    required = {"x": x, "w_key": w_key, "w_score": w_score}
    arrays = as_arrays(caller, required, {"query": query, "w_query": w_query, "b": b})
    on = check_attention(caller, arrays[0], arrays[3], lengths)
    return _additive(caller, on, *arrays)


def _additive(
    caller: str,
    on: Array,
    x: Array,
    w_key: Array,
    w_score: Array,
    query: Array | None,
    w_query: Array | None,
    b: Array | None,
) -> tuple[Array, Array, AdditiveTape]:
    if (query is None) != (w_query is None):
        given, missing = ("w_query", "query") if query is None else ("query", "w_query")
        raise ValueError(f"{caller}: {given} is given and {missing} is not, expected both or none")
    A, H = w_score.size, x.shape[2]
    check_shape(caller, "w_score", w_score, "(A,)", (A,))
    check_shape(caller, "w_key", w_key, "(A, H)", (A, H))
    x, w_key, w_score = _zero_unless(on, x), w_key.copy(), w_score.copy()
    hidden = x @ w_key.T
    if query is not None and w_query is not None:
        check_shape(caller, "w_query", w_query, "(A, Q)", (A, query.shape[1]))
        query, w_query = _zero_unless(np.any(on, axis=0), query.copy()), w_query.copy()
        hidden += query @ w_query.T
    if b is not None:
        check_shape(caller, "b", b, "(A,)", (A,))
        hidden += b
    np.tanh(hidden, out=hidden)
    context, weights = _pool(x, hidden @ w_score, on)
    kept = (x, w_key, w_score, query, w_query, b is not None, on, hidden, weights)
    return context, weights, AdditiveTape(*kept, marks(x, weights))


def additive_attention_backward(
    tape: AdditiveTape,
    dcontext: ArrayLike | None = None,
    dweights: ArrayLike | None = None,
    *,
    grads: Wanted = None,
) -> AttentionGrads:
    """Gradients of additive attention.

    With n_t the value of tanh, da_t = dcontext . x_t + dweights_t, de_t = a_t (da_t - sum_s a_s
    da_s) and ds_t = de_t w_score (1 - n_t^2): dx_t = a_t dcontext + w_key^T ds_t; all other
    gradients are sums over steps.

    Parameters
    ----------
    tape : AdditiveTape
        From `additive_attention_forward`; it can be used again.
    dcontext : array_like, shape (B, H), optional
        Gradient of the loss with respect to the context; zeros if omitted. Not used where the
        length is 0.
    dweights : array_like, shape (T, B), optional
        Gradient of the loss with respect to the weights; zeros if omitted. Padding is never used.
    grads : collection of str, optional
        Names of the gradients to compute, as fields of `AttentionGrads`; all if omitted.

    Returns
    -------
    AttentionGrads
        x, query, w_key, w_score, w_query and b, shaped like the arguments of
        `additive_attention_forward`; x is exactly 0 beyond the lengths, what was omitted is None.

    Raises
    ------
    ValueError
        If a shape disagrees with the tape's, or x has changed since, as in `lstm_backward`.
    TypeError
        If tape is not one of `additive_attention_forward`, or an array does not hold real numbers.

    References
    ----------
    As in `additive_attention_forward`.
    """
    caller = "additive_attention_backward"
    _check_tape(caller, tape, AdditiveTape)
    wanted = _wanted(caller, grads, AttentionGrads._fields)
    x, (T, B, H), A = tape.x, tape.x.shape, len(tape.w_score)
    de, dx = _pool_grad(caller, tape, dcontext, dweights)
    ds = de[:, :, None] * tape.w_score * (1 - tape.hidden * tape.hidden)
    d: dict[str, Any] = dict.fromkeys(AttentionGrads._fields)
    if "x" in wanted:
        dx += ds @ tape.w_key
        dx[~tape.on] = 0
        d["x"] = dx
    if "w_key" in wanted:
        d["w_key"] = ds.reshape(T * B, A).T @ x.reshape(T * B, H)
    if "w_score" in wanted:
        d["w_score"] = de.reshape(T * B) @ tape.hidden.reshape(T * B, A)
    per_sequence = _sum(ds)
    if "b" in wanted and tape.has_bias:
        d["b"] = _sum(per_sequence)
    if tape.query is not None and tape.w_query is not None:
        if "query" in wanted:
            d["query"] = per_sequence @ tape.w_query
        if "w_query" in wanted:
            d["w_query"] = per_sequence.T @ tape.query
    return AttentionGrads(**d)
