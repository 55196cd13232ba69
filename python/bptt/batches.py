# SPDX-License-Identifier: MIT
"""Batches of sequences of different lengths: padding, shuffling, bucketing by length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ._types import Array, Seed
from ._validate import as_array, as_count, as_flag, as_generator, as_integers, as_number
from ._words import shown
from .losses import IGNORED

__all__ = ["Batch", "as_sequences", "batch_order", "minibatches", "pad_sequences"]


def pad_sequences(
    sequences: Sequence[ArrayLike], *, batch_first: bool = False, value: float = 0
) -> tuple[Array, Array]:
    """Make one array of sequences of different lengths, and their lengths.

    Parameters
    ----------
    sequences : sequence of array_like, shapes (T_i, ...)
        B sequences, all with the same axes after the first: features (T_i, I) or ids (T_i,).
    batch_first : bool, optional
        True: the result is (B, T, ...) instead of (T, B, ...).
    value : float, optional
        The value after the end of a sequence.

    Returns
    -------
    x : ndarray, shape (T, B, ...)
        T is the greatest length; of the sequences' common dtype.
    lengths : ndarray of int, shape (B,)
        For the argument `lengths` of layers, models and losses.

    Raises
    ------
    ValueError
        If there is no sequence, or their other axes differ.
    TypeError
        If a sequence does not hold numbers.

    Examples
    --------
    >>> from bptt import pad_sequences
    >>> x, lengths = pad_sequences([[1, 2, 3], [4]])
    >>> x
    array([[1, 4],
           [2, 0],
           [3, 0]])
    >>> lengths
    array([3, 1])
    """
    batch_first = as_flag("pad_sequences", "batch_first", batch_first)
    as_number("pad_sequences", "value", value)
    arrays = as_sequences("pad_sequences", "sequences", sequences)
    return _padded("pad_sequences", "sequences", arrays, batch_first, value)


def _has_length(value: Any) -> bool:
    return hasattr(value, "__len__") and not (isinstance(value, np.ndarray) and not value.ndim)


def as_sequences(caller: str, label: str, sequences: Any) -> list[Array]:
    """Check the sequences of a batch or data set; return them as arrays."""
    if isinstance(sequences, (str, bytes, Mapping)) or not _has_length(sequences):
        raise TypeError(f"{caller}: {label} is {shown(sequences)}, expected a list of sequences")
    if not len(sequences):
        raise ValueError(f"{caller}: {label} is empty, expected at least one sequence")
    arrays = [as_array(caller, f"{label}[{i}]", one) for i, one in enumerate(sequences)]
    for i, array in enumerate(arrays):
        if array.dtype.kind not in "fiub" and array.size:
            raise TypeError(f"{caller}: {label}[{i}] has dtype {array.dtype}, expected numbers")
    # An empty list has no other axes, and no integer type.
    like = next((a for a in arrays if a.size), arrays[0])
    arrays = [a if a.size or a.ndim > 1 else np.empty((0, *like.shape[1:]), like.dtype)
              for a in arrays]  # fmt: skip
    for i, array in enumerate(arrays):
        if not array.ndim or array.shape[1:] != like.shape[1:]:
            expected = ", ".join(map(str, ("T", *like.shape[1:])))
            raise ValueError(
                f"{caller}: {label}[{i}] has shape {array.shape}, expected ({expected}) as the "
                "others"
            )
    return arrays


def _padded(
    caller: str, label: str, arrays: Sequence[Array], batch_first: bool, value: float
) -> tuple[Array, Array]:
    lengths = np.array([len(array) for array in arrays])
    dtype = np.result_type(*{array.dtype for array in arrays})
    padded = np.full((lengths.max(), len(arrays), *arrays[0].shape[1:]), value, dtype)
    for b, array in enumerate(arrays):
        padded[: len(array), b] = array
    return np.ascontiguousarray(padded.swapaxes(0, 1)) if batch_first else padded, lengths


class Batch(NamedTuple):
    """One batch of `minibatches`.

    Attributes
    ----------
    x : ndarray, shape (T, B, ...), or (B, T, ...) with `batch_first`
        The sequences, 0 after their ends.
    target : ndarray or None
        Of one target for each sequence (B, ...); of one for each step in the axes of x, and after
        the ends -100 for whole numbers, which `cross_entropy` ignores, else 0.
    lengths : ndarray of int, shape (B,)
        The number of steps of each sequence.
    samples : ndarray of int, shape (B,)
        The numbers of the sequences in the data.
    """

    x: Array
    target: Array | None
    lengths: Array
    samples: Array


def batch_order(
    lengths: ArrayLike, batch_size: int, rng: np.random.Generator | None, bucket: int = 20
) -> list[Array]:
    """The numbers of the samples of each batch of an epoch, as `minibatches` takes them.

    Parameters
    ----------
    lengths : array_like of int, shape (n,)
        The length of each sample.
    batch_size, bucket : int
        As in `minibatches`.
    rng : numpy.random.Generator or None
        It decides the order; None: the order of the data.

    Returns
    -------
    list of ndarray of int
        Each sample occurs once.
    """
    caller = "minibatches"
    lengths = as_integers(caller, "lengths", lengths)
    batch_size = as_count(caller, "batch_size", batch_size, 1)
    bucket, n = as_count(caller, "bucket", bucket, 1), len(lengths)
    if rng is None:
        return [np.arange(n)[k : k + batch_size] for k in range(0, n, batch_size)]
    order, batches = rng.permutation(n), []
    for start in range(0, n, bucket * batch_size):
        pool = order[start : start + bucket * batch_size]
        if bucket > 1:
            pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[k : k + batch_size] for k in range(0, len(pool), batch_size)]
    return [batches[k] for k in rng.permutation(len(batches))]


def minibatches(
    x: Sequence[ArrayLike],
    target: Any,
    batch_size: int,
    *,
    seed: Seed = None,
    shuffle: bool = True,
    bucket: int = 20,
    batch_first: bool = False,
    per_step: bool | None = None,
) -> Iterator[Batch]:
    """One pass over a data set in batches, shuffled, of sequences of similar length.

    Parameters
    ----------
    x : sequence of array_like, shapes (T_i, ...)
        The sequences, such as a list of arrays, or an array (n, T, I): the sample is the first
        axis.
    target : sequence, or None
        One target for each sequence, as an array (n, ...), or one for each step, as a list of
        arrays (T_i, ...) or an array (n, T, ...).
    batch_size : int
        B; the last batch may have fewer sequences.
    seed : int or numpy.random.Generator, optional
        For the order; a random seed if omitted.
    shuffle : bool, optional
        False: the order of the data, for evaluation.
    bucket : int, optional
        The sequences of so many batches are sorted by length before they are divided into batches,
        which leaves little padding; the batches then come in random order. 1: no sorting.
    batch_first : bool, optional
        True: the batches are (B, T, ...).
    per_step : bool, optional
        Is there a target for each step? If omitted: yes if every target has as many as its
        sequence has steps.

    Yields
    ------
    Batch
        With the fields x, target, lengths and samples.

    Raises
    ------
    ValueError
        If `x` and `target` have different numbers of samples or steps, or a number is out of range.
    TypeError
        If an argument is of another type.

    Examples
    --------
    >>> import bptt
    >>> x, target = [[1, 2, 3], [4], [5, 6, 7], [8]], [0, 1, 0, 1]
    >>> for batch in bptt.minibatches(x, target, batch_size=2, seed=1):
    ...     print(batch.x.tolist(), batch.target, batch.lengths)
    [[4, 8]] [1 1] [1 1]
    [[1, 5], [2, 6], [3, 7]] [0 0] [3 3]
    """
    caller = "minibatches"
    batch_first = as_flag(caller, "batch_first", batch_first)
    arrays = as_sequences(caller, "x", x)
    lengths = np.array([len(array) for array in arrays])
    targets, stepwise = _targets(caller, target, lengths, per_step)
    rng = as_generator(caller, "seed", seed) if as_flag(caller, "shuffle", shuffle) else None
    order = batch_order(lengths, batch_size, rng, bucket)

    def batches() -> Iterator[Batch]:  # everything is checked at the call, not at the first batch
        for samples in order:
            padded, within = _padded(caller, "x", [arrays[i] for i in samples], batch_first, 0)
            chosen = None
            if stepwise:
                of = [targets[i] for i in samples]
                whole = np.result_type(*{a.dtype for a in of}).kind in "iu"
                value = IGNORED if whole else 0
                chosen = _padded(caller, "target", of, batch_first, value)[0]
            elif targets is not None:
                chosen = targets[samples]
            yield Batch(padded, chosen, within, samples)

    return batches()


def _targets(caller: str, target: Any, lengths: Array, per_step: bool | None) -> tuple[Any, bool]:
    """The targets, as a list of arrays if there is one for each step, else as an array."""
    if target is None:
        return None, False
    if not _has_length(target) or len(target) != len(lengths):
        has = f"{len(target)} items" if _has_length(target) else shown(target)
        raise ValueError(
            f"{caller}: target has {has}, expected {len(lengths)}, one for each sequence of x"
        )
    counts = [np.shape(one)[0] if np.ndim(one) else -1 for one in target]
    fits = counts == lengths.tolist()
    stepwise = fits if per_step is None else as_flag(caller, "per_step", per_step)
    if not stepwise:
        array = as_array(caller, "target", target)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{caller}: target has dtype {array.dtype}, expected numbers")
        return array, False
    if not fits:
        i = int(np.flatnonzero(np.array(counts) != lengths)[0])
        raise ValueError(
            f"{caller}: per_step is True, expected False: target[{i}] has shape "
            f"{np.shape(target[i])}, and x[{i}] has {lengths[i]} steps"
        )
    return as_sequences(caller, "target", target), True
