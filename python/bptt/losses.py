# SPDX-License-Identifier: MIT
"""Losses: each returns its value, a float, and its gradient with respect to the prediction.

Values are means over all elements (`cross_entropy`: over all positions that count), the default in
PyTorch. Gradients are float32 for float32 predictions, else float64. The mean over no elements is
0, with gradient 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._types import Array
from ._validate import as_array, as_count, as_own_float
from ._words import shown

__all__ = ["binary_cross_entropy", "cross_entropy", "mse", "softmax"]


def _real_pair(caller: str, name: str, value: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    """Prediction and target, equal in shape; the prediction decides the dtype."""
    prediction, target = as_own_float(caller, name, value), as_own_float(caller, "target", target)
    if target.shape != prediction.shape:
        raise ValueError(
            f"{caller}: target has shape {target.shape}, "
            f"expected the shape of {name} = {prediction.shape}"
        )
    return prediction, target.astype(prediction.dtype)


def mse(prediction: ArrayLike, target: ArrayLike) -> tuple[float, Array]:
    """Mean squared error, mean((prediction - target)^2).

    Parameters
    ----------
    prediction, target : array_like
        Arrays of the same shape; they are not broadcast.

    Returns
    -------
    value : float
        The loss, in squared units of the prediction.
    grad : ndarray, shape of `prediction`
        The gradient 2 (prediction - target) / n, with n the number of elements.

    Raises
    ------
    ValueError
        If the shapes differ.
    TypeError
        If an argument does not hold real numbers.

    Examples
    --------
    >>> from bptt.losses import mse
    >>> mse([1.0, 2.0], [1.0, 4.0])
    (2.0, array([ 0., -2.]))
    """
    prediction, target = _real_pair("mse", "prediction", prediction, target)
    error = prediction - target
    n = max(error.size, 1)
    return float(np.sum(error * error) / n), error * (2 / n)


def cross_entropy(
    logits: ArrayLike, target: ArrayLike, *, ignore_index: int = -100
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

    Returns
    -------
    value : float
        The loss in nats; divide by log(2) for bits.
    grad : ndarray, shape (..., C)
        The gradient (softmax(logits) - onehot(target)) / n, with n the number of positions that
        count.

    Raises
    ------
    ValueError
        If the shapes disagree, or a target is neither a class nor `ignore_index`.
    TypeError
        If `logits` does not hold real numbers or has a mask, or `target` or `ignore_index` are not
        integers.

    Examples
    --------
    >>> from bptt.losses import cross_entropy
    >>> cross_entropy([[0.0, 0.0], [7.0, 1.0]], [0, -100])
    (0.6931471805599453, array([[-0.5,  0.5],
           [ 0. ,  0. ]]))
    """
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
        raise TypeError(
            f"cross_entropy: ignore_index is {shown(ignore_index)}, expected an integer"
        )
    logits = as_own_float("cross_entropy", "logits", logits)
    target = as_array("cross_entropy", "target", target)
    if logits.ndim == 0 or target.shape != logits.shape[:-1]:
        raise ValueError(
            f"cross_entropy: target has shape {target.shape}, "
            f"expected the shape {logits.shape} of logits without the last axis"
        )
    if target.dtype.kind not in "iu" and target.size:
        raise TypeError(f"cross_entropy: target has dtype {target.dtype}, expected integers")
    counts = target != ignore_index
    classes = target[counts].astype(np.intp)
    if classes.size and (classes.min() < 0 or classes.max() >= logits.shape[-1]):
        raise ValueError(
            f"cross_entropy: target has values {classes.min()}..{classes.max()}, "
            f"expected 0..C-1 = 0..{logits.shape[-1] - 1} or ignore_index = {ignore_index}"
        )
    grad = np.zeros_like(logits)
    if not classes.size:
        return 0.0, grad
    rows, picked = np.arange(classes.size), logits[counts]
    with np.errstate(over="ignore"):  # a difference may become -inf, with probability 0
        picked -= picked.max(axis=-1, keepdims=True)
    p = np.exp(picked)
    total = p.sum(axis=-1, keepdims=True)
    value = np.mean(np.log(total[:, 0]) - picked[rows, classes])
    p /= total
    p[rows, classes] -= 1
    grad[counts] = p / classes.size
    return float(value), grad


def binary_cross_entropy(logits: ArrayLike, target: ArrayLike) -> tuple[float, Array]:
    """Cross-entropy of the sigmoid of `logits`: mean of -t log sig(z) - (1 - t) log(1 - sig(z)).

    Parameters
    ----------
    logits : array_like
        The log-odds z that the target is 1.
    target : array_like, shape of `logits`
        The labels or probabilities t, 0..1; they are not broadcast.

    Returns
    -------
    value : float
        The loss in nats.
    grad : ndarray, shape of `logits`
        The gradient (sig(z) - t) / n, with n the number of elements.

    Raises
    ------
    ValueError
        If the shapes differ, or a target is outside 0..1.
    TypeError
        If an argument does not hold real numbers.

    Examples
    --------
    >>> from bptt.losses import binary_cross_entropy
    >>> binary_cross_entropy([0.0, 1000.0], [0, 1])
    (0.34657359027997264, array([0.25, 0.  ]))
    """
    z, t = _real_pair("binary_cross_entropy", "logits", logits, target)
    if not np.all((t >= 0) & (t <= 1)):
        raise ValueError(
            f"binary_cross_entropy: target has values {t.min()}..{t.max()}, expected 0..1"
        )
    n, e = max(z.size, 1), np.exp(-np.abs(z))
    value = np.sum(np.maximum(z, 0) - z * t + np.log1p(e)) / n
    # sig(z) - t over a common denominator, without cancellation where the sigmoid saturates.
    grad = np.where(z >= 0, (1 - t) - t * e, (1 - t) * e - t) / (1 + e)
    return float(value), grad / n


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
    axis = as_count("softmax", "axis", axis, -z.ndim, z.ndim - 1)
    if not z.size:
        return z.copy()
    with np.errstate(over="ignore"):  # a difference may become -inf, with probability 0
        p: Array = np.exp(z - z.max(axis=axis, keepdims=True))
    p /= p.sum(axis=axis, keepdims=True)
    return p
