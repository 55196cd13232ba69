# SPDX-License-Identifier: MIT
"""Bounds of the decay from the recurrent matrix alone, and the horizon of a gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._activations import as_activation, steepest
from .._types import Activation, Array
from .._validate import as_flag, as_real
from .products import logs

__all__ = ["decay_bound", "memory_horizon", "spectral_radius"]


def spectral_radius(w_hh: ArrayLike) -> float:
    """Largest absolute eigenvalue of a recurrent matrix.

    It is the limit of ||w_hh^k||^(1/k). If it is below 1, a linear RNN forgets, as does any RNN
    near a state where its units have slope 1. The norms of the first powers can be larger, up to
    `decay_bound`.

    Parameters
    ----------
    w_hh : array_like, shape (H, H)
        The recurrent matrix of an RNN, or the rows of one gate of another cell.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If w_hh is not square, or holds a value that is not finite.
    TypeError
        If it does not hold real numbers.

    References
    ----------
    Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks",
    ICML.

    Examples
    --------
    >>> import bptt
    >>> bptt.spectral_radius([[0.0, 2.0], [-0.5, 0.0]])
    1.0
    """
    w = _square("spectral_radius", w_hh)
    return float(np.abs(np.linalg.eigvals(w)).max(initial=0))


def decay_bound(w_hh: ArrayLike, activation: Activation = "tanh", k: ArrayLike = 1) -> Array:
    """Upper bound of ||dh_t / dh_{t-k}|| of an RNN, by lag: (max |phi'| sigma_max(w_hh))^k.

    Each factor diag(phi') w_hh of the product has at most this norm for k = 1. If it is below 1,
    gradients must vanish; if not, they may vanish or explode. `jacobian_norms` measures the norms
    on data.

    Parameters
    ----------
    w_hh : array_like, shape (H, H)
        The recurrent matrix of an RNN without leak.
    activation : str or tuple
        The activation phi, as in `rnn_forward`. The largest slope of the logistic sigmoid is 1/4,
        of tanh and relu 1.
    k : array_like
        Lags, in steps.

    Returns
    -------
    ndarray, shape of `k`, float64
        The bound; inf if it overflows.

    Raises
    ------
    ValueError
        If w_hh is not square or not finite, the activation is unknown, or a lag is negative.
    TypeError
        If an array does not hold real numbers.

    References
    ----------
    Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks",
    ICML, section 2.1.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> bptt.decay_bound(2 * np.eye(3), "sigmoid", [0, 1, 4])
    array([1.    , 0.5   , 0.0625])
    """
    caller = "decay_bound"
    w = _square(caller, w_hh)
    slope = steepest(as_activation(caller, "activation", activation))
    lags = as_real(caller, "k", k).astype(float)
    if not (lags >= 0).all():
        raise ValueError(f"{caller}: k has minimum {lags.min()}, expected 0 or more")
    base = slope * np.linalg.norm(w, 2) if w.size else 0.0
    with np.errstate(over="ignore"):
        return np.asarray(float(base) ** lags)


def memory_horizon(norms: ArrayLike, *, reverse: bool = False) -> Any:
    """Number of steps back after which a gradient has fallen to 1 % of its norm at lag 1.

    Parameters
    ----------
    norms : array_like, shape (T,) or (T, ...)
        Norm of a gradient by step, in the order of time: from `jacobian_norms`, or of dL/dh_t for a
        loss at the end. Lag 0 is the last step with a nonzero norm.
    reverse : bool
        True: lags count from the first step on.

    Returns
    -------
    float, or ndarray of shape (...)
        The lag where the norm first falls to 0.01 of its value at lag 1, interpolated linearly in
        its logarithm. inf if it never does; if it drops to exactly 0, the last lag with a nonzero
        norm; 0 if the norm is 0 at lag 1; NaN if there is no lag 1, or a norm on the way is NaN or
        infinite.

    Raises
    ------
    ValueError
        If `norms` is a number, or one of them is negative.
    TypeError
        If it does not hold real numbers.

    Examples
    --------
    0.9^k falls to 0.01 * 0.9 after 1 + log(0.01) / log(0.9) steps:

    >>> import numpy as np, bptt
    >>> round(bptt.memory_horizon(0.9 ** np.arange(100)[::-1]), 2)
    44.71
    """
    caller = "memory_horizon"
    a = as_real(caller, "norms", norms).astype(float)
    if a.ndim == 0:
        raise ValueError(f"{caller}: norms is a number, expected shape (T,) or (T, ...)")
    if (a < 0).any():
        raise ValueError(f"{caller}: norms has minimum {np.nanmin(a)}, expected 0 or more")
    by_lag = a if as_flag(caller, "reverse", reverse) else a[::-1]
    if a.ndim == 1:
        return _horizon(by_lag)
    columns = by_lag.reshape(len(a), math.prod(a.shape[1:])).T
    return np.array([_horizon(column) for column in columns]).reshape(a.shape[1:])


def _horizon(norms: Array) -> float:
    nonzero = np.flatnonzero(norms != 0)
    if not nonzero.size or nonzero[0] + 1 >= len(norms):
        return float("nan")
    norms = norms[nonzero[0] :]
    if norms[1] == 0:
        return 0.0
    if not np.isfinite(norms[1]):
        return float("nan")
    level = logs(norms[1:]) - logs(0.01 * norms[1])  # positive until the horizon
    below = np.flatnonzero(~(level > 0))
    if not below.size:
        return float("inf")
    i = int(below[0])
    if np.isnan(level[i]) or np.isposinf(level[i - 1]):
        return float("nan")
    above = level[i - 1]
    return i + (0.0 if np.isneginf(level[i]) else float(above / (above - level[i])))


def _square(caller: str, w_hh: ArrayLike) -> Array:
    w = as_real(caller, "w_hh", w_hh).astype(float)
    if w.ndim != 2 or w.shape[0] != w.shape[1]:
        raise ValueError(f"{caller}: w_hh has shape {w.shape}, expected (H, H)")
    if not np.isfinite(w).all():
        raise ValueError(f"{caller}: w_hh has values that are not finite, expected numbers")
    return w
