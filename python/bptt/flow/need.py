# SPDX-License-Identifier: MIT
"""How far back a trained model uses its inputs: its loss when older inputs are cut off."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._types import Array
from .._validate import as_array, as_count, as_lengths_within, to_numpy
from ..losses import cross_entropy, mse
from .verdict import number

__all__ = ["NeededMemory", "needed_memory"]

MOST_ANSWERS = 2000  # number of answers evaluated, if there is one at every step
MOST_VALUES = 1 << 22  # number of values of x in one call of the model
SHARE = 0.01  # share of the largest loss by which cutting inputs off may raise the loss

Loss = Callable[[Array, Array], tuple[float, Array]]


@dataclass(frozen=True, eq=False)
class NeededMemory:
    """The result of `needed_memory`.

    Attributes
    ----------
    steps : int
        The smallest number of last inputs whose loss exceeds the loss with all inputs by at most
        1 % of the largest of `losses`. Pass it as ``gradient_flow(..., needs=steps)``.
    inputs, losses : ndarray
        Numbers of last inputs that were tried, in rising order, and the loss with each.
    constant : float or None
        The loss of the best constant answer; None with a loss of your own.
    """

    steps: int
    inputs: Array
    losses: Array
    constant: float | None

    @property
    def learnt(self) -> bool:
        """Is the loss with all inputs below `constant`? If not, `steps` has no meaning."""
        return self.constant is None or bool(self.losses[-1] < self.constant)

    def __repr__(self) -> str:
        kept = dict(zip(self.inputs.tolist(), self.losses.tolist()))
        T = int(self.inputs[-1])
        shown = ", ".join(f"{number(kept[k])} with {k}" for k in dict.fromkeys((1, self.steps, T)))
        if self.learnt:
            return f"NeededMemory({self.steps} of {T} inputs: loss {shown})"
        same = number(self.constant or 0)
        return f"NeededMemory(unknown: loss {shown}, and {same} with a constant answer)"


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
    starts from its zero state k steps before the answer. If its loss then exceeds the loss with all
    inputs by at most 1 % of the largest loss, the model does not use inputs further back. The
    result holds for this model, not for the task: a model that has learnt nothing needs no memory.

    Parameters
    ----------
    model : callable
        A function of inputs (n, N, ...) that returns answers: (n, N, ...), one after every step, or
        (N, ...), one for each sequence. With `lengths`, the lengths of the inputs are its second
        argument.
    x : array_like, shape (T, B, ...)
        A batch of the task, preferably not used in training.
    target : array_like, shape (T, B, ...) or (B, ...)
        The right answers, one after every step or one for each sequence.
    loss : callable, optional
        A function of answers (N, ...) and targets (N, ...) that returns the loss and its gradient;
        the gradient is not used. If omitted, `bptt.cross_entropy` for integer targets, else
        `bptt.mse`.
    lengths : array_like of int, shape (B,), optional
        Length of each sequence; T if omitted.
    seed : int, optional
        Seed of the random choice of answers: with targets at every step, at most 2000 are used, all
        from the second half of their sequences.

    Returns
    -------
    NeededMemory

    Raises
    ------
    ValueError
        If shapes disagree, or both readings of `target` fit.
    TypeError
        If an array has a wrong dtype, or `model` or `loss` is not a function.

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
    caller = "needed_memory"
    for name, function in (("model", model), ("loss", mse if loss is None else loss)):
        if not callable(function):
            kind = type(function).__name__
            raise TypeError(f"{caller}: {name} is of type {kind}, expected a function")
    inputs = as_array(caller, "x", to_numpy(x))
    if inputs.ndim < 2 or not inputs.size:
        raise ValueError(f"{caller}: x has shape {inputs.shape}, expected (T, B, ...), not empty")
    T, B = inputs.shape[:2]
    targets = as_array(caller, "target", to_numpy(target))
    seed = as_count(caller, "seed", seed, 0)
    all_lengths = as_lengths_within(caller, to_numpy(lengths), T, B)
    ends = np.full(B, T) if all_lengths is None else all_lengths
    if not ends.any():
        raise ValueError(f"{caller}: lengths has no step, expected at least one")
    answer = _Model(caller, model, inputs, ends, ragged=all_lengths is not None)
    t, b = _answers(answer.at_every_step(targets), ends, seed)
    expected = targets[t, b] if answer.every else targets[b]
    constant = None
    if loss is None:
        loss = cross_entropy if expected.dtype.kind in "iu" else mse
        constant = _constant(loss, expected)
    measured: dict[int, float] = {}

    def measure(k: int) -> float:
        if k not in measured:
            measured[k] = float(loss(answer(t, b, k), expected)[0])
            if not math.isfinite(measured[k]):
                raise ValueError(
                    f"{caller}: the loss with {k} inputs is {measured[k]}, expected a finite number"
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


class _Model:
    """A model that answers from the last k inputs."""

    def __init__(self, caller: str, model: Any, x: Array, lengths: Array, ragged: bool) -> None:
        self.caller, self.model, self.x, self.lengths = caller, model, x, lengths
        self.ragged, self.every = ragged, False

    def at_every_step(self, target: Array) -> bool:
        """Is there an answer after every step? The shapes of target and answers decide."""
        T, B = self.x.shape[:2]
        answers = self._run(self.x[:, :1], self.lengths[:1])
        every = answers.shape[:2] == (T, 1) and target.shape[:2] == (T, B)
        one = answers.shape[:1] == (1,) and target.shape[:1] == (B,)
        if every and one:
            raise ValueError(
                f"{self.caller}: target has shape {target.shape}, expected one that fits only one "
                "of (T, B, ...) and (B, ...)"
            )
        if not every and not one:
            raise ValueError(
                f"{self.caller}: target has shape {target.shape}, expected (T, B, ...) or (B, ...) "
                f"with (T, B) = {(T, B)}, like the answers of model to one sequence: "
                f"{answers.shape}"
            )
        self.every = every
        return every

    def _run(self, x: Array, lengths: Array) -> Array:
        answers = self.model(x, lengths) if self.ragged else self.model(x)
        if isinstance(answers, (tuple, list)):
            raise TypeError(
                f"{self.caller}: model returns {len(answers)} results, expected its answers alone: "
                "for a layer, lambda x: layer(x)[0]"
            )
        return as_array(self.caller, "the result of model", to_numpy(answers))

    def __call__(self, t: Array, b: Array, k: int) -> Array:
        """The answers after step t of sequence b."""
        left = np.minimum(t + 1, k)
        answers: Any = None
        for n in [k] if self.ragged else np.unique(left):  # equal numbers of inputs per call
            same = np.arange(len(t)) if self.ragged else np.flatnonzero(left == n)
            most = max(1, MOST_VALUES // int(n * math.prod(self.x.shape[2:])))
            for first in range(0, len(same), most):
                rows = same[first : first + most]
                part = self._last(t[rows], b[rows], left[rows], int(n))
                if answers is None:
                    answers = np.empty((len(t), *part.shape[1:]), part.dtype)
                answers[rows] = part
        return np.asarray(answers)

    def _last(self, t: Array, b: Array, left: Array, n: int) -> Array:
        """The answers from the `left` inputs up to step t, in windows of n steps."""
        steps = np.arange(n)[:, None]
        inside = steps < left
        window = self.x[np.where(inside, t + 1 - left + steps, 0), b]
        window[~inside] = 0
        answers = self._run(window, left)
        return answers[left - 1, np.arange(len(t))] if self.every else answers


def _answers(every: bool, lengths: Array, seed: int) -> tuple[Array, Array]:
    """Steps and sequences of the answers that are evaluated."""
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
    """The loss of the best constant answer."""
    if loss is mse:
        return float(np.var(target.astype(np.float64), axis=0).mean())
    classes = target[target >= 0]
    shares = np.bincount(classes.ravel().astype(np.int64)) / max(classes.size, 1)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())
