# SPDX-License-Identifier: MIT
"""Losses: each returns its value, a float, and its gradient with respect to the prediction.

Values are means over all elements (`cross_entropy`: over all positions that count), the default in
PyTorch. Gradients are float32 for float32 predictions, else float64. The mean over no elements is
0, with gradient 0.

Elements beyond `lengths` and those where `mask` is False do not count: they are not read, and have
gradient 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._counting import as_weights, both, chosen, counting, placed
from ._types import Array, Maybe
from ._validate import (
    as_array,
    as_count,
    as_own_float,
    as_scalar,
)
from ._words import shown

IGNORED = -100  # the class that does not count, as in PyTorch

__all__ = ["binary_cross_entropy", "cross_entropy", "mse", "quantile_loss", "softmax"]


def mse(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    lengths: Maybe = None,
    mask: Maybe = None,
    weight: Maybe = None,
    batch_first: bool = False,
) -> tuple[float, Array]:
    """Mean squared error, mean((prediction - target)^2).

    Parameters
    ----------
    prediction, target : array_like
        Arrays of the same shape; they are not broadcast.
    lengths : array_like of int, shape (B,), optional
        The number of steps of each sequence, where the first axes are (T, B), or (B, T) with
        `batch_first`. Later steps do not count.
    mask : array_like of bool, optional
        True where an element counts, in the shape of the first axes of `prediction`.
    weight : array_like, optional
        Weights w, 0 or more, that broadcast to the shape of `prediction`: the loss is
        sum(w (prediction - target)^2) / sum(w), as in PyTorch. For one weight for each of B samples
        (B, ...) write ``w[:, None]``.
    batch_first : bool, optional
        How `lengths` reads the axes.

    Returns
    -------
    value : float
        The loss, in squared units of the prediction.
    grad : ndarray, shape of `prediction`
        The gradient 2 (prediction - target) / n, with n the number of elements that count; with
        weights 2 w (prediction - target) / sum(w).

    Raises
    ------
    ValueError
        If shapes disagree, a length is outside 0..T, or a weight is below 0.
    TypeError
        If an argument does not hold numbers of its kind.

    Examples
    --------
    >>> from bptt.losses import mse
    >>> mse([1.0, 2.0], [1.0, 4.0])
    (2.0, array([ 0., -2.]))
    >>> mse([[1.0], [2.0]], [[3.0], [5.0]], lengths=[1])  # one sequence, with one step of two
    (4.0, array([[-4.],
           [ 0.]]))
    """
    prediction, target = _real_pair("mse", "prediction", prediction, target)
    counts = counting("mse", "prediction", prediction.shape, lengths, mask, batch_first)
    weights = as_weights("mse", "weight", weight, prediction.shape, prediction.dtype)

    error, w = chosen(prediction, counts) - chosen(target, counts), chosen(weights, counts)
    if w is None:
        n = max(error.size, 1)
        return float(np.sum(error * error) / n), placed(error * (2 / n), counts, prediction)
    n = float(w.sum(dtype=np.float64)) or 1.0
    weighted = w * error
    return float(np.sum(weighted * error) / n), placed(weighted * (2 / n), counts, prediction)


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    ignore_index: int = IGNORED,
    lengths: Maybe = None,
    mask: Maybe = None,
    weight: Maybe = None,
    sample_weight: Maybe = None,
    batch_first: bool = False,
) -> tuple[float, Array]:
    """Cross-entropy of the softmax of `logits`: mean of -log softmax(logits)[target].

    Parameters
    ----------
    logits : array_like, shape (..., C)
        Unnormalised log-probabilities of C classes.
    target : array_like of int, shape (...)
        The right class, 0..C-1, at each position.
    ignore_index : int, optional
        Positions with this target do not count: their logits are not read, and have gradient 0.
    lengths : array_like of int, shape (B,), optional
        The number of steps of each sequence, where the first axes are (T, B), or (B, T) with
        `batch_first`. Later positions do not count; their targets may be anything.
    mask : array_like of bool, optional
        True where a position counts, in the shape of the first axes of `target`.
    weight : array_like, shape (C,), optional
        A weight for each class, 0 or more: the mean is sum(w[target] loss) / sum(w[target]) over
        the positions, as in PyTorch.
    sample_weight : array_like, optional
        Weights, 0 or more, that broadcast to the shape of `target`, such as (B,): they multiply
        those of the classes.
    batch_first : bool, optional
        How `lengths` reads the axes.

    Returns
    -------
    value : float
        The loss in nats; divide by log(2) for bits.
    grad : ndarray, shape (..., C)
        The gradient (softmax(logits) - onehot(target)) / n, with n the number of positions that
        count; with weights w (softmax(logits) - onehot(target)) / sum(w).

    Raises
    ------
    ValueError
        If the shapes disagree, or a target is neither a class nor `ignore_index`; if a length is
        outside 0..T, or a weight is below 0.
    TypeError
        If `logits` does not hold real numbers or has a mask, or `target` or `ignore_index` are not
        integers; if another argument does not hold numbers of its kind.

    Examples
    --------
    >>> from bptt.losses import cross_entropy
    >>> cross_entropy([[0.0, 0.0], [7.0, 1.0]], [0, -100])
    (0.6931471805599453, array([[-0.5,  0.5],
           [ 0. ,  0. ]]))
    """
    caller = "cross_entropy"
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
        raise TypeError(f"{caller}: ignore_index is {shown(ignore_index)}, expected an integer")
    logits = as_own_float(caller, "logits", logits)
    target = as_array(caller, "target", target)
    if logits.ndim == 0 or target.shape != logits.shape[:-1]:
        raise ValueError(
            f"{caller}: target has shape {target.shape}, "
            f"expected the shape {logits.shape} of logits without the last axis"
        )
    if target.dtype.kind not in "iu" and target.size:
        raise TypeError(f"{caller}: target has dtype {target.dtype}, expected integers")
    C, dtype = logits.shape[-1], logits.dtype
    counts = target != ignore_index
    within = counting(caller, "target", target.shape, lengths, mask, batch_first)
    if within is not None:
        counts = both(counts, within)
    classes = target[counts].astype(np.intp)
    if classes.size and (classes.min() < 0 or classes.max() >= C):
        raise ValueError(
            f"{caller}: target has values {classes.min()}..{classes.max()}, "
            f"expected 0..C-1 = 0..{C - 1} or ignore_index = {ignore_index}"
        )
    of_classes = as_weights(caller, "weight", weight, (C,), dtype, exact=True)
    of_samples = as_weights(caller, "sample_weight", sample_weight, target.shape, dtype)
    if not classes.size:
        return 0.0, np.zeros_like(logits)
    rows, every = np.arange(classes.size), bool(counts.all())
    p = logits.reshape(-1, C) if every else logits[counts]
    with np.errstate(over="ignore"):  # a difference may become -inf, with probability 0
        p = np.subtract(p, p.max(axis=-1, keepdims=True), out=None if every else p)
    each = -p[rows, classes]
    np.exp(p, out=p)
    total = p.sum(axis=-1, keepdims=True)
    each += np.log(total[:, 0])
    p /= total
    p[rows, classes] -= 1
    if of_classes is None and of_samples is None:
        value = float(np.mean(each))
        p /= classes.size
    else:
        w = np.ones(classes.size, dtype) if of_classes is None else of_classes[classes]
        w = w if of_samples is None else w * of_samples[counts]
        w = w / (float(w.sum(dtype=np.float64)) or 1.0)
        heavy = w > 0  # a position of weight 0 does not count, even where its loss is infinite
        value = float(np.sum(w[heavy] * each[heavy]))
        p *= w[:, None]
    return value, p.reshape(logits.shape) if every else placed(p, counts, logits)


def binary_cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    lengths: Maybe = None,
    mask: Maybe = None,
    weight: Maybe = None,
    batch_first: bool = False,
) -> tuple[float, Array]:
    """Cross-entropy of the sigmoid of `logits`: mean of -t log sig(z) - (1 - t) log(1 - sig(z)).

    Parameters
    ----------
    logits : array_like
        The log-odds z that the target is 1.
    target : array_like, shape of `logits`
        The labels or probabilities t, 0..1; they are not broadcast.
    lengths : array_like of int, shape (B,), optional
        The number of steps of each sequence, where the first axes are (T, B), or (B, T) with
        `batch_first`. Later steps do not count; their targets may be anything.
    mask : array_like of bool, optional
        True where an element counts, in the shape of the first axes of `logits`.
    weight : array_like, optional
        Weights, 0 or more, that broadcast to the shape of `logits`: they multiply each element's
        loss. The sum is divided by the number of elements, as in PyTorch, not by the weights.
    batch_first : bool, optional
        How `lengths` reads the axes.

    Returns
    -------
    value : float
        The loss in nats.
    grad : ndarray, shape of `logits`
        The gradient (sig(z) - t) / n, with n the number of elements that count, times the weights.

    Raises
    ------
    ValueError
        If shapes disagree, a target is outside 0..1, a length is outside 0..T, or a weight is below
        0.
    TypeError
        If an argument does not hold numbers of its kind.

    Examples
    --------
    >>> from bptt.losses import binary_cross_entropy
    >>> binary_cross_entropy([0.0, 1000.0], [0, 1])
    (0.34657359027997264, array([0.25, 0.  ]))
    """
    caller = "binary_cross_entropy"
    logits, target = _real_pair(caller, "logits", logits, target)
    counts = counting(caller, "logits", logits.shape, lengths, mask, batch_first)
    w = chosen(as_weights(caller, "weight", weight, logits.shape, logits.dtype), counts)
    z, t = chosen(logits, counts), chosen(target, counts)
    if not np.all((t >= 0) & (t <= 1)):
        raise ValueError(f"{caller}: target has values {t.min()}..{t.max()}, expected 0..1")
    n, e = max(z.size, 1), np.exp(-np.abs(z))
    each = np.maximum(z, 0) - z * t + np.log1p(e)
    # sig(z) - t over a common denominator, without cancellation where the sigmoid saturates.
    grad = np.where(z >= 0, (1 - t) - t * e, (1 - t) * e - t) / (1 + e)
    if w is not None:
        each, grad = w * each, w * grad
    return float(np.sum(each) / n), placed(grad / n, counts, logits)


def quantile_loss(
    prediction: ArrayLike,
    target: ArrayLike,
    quantiles: ArrayLike,
    *,
    lengths: Maybe = None,
    mask: Maybe = None,
    weight: Maybe = None,
    batch_first: bool = False,
) -> tuple[float, Array]:
    """Pinball loss: mean of max(q (t - y), (q - 1) (t - y)), lowest where y is the q-quantile of t.

    Parameters
    ----------
    prediction : array_like, shape (..., Q)
        A prediction y for each quantile.
    target : array_like, shape (...)
        The values t.
    quantiles : array_like, shape (Q,)
        The quantiles q, between 0 and 1. With 0.5 alone, the loss is half the mean absolute error.
    lengths, mask, weight, batch_first
        As in `mse`, for the elements of `target`.

    Returns
    -------
    value : float
        The loss, in units of the prediction.
    grad : ndarray, shape of `prediction`
        The gradient -q / n where y < t, (1 - q) / n where y > t, and 0 where they are equal, with
        n the number of elements of `prediction` that count.

    Raises
    ------
    ValueError
        If shapes disagree, a quantile is not between 0 and 1, a length is outside 0..T, or a weight
        is below 0.
    TypeError
        If an argument does not hold numbers of its kind.

    References
    ----------
    Koenker & Bassett (1978), "Regression quantiles", Econometrica 46(1), 33-50.

    Examples
    --------
    >>> from bptt.losses import quantile_loss
    >>> quantile_loss([[1.0, 4.0]], [3.0], quantiles=[0.25, 0.75])
    (0.375, array([[-0.125,  0.125]]))
    """
    caller = "quantile_loss"
    prediction = as_own_float(caller, "prediction", prediction)
    target = as_own_float(caller, "target", target).astype(prediction.dtype)
    q = as_quantiles(caller, quantiles).astype(prediction.dtype)
    if prediction.shape != (*target.shape, len(q)):
        raise ValueError(
            f"{caller}: prediction has shape {prediction.shape}, expected the shape of target and "
            f"the number of quantiles = {(*target.shape, len(q))}"
        )
    counts = counting(caller, "target", target.shape, lengths, mask, batch_first)
    w = chosen(as_weights(caller, "weight", weight, target.shape, prediction.dtype), counts)
    error = chosen(target, counts)[..., None] - chosen(prediction, counts)
    n = max(error.size, 1)
    slope = q - (error < 0)
    slope *= error != 0
    if w is not None:
        n, slope = len(q) * (float(w.sum(dtype=np.float64)) or 1.0), slope * w[..., None]
    if np.isnan(error).any():
        slope = np.where(np.isnan(error), error, slope)
    error *= slope
    if w is not None:
        error[slope == 0] = 0  # inf times a weight of 0
    value = float(error.sum() / n)
    slope *= -1 / n
    return value, placed(slope, counts, prediction)


def as_quantiles(caller: str, value: ArrayLike) -> Array:
    """Check quantiles; return them as an array."""
    q = as_own_float(caller, "quantiles", value)
    if q.ndim != 1 or not q.size:
        raise ValueError(f"{caller}: quantiles is {shown(value)}, expected a list of numbers")
    if not np.all((q > 0) & (q < 1)):
        raise ValueError(f"{caller}: quantiles is {shown(value)}, expected numbers between 0 and 1")
    return q


def softmax(logits: ArrayLike, axis: int = -1) -> Array:
    """Probabilities from unnormalised log-probabilities: exp(z) / sum(exp(z)).

    Parameters
    ----------
    logits : array_like
        The log-probabilities z, such as a model trained with `cross_entropy` returns.
    axis : int, optional
        The axis of the classes.

    Returns
    -------
    ndarray, shape of `logits`
        Float32 for float32 logits, else float64; it sums to 1 along `axis`, without overflow.

    Raises
    ------
    ValueError
        If `logits` has no such axis.
    TypeError
        If `logits` does not hold real numbers, or `axis` is no whole number.

    Examples
    --------
    >>> from bptt import softmax
    >>> softmax([[0.0, 0.0], [1000.0, 0.0]])
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    z = as_own_float("softmax", "logits", logits)
    if not z.ndim:
        raise ValueError("softmax: logits has shape (), expected at least one axis")
    axis = as_count("softmax", "axis", axis, -z.ndim, z.ndim - 1)
    if not z.size:
        return z.copy()
    with np.errstate(over="ignore"):  # a difference may become -inf, with probability 0
        p: Array = np.exp(z - z.max(axis=axis, keepdims=True))
    p /= p.sum(axis=axis, keepdims=True)
    return p


def loss_of(
    caller: str, loss: Any, *arguments: Any, lengths: Array | None = None, batch_first: bool = False
) -> tuple[float, Any]:
    """Call a user's loss; `lengths` are those of a prediction with a time axis."""
    more: dict[str, Any] = {} if lengths is None else {"lengths": lengths}
    if more and batch_first:
        more["batch_first"] = True
    result = loss(*arguments, **more)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise TypeError(
            f"{caller}: loss returns {shown(result)}, expected the loss and its gradient"
        )
    return as_scalar(caller, "value of loss", result[0]), result[1]


# --- arguments ------------------------------------------------------------------------------------


def _real_pair(caller: str, name: str, value: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    """Prediction and target, equal in shape; the prediction decides the dtype."""
    prediction = as_own_float(caller, name, value)
    target = as_own_float(caller, "target", target)
    if target.shape != prediction.shape:
        raise ValueError(
            f"{caller}: target has shape {target.shape}, "
            f"expected the shape of {name} = {prediction.shape}"
        )
    return prediction, target.astype(prediction.dtype)
