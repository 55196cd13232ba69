# SPDX-License-Identifier: MIT
"""How much memory a trained model makes use of: its loss when older inputs are cut off."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._types import Array
from .._validate import as_array, as_count, to_numpy
from ..layers.sequences import as_lengths
from ..losses import cross_entropy, mse
from .verdict import number

__all__ = ["NeededMemory", "needed_memory"]

MOST_ANSWERS = 2000  # of a loss at every step
MOST_VALUES = 1 << 22  # of x, in one call of the model
SHARE = 0.01  # of the largest loss: what cutting may cost

Loss = Callable[[Array, Array], tuple[float, Array]]


@dataclass(frozen=True, eq=False)
class NeededMemory:
    """What `needed_memory` found.

    Attributes
    ----------
    steps : int
        The fewest inputs, the last one included, with which the loss is as good as with all of
        them, up to 1 % of the largest of `losses`: for ``gradient_flow(..., needs=steps)``.
    inputs, losses : ndarray
        Numbers of inputs that were left, in rising order, and the loss with each.
    constant : float or None
        The loss of the best answer that is always the same; None with a loss of your own.
    """

    steps: int
    inputs: Array
    losses: Array
    constant: float | None

    @property
    def learnt(self) -> bool:
        """Is the loss with all inputs below `constant`? Else `steps` tells nothing."""
        return self.constant is None or bool(self.losses[-1] < self.constant)

    def __repr__(self) -> str:
        kept = dict(zip(self.inputs.tolist(), self.losses.tolist()))
        T = int(self.inputs[-1])
        shown = ", ".join(f"{number(kept[k])} with {k}" for k in dict.fromkeys((1, self.steps, T)))
        if self.learnt:
            return f"NeededMemory({self.steps} of {T} inputs: loss {shown})"
        same = number(self.constant or 0)
        return f"NeededMemory(unknown: loss {shown}, and {same} by always answering the same)"


def needed_memory(
    model: Callable[..., Any],
    x: ArrayLike,
    target: ArrayLike,
    *,
    loss: Loss | None = None,
    lengths: ArrayLike | None = None,
    seed: int = 0,
) -> NeededMemory:
    """Measure how many of the last inputs a trained model needs for its answers.

    For k = 1, 2, 4, ... and then by bisection, the model answers from the last k inputs alone: it
    starts from its zero state k steps before the answer. As soon as its loss is as good as with all
    inputs, what lies further back has no use. Nothing is trained, so it is the memory that this
    model has learnt to use: one that has learnt nothing needs none, whatever its task.

    Parameters
    ----------
    model : callable
        From inputs (n, N, ...) to answers: (n, N, ...) for those after every step, or (N, ...) for
        the one of each sequence. With `lengths` it is called with a second argument, theirs.
    x : array_like, shape (T, B, ...)
        A batch of the task, best not the one that was trained on.
    target : array_like, shape (T, B, ...) or (B, ...)
        The right answers after every step, or of each sequence.
    loss : callable, optional
        From answers (N, ...) and their targets (N, ...) to the loss and its gradient, of which only
        the first is used. If omitted, `bptt.cross_entropy` for integer targets, else `bptt.mse`.
    lengths : array_like of int, shape (B,), optional
    seed : int, optional
        With targets at every step, at most 2000 of them are taken at random, all from the second
        half of their sequence, where there is something to cut off.

    Returns
    -------
    NeededMemory

    Raises
    ------
    ValueError
        If shapes disagree, or both readings of `target` fit.
    TypeError
        If an array does not hold what it should.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.flow import needed_memory
    >>> x = np.random.default_rng(0).standard_normal((50, 100, 1))
    >>> def model(x):            # the sum of the last three inputs
    ...     return x[-3:].sum(0)
    >>> needed_memory(model, x, x[-3:].sum(0))
    NeededMemory(3 of 50 inputs: loss 1.52 with 1, 0 with 3, 0 with 50)
    """
    where = "needed_memory"
    for name, given in (("model", model), ("loss", cross_entropy if loss is None else loss)):
        if not callable(given):
            kind = type(given).__name__
            raise TypeError(f"{where}: {name} is of type {kind}, expected a function")
    inputs = as_array(where, "x", to_numpy(x))
    if inputs.ndim < 2 or not inputs.size:
        raise ValueError(f"{where}: x has shape {inputs.shape}, expected (T, B, ...), not empty")
    T, B = inputs.shape[:2]
    wanted = as_array(where, "target", to_numpy(target))
    seed = as_count(where, "seed", seed, 0)
    own = as_lengths(where, to_numpy(lengths), T, B)
    ends = np.full(B, T) if own is None else own
    if not ends.any():
        raise ValueError(f"{where}: lengths has no step, expected at least one")
    cut = _Cut(where, model, inputs, ends, ragged=own is not None)
    t, b = _answers(cut.every(wanted), ends, seed)
    right = wanted[t, b] if cut.each else wanted[b]
    if loss is None:
        loss = cross_entropy if right.dtype.kind in "iu" else mse
        constant = _constant(loss, right)
    else:
        constant = None
    measured: dict[int, float] = {}

    def measure(k: int) -> float:
        if k not in measured:
            measured[k] = float(loss(cut(t, b, k), right)[0])
            if not math.isfinite(measured[k]):
                raise ValueError(
                    f"{where}: the loss with {k} inputs is {measured[k]}, expected a finite number"
                )
        return measured[k]

    most = int((t + 1).max())
    for k in [*(2**i for i in range(most.bit_length()) if 2**i < most), most]:
        measure(k)
    good = measured[most] + SHARE * max(measured.values())
    high = min(k for k in measured if all(v <= good for n, v in measured.items() if n >= k))
    low = max((k for k in measured if k < high), default=0)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if measure(middle) <= good else (middle, high)
    order = sorted(measured)
    return NeededMemory(high, np.array(order), np.array([measured[k] for k in order]), constant)


class _Cut:
    """The model's answers from the last k inputs."""

    def __init__(self, where: str, model: Any, x: Array, lengths: Array, ragged: bool) -> None:
        self.where, self.model, self.x, self.lengths = where, model, x, lengths
        self.ragged, self.each = ragged, False

    def every(self, target: Array) -> bool:
        """Is there an answer after every step? By the shapes of the target and of the answers."""
        T, B = self.x.shape[:2]
        answers = self._run(self.x[:, :1], self.lengths[:1])
        each = answers.shape[:2] == (T, 1) and target.shape[:2] == (T, B)
        one = answers.shape[:1] == (1,) and target.shape[:1] == (B,)
        if each and one:
            raise ValueError(
                f"{self.where}: target has shape {target.shape}, expected one that is not both "
                "(T, B, ...) and (B, ...)"
            )
        if not each and not one:
            raise ValueError(
                f"{self.where}: target has shape {target.shape}, expected (T, B, ...) or (B, ...) "
                f"with (T, B) = {(T, B)}, as the answers of model to one sequence: {answers.shape}"
            )
        self.each = each
        return each

    def _run(self, x: Array, lengths: Array) -> Array:
        made = self.model(x, lengths) if self.ragged else self.model(x)
        if isinstance(made, (tuple, list)):
            raise TypeError(
                f"{self.where}: model returns {len(made)} results, expected its answers alone: of "
                "a layer, lambda x: layer(x)[0]"
            )
        return as_array(self.where, "what model returns", to_numpy(made))

    def __call__(self, t: Array, b: Array, k: int) -> Array:
        """Those after step t of sequence b."""
        left = np.minimum(t + 1, k)
        answers: Any = None
        for n in [k] if self.ragged else np.unique(left):  # without lengths, all of a call are n
            those = np.arange(len(t)) if self.ragged else np.flatnonzero(left == n)
            most = max(1, MOST_VALUES // int(n * math.prod(self.x.shape[2:])))
            for at in range(0, len(those), most):
                some = those[at : at + most]
                made = self._last(t[some], b[some], left[some], int(n))
                if answers is None:
                    answers = np.empty((len(t), *made.shape[1:]), made.dtype)
                answers[some] = made
        return np.asarray(answers)

    def _last(self, t: Array, b: Array, left: Array, n: int) -> Array:
        """Those from the `left` inputs up to step t, in windows of n steps."""
        steps = np.arange(n)[:, None]
        inside = steps < left
        window = self.x[np.where(inside, t + 1 - left + steps, 0), b]
        window[~inside] = 0
        made = self._run(window, left)
        return made[left - 1, np.arange(len(t))] if self.each else made


def _answers(every: bool, lengths: Array, seed: int) -> tuple[Array, Array]:
    """Steps and sequences of the answers that are looked at."""
    if not every:
        b = np.flatnonzero(lengths)
        return lengths[b] - 1, b
    steps = np.arange(int(lengths.max()))[:, None]
    t, b = np.nonzero((steps < lengths) & (steps >= lengths // 2))
    if len(t) > MOST_ANSWERS:
        chosen = np.random.default_rng(seed).choice(len(t), MOST_ANSWERS, replace=False)
        t, b = t[np.sort(chosen)], b[np.sort(chosen)]
    return t, b


def _constant(loss: Loss, target: Array) -> float:
    """The loss of the best answer that is always the same."""
    if loss is mse:
        return float(np.var(target.astype(np.float64), axis=0).mean())
    classes = target[target >= 0]
    shares = np.bincount(classes.ravel().astype(np.int64)) / max(classes.size, 1)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())
