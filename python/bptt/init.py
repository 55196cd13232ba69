# SPDX-License-Identifier: MIT
"""Initialisers: functions that fill arrays in place.

`spectral` and `nearest_orthogonal` modify an array that another initialiser has filled.

`rng` is a `numpy.random.Generator`, a seed for a new one, or None for a random seed. `gates` is the
number of gates that are stacked in the rows of a weight (4 in an LSTM, 3 in a GRU): the rows of
each gate are initialised as a matrix of their own.

Examples
--------
>>> from bptt import init
>>> from bptt.layers import LSTM
>>> lstm = LSTM(3, 5, seed=0)
>>> init.orthogonal(lstm.parameters["weight_hh_l0"], 0, gates=4)
>>> init.forget_bias(lstm, 1.0)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ._types import Array, Seed
from ._validate import (
    as_array,
    as_between,
    as_count,
    as_finite,
    as_generator,
    as_positive,
    check_mapping,
)
from ._words import listed, shown
from .layers.base import Layer
from .layers.cells import LSTM1997
from .layers.recurrent import Recurrent
from .trace.nonfinite import check_finite

__all__ = [
    "chrono",
    "forget_bias",
    "identity",
    "irnn",
    "nearest_orthogonal",
    "normal",
    "orthogonal",
    "spectral",
    "xavier_normal",
    "xavier_uniform",
]


# --- one weight -----------------------------------------------------------------------------------


def _check_weight(caller: str, w: Array, name: str = "w") -> None:
    """Raise unless the array can be filled in place."""
    as_array(caller, name, w if isinstance(w, np.ma.MaskedArray) else 0)
    if not isinstance(w, np.ndarray) or w.dtype.kind != "f":
        has = f"dtype {w.dtype}" if isinstance(w, np.ndarray) else f"type {type(w).__name__}"
        raise TypeError(f"{caller}: {name} has {has}, expected a floating-point array")
    if not w.flags.writeable:
        raise ValueError(f"{caller}: {name} is read-only, expected a writable array")


def _blocks(caller: str, w: Array, gates: int) -> list[Array]:
    """Views of the rows of each gate."""
    _check_weight(caller, w)
    gates = as_count(caller, "gates", gates, 1)
    if w.ndim != 2 or len(w) % gates:
        raise ValueError(
            f"{caller}: w has shape {w.shape}, expected (gates * rows, columns) with gates "
            f"= {gates}"
        )
    return np.split(w, gates)


def normal(w: Array, rng: Seed = None, std: float = 1.0, mean: float = 0.0) -> None:
    """Fill an array with random numbers from N(mean, std^2).

    Parameters
    ----------
    w : ndarray
        The array, of any shape.
    rng : int, numpy.random.Generator or None, optional
        Source of random numbers.
    std, mean : float, optional
        Standard deviation and mean.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt import init
    >>> w = np.empty(10_000)
    >>> init.normal(w, rng=0, std=0.5)
    >>> round(float(w.std()), 1)
    0.5
    """
    caller = "normal"
    _check_weight(caller, w)
    std, mean = as_between(caller, "std", std, 0), as_finite(caller, "mean", mean)
    w[...] = as_generator(caller, "rng", rng).normal(mean, std, w.shape)


def xavier_uniform(w: Array, rng: Seed = None, gain: float = 1.0, *, gates: int = 1) -> None:
    """Fill with random numbers from U(-a, a), a = gain sqrt(6 / (rows + columns)).

    Parameters
    ----------
    w : ndarray, shape (gates * rows, columns)
        The weight.
    rng : int, numpy.random.Generator or None, optional
        Source of random numbers.
    gain : float, optional
        Factor of the bound a.
    gates : int, optional
        Number of gates stacked in the rows.

    References
    ----------
    Glorot & Bengio (2010), AISTATS, PMLR 9.
    """
    caller = "xavier_uniform"
    rng, gain = as_generator(caller, "rng", rng), as_finite(caller, "gain", gain)
    for block in _blocks(caller, w, gates):
        bound = abs(gain) * np.sqrt(6 / max(sum(block.shape), 1))
        block[...] = rng.uniform(-bound, bound, block.shape)


def xavier_normal(w: Array, rng: Seed = None, gain: float = 1.0, *, gates: int = 1) -> None:
    """Fill with random numbers from N(0, s^2), s = gain sqrt(2 / (rows + columns)).

    Parameters
    ----------
    w : ndarray, shape (gates * rows, columns)
        The weight.
    rng : int, numpy.random.Generator or None, optional
        Source of random numbers.
    gain : float, optional
        Factor of the standard deviation s.
    gates : int, optional
        Number of gates stacked in the rows.

    References
    ----------
    Glorot & Bengio (2010), AISTATS, PMLR 9.
    """
    rng, gain = as_generator("xavier_normal", "rng", rng), as_finite("xavier_normal", "gain", gain)
    for block in _blocks("xavier_normal", w, gates):
        std = abs(gain) * float(np.sqrt(2 / max(sum(block.shape), 1)))
        block[...] = rng.normal(0, std, block.shape)


def orthogonal(w: Array, rng: Seed = None, gain: float = 1.0, *, gates: int = 1) -> None:
    """Fill the rows of each gate with `gain` times a random matrix of orthonormal columns or rows.

    The matrix is uniformly distributed: Q of the QR decomposition of a Gaussian matrix, with R's
    diagonal positive.

    Parameters
    ----------
    w : ndarray, shape (gates * rows, columns)
        The weight.
    rng : int, numpy.random.Generator or None, optional
        Source of random numbers.
    gain : float, optional
        The one value of all singular values of the result.
    gates : int, optional
        Number of gates stacked in the rows.

    References
    ----------
    Saxe, McClelland & Ganguli (2014), arXiv:1312.6120.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt import init
    >>> w = np.empty((8, 4))
    >>> init.orthogonal(w, rng=0, gates=2)
    >>> bool(np.allclose(w[:4] @ w[:4].T, np.eye(4)))
    True
    """
    rng, gain = as_generator("orthogonal", "rng", rng), as_finite("orthogonal", "gain", gain)
    for block in _blocks("orthogonal", w, gates):
        wide = block.shape[0] < block.shape[1]
        q, r = np.linalg.qr(rng.standard_normal(block.shape[::-1] if wide else block.shape))
        q *= gain * np.copysign(1, np.diag(r))
        block[...] = q.T if wide else q


def identity(w: Array, scale: float = 1.0, *, gates: int = 1) -> None:
    """Fill the rows of each gate with `scale` times the identity.

    Parameters
    ----------
    w : ndarray, shape (gates * rows, columns)
        The weight.
    scale : float, optional
        The value on the diagonal; all others are 0.
    gates : int, optional
        Number of gates stacked in the rows.
    """
    scale = as_finite("identity", "scale", scale)
    for block in _blocks("identity", w, gates):
        block[...] = scale * np.eye(*block.shape)


def spectral(w: Array, radius: float = 1.0, *, gates: int = 1) -> None:
    """Scale the rows of each gate so that the modulus of their largest eigenvalue is `radius`.

    With such a w_hh in an RNN whose activation has slope 1, gradients shrink over many steps if
    radius < 1, and grow if radius > 1. Over few steps or in some directions they may behave
    differently; `nearest_orthogonal` preserves the norm of all gradients.

    Parameters
    ----------
    w : ndarray, shape (gates * n, n)
        The weight, already filled.
    radius : float, optional
        The spectral radius, more than 0.
    gates : int, optional
        Number of gates stacked in the rows.

    Raises
    ------
    ValueError
        If the matrix of a gate is not square or not finite, all its eigenvalues are 0, or `radius`
        is not more than 0.

    References
    ----------
    Jaeger (2001), GMD report 148, for echo state networks; Sutskever, Martens, Dahl & Hinton
    (2013), PMLR 28, and Pascanu, Mikolov & Bengio (2013), arXiv:1211.5063, with 0.95, for training
    by gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt import init
    >>> w = np.array([[1.0, 1.0], [0.0, 0.5]])
    >>> init.spectral(w, 2.0)
    >>> w
    array([[2., 2.],
           [0., 1.]])
    """
    radius = as_positive("spectral", "radius", radius)
    blocks = _square_blocks("spectral", w, gates)
    check_finite("spectral: w", w)
    largest = [np.max(np.abs(np.linalg.eigvals(block)), initial=0) for block in blocks]
    if min(largest) == 0:
        raise ValueError("spectral: w has only the eigenvalue 0, expected a nonzero one to scale")
    for block, modulus in zip(blocks, largest):
        block *= radius / modulus


def nearest_orthogonal(w: Array, gain: float = 1.0, *, gates: int = 1) -> None:
    """Set all singular values of each gate's rows to `gain`, and keep the singular vectors.

    w = U S V^T becomes gain U V^T. U V^T, the orthogonal polar factor, is the orthogonal (real
    unitary) matrix nearest to w in the Frobenius norm.

    Parameters
    ----------
    w : ndarray, shape (gates * n, n)
        The weight, already filled.
    gain : float, optional
        The one value of all singular values of the result.
    gates : int, optional
        Number of gates stacked in the rows.

    Raises
    ------
    ValueError
        If the matrix of a gate is not square or not finite.

    References
    ----------
    Higham (1986), "Computing the polar decomposition - with applications", SIAM J. Sci. Stat.
    Comput. 7(4); Arjovsky, Shah & Bengio (2016), arXiv:1511.06464, for unitary w_hh.
    """
    caller = "nearest_orthogonal"
    gain, blocks = as_finite(caller, "gain", gain), _square_blocks(caller, w, gates)
    check_finite(f"{caller}: w", w)
    for block in blocks:
        u, _, vt = np.linalg.svd(block)
        block[...] = gain * (u @ vt)


def _square_blocks(caller: str, w: Array, gates: int) -> list[Array]:
    blocks = _blocks(caller, w, gates)
    if len(blocks[0]) != w.shape[1]:
        raise ValueError(f"{caller}: w has shape {w.shape}, expected (gates * n, n)")
    return blocks


# --- recurrent layers, or their dict of parameters ------------------------------------------------


class _Cell(NamedTuple):
    w_hh: Array
    biases: list[Array]  # b_ih and b_hh, or none
    gates: int

    def gate(self, k: int) -> list[Array]:
        """Views of gate k in both biases."""
        return [np.split(b, self.gates)[k] for b in self.biases]


def _cells(caller: str, layer: Layer | Mapping[str, Array]) -> Iterator[_Cell]:
    """Each layer and direction among the parameters, whose names may have a prefix."""
    params = layer.parameters if isinstance(layer, Layer) else layer
    check_mapping(caller, "layer", params)
    known = layer.structure.gates if isinstance(layer, Recurrent) else 0
    names = [m for m in map(re.compile(r"(.*)weight(_hh_l\d+(_reverse)?)").fullmatch, params) if m]
    if not names:
        raise ValueError(
            f"{caller}: layer has the names {listed(params)}, expected a recurrent weight among "
            "them, such as weight_hh_l0"
        )
    for name in names:
        w_hh = params[name[0]]
        b_hh = f"{name[1]}bias{name[2]}"
        found = {b: params[b] for b in (b_hh.replace("_hh_", "_ih_"), b_hh) if b in params}
        for label, array in {name[0]: w_hh, **found}.items():
            _check_weight(caller, array, f"layer[{shown(label)}]")
        fit = all(b.shape == w_hh.shape[:1] for b in found.values())
        if w_hh.ndim != 2 or not w_hh.size or not fit:
            raise ValueError(
                f"{caller}: layer[{shown(name[0])}] has shape {w_hh.shape}, expected (G*H, H), and "
                "biases of shape (G*H,)"
            )
        yield _Cell(w_hh, list(found.values()), known or w_hh.shape[0] // w_hh.shape[1])


def _gated(caller: str, layer: Layer | Mapping[str, Array], allowed: dict[int, str]) -> list[_Cell]:
    forget_gate = getattr(layer, "forget_gate", "own")
    if forget_gate != "own":  # such an LSTM has three gates, like a GRU
        raise ValueError(f"{caller}: layer has forget_gate {shown(forget_gate)}, expected 'own'")
    if isinstance(layer, LSTM1997):  # which has three gates too
        raise ValueError(f"{caller}: layer is an LSTM1997, expected one with a forget gate")
    cells = list(_cells(caller, layer))
    for cell in cells:
        if cell.gates not in allowed:
            kinds = " or ".join(allowed.values())
            raise ValueError(f"{caller}: layer has {cell.gates} gates per unit, expected {kinds}")
        if len(cell.biases) != 2:
            raise ValueError(f"{caller}: layer has no bias, expected bias=True")
    return cells


def _set(biases: list[Array], value: Array | float) -> None:
    """Make b_ih + b_hh = value, with b_hh = 0."""
    b_ih, b_hh = biases
    b_ih[...] = value
    b_hh[...] = 0


def forget_bias(layer: Layer | Mapping[str, Array], value: float = 1.0) -> None:
    """Set the bias of an LSTM's forget gates; with a positive `value` they start open.

    In every layer and direction, b_ih becomes `value` and b_hh 0 for the forget gate. Nothing else
    changes.

    Parameters
    ----------
    layer : LSTM or dict of str to ndarray
        The layer, or parameters with PyTorch's names.
    value : float, optional
        The bias. The gate starts at sig(value): 0.73 for 1.

    Raises
    ------
    ValueError
        If `layer` holds another cell than an LSTM, or no bias.

    References
    ----------
    Gers, Schmidhuber & Cummins (2000); Jozefowicz, Zaremba & Sutskever (2015), PMLR 37.

    Examples
    --------
    >>> import bptt
    >>> lstm = bptt.LSTM(3, 2, seed=0)
    >>> bptt.init.forget_bias(lstm, 1.0)
    >>> lstm.parameters["bias_ih_l0"][2:4]  # gates i f g o, two units each
    array([1., 1.], dtype=float32)
    """
    value = as_finite("forget_bias", "value", value)
    for cell in _gated("forget_bias", layer, {4: "4 (LSTM)"}):
        _set(cell.gate(1), value)


def chrono(layer: Layer | Mapping[str, Array], t_max: float, rng: Seed = None) -> None:
    """Spread the time scales of a gated layer's units over 1 to `t_max` steps.

    In an LSTM, the forget gate of each unit gets the bias f = log U(1, t_max - 1), the input gate
    the bias -f. In a GRU, the update gate z, which keeps the state, gets the bias
    log U(1, t_max - 1). In every layer and direction, b_ih gets the bias, and b_hh becomes 0.
    Nothing else changes.

    Parameters
    ----------
    layer : LSTM, GRU or dict of str to ndarray
        The layer, or parameters with PyTorch's names.
    t_max : float
        The longest expected dependency, in steps; at least 2.
    rng : int, numpy.random.Generator or None, optional
        Source of random numbers.

    Raises
    ------
    ValueError
        If `t_max` is less than 2, or `layer` holds another cell than an LSTM or GRU, or no bias.

    References
    ----------
    Tallec & Ollivier (2018), arXiv:1804.11188.
    """
    t_max, rng = as_between("chrono", "t_max", t_max, 2), as_generator("chrono", "rng", rng)
    for cell in _gated("chrono", layer, {4: "4 (LSTM)", 3: "3 (GRU)"}):
        bias = np.log(rng.uniform(1, t_max - 1, len(cell.w_hh) // cell.gates))
        _set(cell.gate(1), bias)
        if cell.gates == 4:
            _set(cell.gate(0), -bias)


def irnn(layer: Layer | Mapping[str, Array]) -> None:
    """Turn an RNN with activation relu into an IRNN: w_hh becomes the identity, biases 0.

    Each unit then starts as a sum of its inputs, and gradients pass unchanged from step to step.
    The paper also draws the input weights from N(0, 0.001^2): ``normal(w, rng, 0.001)``.

    Parameters
    ----------
    layer : RNN or dict of str to ndarray
        The layer, or parameters with PyTorch's names.

    Raises
    ------
    ValueError
        If `layer` holds another cell than an RNN.

    References
    ----------
    Le, Jaitly & Hinton (2015), arXiv:1504.00941.
    """
    cells = list(_cells("irnn", layer))
    for cell in cells:
        if cell.gates != 1:
            raise ValueError(f"irnn: layer has {cell.gates} gates per unit, expected 1 (RNN)")
    for cell in cells:
        identity(cell.w_hh)
        for bias in cell.biases:
            bias[...] = 0
