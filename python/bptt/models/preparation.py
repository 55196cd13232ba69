# SPDX-License-Identifier: MIT
"""From sequences as read to what a model takes: normalised numbers, or the numbers of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._types import Array
from .files import record
from .inputs import Read, of_sequences
from .vocabulary import Vocabulary

__all__ = ["Preparation"]


@record
@dataclass(frozen=True, eq=False)
class Preparation:
    """What `fit` has learnt of its inputs.

    Attributes
    ----------
    mean, scale : ndarray of float64, shape (F,), or None
        Of each feature over all training steps; None for tokens. A constant feature has scale 1.
    columns : int or None
        T, if the training sequences were a table (n, T).
    names : tuple or None
        Of the columns of a frame.
    vocabulary : Vocabulary or None
        Of tokens.
    """

    mean: Array | None
    scale: Array | None
    columns: int | None
    names: tuple[Any, ...] | None
    vocabulary: Vocabulary | None

    def __post_init__(self) -> None:
        """Check what a file says; what `of` makes is right."""
        fits = isinstance(self.columns, (int, type(None)))
        fits = fits and isinstance(self.names, (tuple, type(None)))
        if self.mean is None or self.scale is None:
            fits = fits and isinstance(self.vocabulary, Vocabulary)
        else:
            fits = fits and _is_row(self.mean) and _is_row(self.scale)
            fits = fits and self.mean.shape == self.scale.shape and bool((self.scale > 0).all())
        if not fits or (self.mean is None) != (self.vocabulary is not None):
            raise ValueError("Preparation: its mean and scale do not fit, or it has no vocabulary")

    @classmethod
    def of(cls, given: Read, size: int | None, min_count: int) -> Preparation:
        """Learn from training sequences; `size` and `min_count` are the vocabulary's."""
        if given.values is None:
            vocabulary = Vocabulary.of(given.tokens or (), size=size, min_count=min_count)
            return cls(None, None, None, None, vocabulary)
        values = given.values
        steps = values.reshape(-1, values.shape[-1]) if isinstance(values, np.ndarray) else (
            np.concatenate(values))  # fmt: skip
        mean, scale = steps.mean(0), steps.std(0)
        small = scale <= 1e-12 * np.abs(mean)  # rounding: the feature is constant
        scale = np.where(small | ~np.isfinite(scale), 1.0, scale)
        names = None if given.names is None else tuple(given.names)
        return cls(mean, scale, given.columns, names, None)

    @property
    def features(self) -> int | None:
        """F, None for tokens."""
        return None if self.mean is None else len(self.mean)

    def __call__(self, caller: str, estimator: str, given: Read) -> Array | list[Array]:
        """Return arrays of float32 (n, T, F), or of numbers of tokens (n, T); else as a list."""
        if self.vocabulary is not None:
            if given.tokens is None:
                raise TypeError(f"{caller}: X holds numbers, expected texts, as in fit")
            return of_sequences([self.vocabulary.encode(one) for one in given.tokens])
        if given.values is None:
            raise TypeError(f"{caller}: X holds text, expected numbers, as in fit")
        self._check_size(caller, estimator, given)
        if isinstance(given.values, np.ndarray):
            return self.scaled(given.values)
        return [self.scaled(one) for one in given.values]

    def scaled(self, values: Array) -> Array:
        """The values in units of the training steps' spread, in float32."""
        return ((values - self.mean) / self.scale).astype(np.float32)

    def _check_size(self, caller: str, estimator: str, given: Read) -> None:
        assert given.values is not None
        has: Any = next((one.shape[-1] for one in given.values if one.size), self.features)
        expected = self.features
        if self.columns is not None and given.columns is not None:
            has, expected = given.columns, self.columns
        if has != expected:
            one = given.columns == self.features and not isinstance(given.values, list)
            hint = ": one sequence is [X]" if one else ""
            raise ValueError(
                f"{caller}: X has {has} features, but {estimator} is expecting {expected} features "
                f"as input, as in fit{hint}"
            )


def _is_row(value: Any) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.ndim == 1
        and value.dtype.kind == "f"
        and bool(np.isfinite(value).all())
    )
