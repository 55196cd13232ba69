# SPDX-License-Identifier: MIT
"""Lyapunov exponents of a recurrence along given sequences."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._types import Array
from .._validate import as_count
from .products import logs
from .steps import Steps

__all__ = ["lyapunov_spectrum"]


def lyapunov_spectrum(tape: _core.Tape, n: int | None = None, *, warmup: int = 0) -> Array:
    """Lyapunov exponents: the mean rates at which a step stretches or shrinks small differences.

    With s_1 >= s_2 >= ... the singular values of the product of all Jacobians of a sequence of T
    steps (`step_jacobians`), lambda_i is the limit of log(s_i) / T. If lambda_1 > 0, the dynamics
    are chaotic and gradients explode. If lambda_1 < 0, memory and gradients fade by a factor of e
    every -1 / lambda_1 steps.

    Parameters
    ----------
    tape : Tape
        As in `step_jacobians`.
    n : int, optional
        Number of exponents, the largest ones; all S if omitted. A small n is much cheaper.
    warmup : int
        Number of steps that turn the directions before exponents are measured; fewer than the
        shortest sequence has. Without a warm-up, the initial directions cause an error of order
        1/T.

    Returns
    -------
    ndarray, shape (B, n), float64
        The exponents of each sequence in nats per step, largest first. A direction that is lost
        entirely, as through units of a ReLU that are off, has -inf, or about -36 if rounding errors
        remain of it at every step. -inf across `resets`.

    Raises
    ------
    TypeError, ValueError
        As in `step_jacobians`; or if n or warmup is out of range.

    Notes
    -----
    n orthogonal directions pass through one step after the other, and a QR decomposition makes them
    orthogonal again, Q' R = J^T Q; lambda_i is the mean of log |R_ii| (Benettin et al., 1980). They
    go back in time, through the transposed Jacobians by which the backward pass multiplies: the
    singular values of the product, and so the exponents, are the same. The warm-up is therefore at
    the end of the sequence. If a network is still settling at its start, run it beforehand and pass
    its final state as `state`.

    The initial directions are random, from a fixed seed.

    References
    ----------
    Benettin, Galgani, Giorgilli & Strelcyn (1980), "Lyapunov characteristic exponents for smooth
    dynamical systems and for Hamiltonian systems", Meccanica 15.
    Engelken, Wolf & Abbott (2023), "Lyapunov spectra of chaotic recurrent neural networks",
    Physical Review Research 5, 043044.
    Vogt, Puelma Touzel, Shlizerman & Lajoie (2022), "On Lyapunov exponents for RNNs", Frontiers in
    Applied Mathematics and Statistics 8.

    Examples
    --------
    A linear network has the logarithms of its eigenvalues:

    >>> import numpy as np, bptt
    >>> w_hh = np.array([[0.9, 0.3], [0.0, 0.5]])
    >>> _, _, tape = bptt.rnn_forward(np.ones((300, 1, 1)), np.ones((2, 1)), w_hh,
    ...                               activation="identity")
    >>> exponents = bptt.lyapunov_spectrum(tape, warmup=100)
    >>> np.allclose(exponents, np.log([0.9, 0.5]), rtol=1e-12)
    True
    """
    steps = Steps("lyapunov_spectrum", tape)
    S = sum(steps.sizes)
    n = S if n is None else as_count(steps.caller, "n", n, 1, S)
    warmup = _warmup(steps, warmup)
    start = np.linalg.qr(np.random.default_rng(0).standard_normal((S, n)))[0]
    Q = np.repeat(start[None], steps.B, axis=0)
    total, done = np.zeros((steps.B, n)), np.zeros(steps.B, int)
    with np.errstate(invalid="ignore"):
        for t, b in steps.back(steps.last()):
            pulled = steps.pull(np.full(len(b), t), b, Q[b].swapaxes(1, 2)).astype(float)
            Q[b], R = np.linalg.qr(pulled.swapaxes(1, 2))
            stretch = logs(np.abs(np.diagonal(R, axis1=1, axis2=2)))
            total[b] += np.where(done[b] < warmup, 0, stretch.T).T
            done[b] += 1
    return -np.sort(-total / (done - warmup)[:, None], axis=1)


def _warmup(steps: Steps, value: Any) -> int:
    warmup = as_count(steps.caller, "warmup", value, 0)
    shortest = int(steps.lengths.min(initial=steps.T))
    if steps.B and not shortest:
        raise ValueError(f"{steps.caller}: tape has a sequence of no steps, expected one or more")
    if steps.B and warmup >= shortest:
        raise ValueError(
            f"{steps.caller}: warmup is {warmup}, expected fewer than the steps of the shortest "
            f"sequence = {shortest}"
        )
    return warmup
