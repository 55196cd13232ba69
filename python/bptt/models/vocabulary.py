# SPDX-License-Identifier: MIT
"""Tokens and their numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from .._types import Array
from .._validate import as_choice, as_count, as_indices
from .._words import shown
from .files import record

__all__ = ["UNITS", "UNKNOWN", "Vocabulary", "tokens_of"]

UNKNOWN = "<unk>"
UNITS = ("words", "characters")
WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")


def tokens_of(caller: str, text: str, unit: str) -> list[str]:
    """The words and punctuation marks of a text, or its characters."""
    as_choice(caller, "tokens", unit, UNITS)
    return list(text) if unit == "characters" else WORD.findall(text)


@record
@dataclass(frozen=True)
class Vocabulary:
    """A number for each token; number 0 is for all tokens that are not in it.

    Attributes
    ----------
    tokens : tuple of str
        By number; the first is "<unk>".

    Examples
    --------
    >>> from bptt.models import Vocabulary
    >>> vocabulary = Vocabulary.of([["to", "be", "or", "not", "to", "be"]], min_count=2)
    >>> vocabulary.tokens
    ('<unk>', 'be', 'to')
    >>> vocabulary.encode(["to", "see"])
    array([2, 0])
    >>> vocabulary.decode([2, 0])
    ['to', '<unk>']
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        tokens = self.tokens
        if not isinstance(tokens, tuple) or not all(isinstance(t, str) for t in tokens):
            raise TypeError(f"Vocabulary: tokens is {shown(tokens)}, expected a tuple of text")
        if tokens[:1] != (UNKNOWN,) or len(set(tokens)) < len(tokens):
            raise ValueError(
                f"Vocabulary: tokens has {shown(tokens[:4])}, expected {UNKNOWN!r} and then "
                "different tokens"
            )

    @classmethod
    def of(
        cls, sequences: Iterable[Iterable[str]], *, size: int | None = None, min_count: int = 1
    ) -> Vocabulary:
        """Number the tokens of some sequences, the most frequent first.

        Parameters
        ----------
        sequences : iterable of iterable of str
            The sequences.
        size : int, optional
            The largest number of tokens, "<unk>" included.
        min_count : int, optional
            Leave out tokens that occur less often.
        """
        size = None if size is None else as_count("Vocabulary", "size", size, 1)
        least = as_count("Vocabulary", "min_count", min_count, 1)
        counts = Counter(token for sequence in sequences for token in sequence)
        del counts[UNKNOWN]
        often = sorted((-n, token) for token, n in counts.items() if n >= least)
        return cls((UNKNOWN, *(token for _, token in often))[:size])

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._numbers

    def __repr__(self) -> str:
        return f"Vocabulary({len(self):,} tokens)"

    @cached_property
    def _numbers(self) -> dict[object, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    def encode(self, tokens: Sequence[str]) -> Array:
        """Return the number of each token, an array of int64, shape (T,)."""
        numbers = self._numbers
        return np.array([numbers.get(token, 0) for token in tokens], np.int64)

    def decode(self, ids: ArrayLike) -> list[str]:
        """Return the token of each number."""
        numbers = as_indices("Vocabulary.decode", "ids", ids, "0..size - 1", len(self) - 1)
        return [self.tokens[number] for number in numbers]
