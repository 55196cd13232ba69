# SPDX-License-Identifier: MIT
"""Synthetic tasks that need memory, each with the best loss that is possible without memory.

All arrays are time-major. An integer `seed` always gives the same batch. With a
`numpy.random.Generator` as `seed`, each call draws a new batch.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._validate import as_count, as_generator

__all__ = ["Task", "adding", "copy_memory", "embedded_reber", "temporal_order", "three_digits"]

Seed = int | np.random.Generator | None


class Task(NamedTuple):
    """One batch of a task.

    Attributes
    ----------
    x : ndarray of float32, shape (T, B, I)
        The input.
    target : ndarray
        The right answers, in a shape and dtype that depend on the task.
    baseline : float
        Expected loss of the best prediction without memory of the input; the task names the loss.
    """

    x: NDArray[np.float32]
    target: NDArray[Any]
    baseline: float


MOST = 2**31  # steps or sequences; larger arrays would exceed NumPy's limits


def _checked(
    function: str, seed: Seed, T: int, least: int, batch: int = 1
) -> tuple[int, int, np.random.Generator]:
    """T, batch and a generator, all checked."""
    T, batch = as_count(function, "T", T, least, MOST), as_count(function, "batch", batch, 1, MOST)
    return T, batch, as_generator(function, "seed", seed)


def three_digits(T: int = 3, seed: Seed = None) -> Task:
    """Say which digit came first: the four sequences 101, 001, 000, 111.

    The smallest task with a long lag. With ``T > 3``, random binary digits follow the first three,
    so that the answer is T - 1 steps before the last step.

    Parameters
    ----------
    T : int, optional
        Number of steps, at least 3.
    seed : int, numpy.random.Generator or None, optional
        Source of the digits after the third.

    Returns
    -------
    Task
        x of shape (T, 4, 1), zeros and ones; target of shape (4,), float32, the first digit of
        each; baseline 0.25, the mean squared error of answering 1/2 (accuracy 50 %).

    Examples
    --------
    >>> from bptt.tasks import three_digits
    >>> x, target, baseline = three_digits()
    >>> x[:, :, 0].T.astype(int).tolist(), target.tolist(), baseline
    ([[1, 0, 1], [0, 0, 1], [0, 0, 0], [1, 1, 1]], [1.0, 0.0, 0.0, 1.0], 0.25)
    """
    T, _, rng = _checked("three_digits", seed, T, least=3)
    digits = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 0], [1, 1, 1]]).T
    x = np.concatenate([digits, rng.integers(0, 2, (T - 3, 4))]).astype(np.float32)
    return Task(x[:, :, None], x[0], 0.25)


def adding(T: int, batch: int, seed: Seed = None) -> Task:
    """Add two marked numbers among T.

    Each step shows a number from U[0, 1) and a marker. Two markers are 1, one in the first half of
    the sequence and one in the second; all others are 0. This is the form of Le, Jaitly and Hinton
    (2015, arXiv:1504.00941), with the positions of Arjovsky, Shah and Bengio (2016,
    arXiv:1511.06464). The original task of Hochreiter and Schmidhuber (1997) draws from [-1, 1],
    marks the first number early and scales the sum.

    Parameters
    ----------
    T : int
        Number of steps, at least 2.
    batch : int
        Number of sequences B.
    seed : int, numpy.random.Generator or None, optional
        Source of random numbers.

    Returns
    -------
    Task
        x of shape (T, B, 2), number and marker; target of shape (B,), float32, the sum;
        baseline 1/6, the mean squared error of always answering 1 (the variance of the sum of
        two uniform numbers, 2 * 1/12).

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.tasks import adding
    >>> x, target, baseline = adding(T=100, batch=8, seed=0)
    >>> x.shape, target.shape, round(baseline, 4)
    ((100, 8, 2), (8,), 0.1667)
    >>> np.allclose((x[:, :, 0] * x[:, :, 1]).sum(axis=0), target)
    True
    """
    T, batch, rng = _checked("adding", seed, T, least=2, batch=batch)
    x = np.zeros((T, batch, 2), np.float32)
    x[:, :, 0] = rng.random((T, batch), np.float32)
    first, second = rng.integers(0, T // 2, batch), rng.integers(T // 2, T, batch)
    b = np.arange(batch)
    x[first, b, 1] = x[second, b, 1] = 1
    return Task(x, x[first, b, 0] + x[second, b, 0], 1 / 6)


def copy_memory(T: int, batch: int, seed: Seed = None) -> Task:
    """Repeat ten symbols after T blank steps (Arjovsky, Shah and Bengio, 2016, arXiv:1511.06464).

    Ten symbols out of eight (codes 0 to 7) are shown, then T - 1 blanks (code 8), a delimiter
    (code 9) and ten blanks. The answer is T + 10 blanks, then the ten symbols in order.

    Parameters
    ----------
    T : int
        Length of the gap, at least 1; a sequence has T + 20 steps.
    batch : int
        Number of sequences B.
    seed : int, numpy.random.Generator or None, optional
        Source of random numbers.

    Returns
    -------
    Task
        x of shape (T + 20, B, 10), one-hot codes; target of shape (T + 20, B), int64, codes;
        baseline 10 ln 8 / (T + 20), the cross-entropy in nats per step of answering blanks, then
        guessing.

    Examples
    --------
    >>> from bptt.tasks import copy_memory
    >>> x, target, baseline = copy_memory(T=3, batch=1, seed=0)
    >>> print(*x.argmax(axis=2)[:, 0])
    6 5 4 2 2 0 0 0 1 6 8 8 9 8 8 8 8 8 8 8 8 8 8
    >>> print(*target[:, 0], round(baseline, 4))
    8 8 8 8 8 8 8 8 8 8 8 8 8 6 5 4 2 2 0 0 0 1 6 0.9041
    """
    T, batch, rng = _checked("copy_memory", seed, T, least=1, batch=batch)
    symbols = rng.integers(0, 8, (10, batch))
    shown = np.full((T + 20, batch), 8)
    shown[:10] = symbols
    shown[T + 9] = 9
    target = np.full((T + 20, batch), 8)
    target[-10:] = symbols
    return Task(np.eye(10, dtype=np.float32)[shown], target, 10 * math.log(8) / (T + 20))


def temporal_order(T: int, batch: int, seed: Seed = None) -> Task:
    """Say in which order two X or Y symbols came (Hochreiter and Schmidhuber, 1997, task 6a).

    A sequence starts with E (code 0) and ends with B (code 1). An X (code 6) or Y (code 7) is at a
    random step of [T/10, T/5), and another at a random step of [T/2, 3T/5). The other symbols are
    drawn from a, b, c, d (codes 2 to 5). As in Pascanu, Mikolov and Bengio (2013), all sequences of
    a batch have T steps; in the original they have 100 to 110.

    Parameters
    ----------
    T : int
        Number of steps, at least 10.
    batch : int
        Number of sequences B.
    seed : int, numpy.random.Generator or None, optional
        Source of random numbers.

    Returns
    -------
    Task
        x of shape (T, B, 8), one-hot codes; target of shape (B,), int64: 0 XX, 1 XY, 2 YX, 3 YY;
        baseline ln 4, the cross-entropy in nats of guessing (accuracy 25 %).

    Examples
    --------
    >>> from bptt.tasks import temporal_order
    >>> x, target, baseline = temporal_order(T=20, batch=2, seed=0)
    >>> ["".join("EBabcdXY"[code] for code in codes) for codes in x.argmax(axis=2).T]
    ['EcXaaccdccYcbcddaaaB', 'EbXaddcccddXdacadcbB']
    >>> target.tolist(), round(baseline, 4)
    ([1, 0], 1.3863)
    """
    T, batch, rng = _checked("temporal_order", seed, T, least=10, batch=batch)
    codes = rng.integers(2, 6, (T, batch))
    codes[0], codes[-1] = 0, 1
    target = rng.integers(0, 4, batch)
    b = np.arange(batch)
    codes[rng.integers(T // 10, T // 5, batch), b] = 6 + target // 2
    codes[rng.integers(T // 2, 3 * T // 5, batch), b] = 6 + target % 2
    return Task(np.eye(8, dtype=np.float32)[codes], target, math.log(4))


# For each state of the Reber grammar, two choices: pairs of a symbol's code and the next state.
_REBER = [((1, 1), (2, 2)), ((3, 1), (4, 3)), ((1, 2), (5, 4)), ((4, 2), (3, 5)), ((2, 3), (5, 5))]


def _reber_string(rng: np.random.Generator) -> list[int]:
    second, state = int(rng.integers(1, 3)), 0
    codes = [0, second, 0]
    while state < len(_REBER):
        code, state = _REBER[state][rng.integers(2)]
        codes.append(code)
    return [*codes, 6, second, 6]


def embedded_reber(batch: int, seed: Seed = None) -> Task:
    """Predict the next symbol of strings whose second-to-last symbol repeats the second.

    The codes 0 to 6 stand for B, T, P, S, X, V, E. A string is B T w T E or B P w P E, with w a
    string of the Reber grammar, which has two choices in each state::

        B  1: T 2 | P 3    2: S 2 | X 4    3: T 3 | V 5    4: X 3 | S end    5: P 4 | V end    E

    A string has 12 symbols on average and at least 9.

    Parameters
    ----------
    batch : int
        Number of strings B.
    seed : int, numpy.random.Generator or None, optional
        Source of random numbers.

    Returns
    -------
    Task
        x of shape (T, B, 7), one-hot codes of all symbols except the last, zeros after the end of a
        string; target of shape (T, B), int64, the symbol after each, and -100, which
        `bptt.cross_entropy` ignores, after the end; baseline 8 ln 2 / 11, the cross-entropy in nats
        per symbol, over many strings, of a model that knows the grammar but forgets the second
        symbol: eight binary choices in eleven symbols. A model that remembers it reaches
        7 ln 2 / 11.

    References
    ----------
    Smith & Zipser (1989), IJCNN 1; Hochreiter & Schmidhuber (1997), Neural Computation 9(8).

    Examples
    --------
    >>> from bptt.tasks import embedded_reber
    >>> x, target, baseline = embedded_reber(batch=3, seed=0)
    >>> lengths = (target != -100).sum(axis=0)
    >>> for b, n in enumerate(lengths):
    ...     codes = [*x[:n, b].argmax(axis=1), target[n - 1, b]]
    ...     print("".join("BTPSXVE"[code] for code in codes))
    BPBPVPXTTTTVVEPE
    BPBPVVEPE
    BPBPVVEPE
    >>> round(baseline, 4)
    0.5041
    """
    _, batch, rng = _checked("embedded_reber", seed, 1, least=1, batch=batch)
    strings = [_reber_string(rng) for _ in range(batch)]
    T = max(map(len, strings)) - 1
    x = np.zeros((T, batch, 7), np.float32)
    target = np.full((T, batch), -100)
    for b, codes in enumerate(strings):
        x[np.arange(len(codes) - 1), b, codes[:-1]] = 1
        target[: len(codes) - 1, b] = codes[1:]
    return Task(x, target, 8 * math.log(2) / 11)
