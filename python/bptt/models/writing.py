# SPDX-License-Identifier: MIT
"""The methods of a fitted `LanguageModel`: it measures a text, and writes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from .._types import Array, Seed
from .._validate import as_between, as_count, as_generator
from .._words import shown
from ..losses import cross_entropy, softmax
from ..sequential.model import Sequential
from ..training import History
from .base import Estimator
from .vocabulary import Vocabulary, tokens_of

__all__ = ["Writing"]

ROWS = 1024  # positions whose logits are computed together
AFTER_A_WORD = frozenset(".,;:!?)]}%")  # marks without a space before them
BEFORE_A_WORD = frozenset("([{")


class Writing(Estimator):
    """The base of `LanguageModel`: all but its training."""

    tokens: str

    model_: Sequential
    vocabulary_: Vocabulary
    history_: History

    def perplexity(self, text: str) -> float:
        """exp of the mean cross-entropy of each token after the first, in nats.

        The text is read from its beginning in one go. Tokens that are not in the vocabulary count
        as "<unk>". The base-2 logarithm of the result is in bits a token.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError, TypeError
            If `text` is no text, or has fewer than two tokens.
        """
        self._check_fitted("perplexity")
        caller = "LanguageModel.perplexity"
        ids = self.vocabulary_.encode(self._tokens(caller, "text", text))
        if len(ids) < 2:
            raise ValueError(f"{caller}: text has {len(ids)} tokens, expected two or more")
        *below, head = self.model_.layers
        h, total = Sequential(*below)(ids[:-1, None])[:, 0], 0.0
        for start in range(0, len(h), ROWS):
            target = ids[1 + start : 1 + start + ROWS]
            total += cross_entropy(head(h[start : start + ROWS]), target)[0] * len(target)
        return math.exp(total / len(h))

    def generate(
        self, prompt: str, *, length: int = 200, temperature: float = 1.0,
        top_k: int | None = None, seed: Seed = None,
    ) -> str:  # fmt: skip
        """Write on after a prompt.

        Parameters
        ----------
        prompt : str
            At least one token.
        length : int, optional
            Number of tokens to write.
        temperature : float, optional
            The logits are divided by it: below 1 for likelier text; 0 for the likeliest token.
        top_k : int, optional
            Draw only from the k likeliest tokens.
        seed : int or numpy.random.Generator, optional
            For the draws; a random seed if omitted.

        Returns
        -------
        str
            The new text, without the prompt; "<unk>" is never drawn.
        """
        count = as_count("LanguageModel.generate", "length", length, 0)
        pieces = self.stream(prompt, temperature=temperature, top_k=top_k, seed=seed)
        return "".join(islice(pieces, count))

    def stream(
        self, prompt: str, *, temperature: float = 1.0, top_k: int | None = None, seed: Seed = None
    ) -> Iterator[str]:
        """Write without end, token by token: the pieces that `generate` joins, as they come."""
        self._check_fitted("stream")
        caller = "LanguageModel.generate"
        tokens = self._tokens(caller, "prompt", prompt)
        if not tokens:
            raise ValueError(f"{caller}: prompt is {shown(prompt)}, expected at least one token")
        degree = as_between(caller, "temperature", temperature, 0)
        most = None if top_k is None else as_count(caller, "top_k", top_k, 1)
        rng = as_generator(caller, "seed", seed)

        def written() -> Iterator[str]:  # the arguments are checked at the call
            stream, ids = self.model_.stream(), self.vocabulary_.encode(tokens)
            while True:
                for number in ids:
                    logits = stream.step(np.array([number]))[0]
                ids = np.array([sampled(logits, degree, most, rng)])
                yield from self.vocabulary_.decode(ids)

        return pieces_of(written(), tokens[-1], self.tokens)

    def _tokens(self, caller: str, label: str, text: Any) -> list[str]:
        if not isinstance(text, str):
            raise TypeError(f"{caller}: {label} is {shown(text)}, expected text")
        return tokens_of(caller, text, self.tokens)

    def _check_loaded(self) -> None:
        if self.model_(np.full((1, 1), len(self.vocabulary_) - 1)).shape[2:] != (
            len(self.vocabulary_),
        ):
            raise ValueError("the model does not fit its vocabulary")


def sampled(logits: Array, temperature: float, top_k: int | None, rng: np.random.Generator) -> int:
    """Draw a token, but never number 0, which stands for unknown ones."""
    z = logits[1:].astype(np.float64)
    if temperature == 0 or len(z) == 1:
        return 1 + int(np.argmax(z))
    if top_k is not None and top_k < len(z):
        z[np.argpartition(z, -top_k)[:-top_k]] = -np.inf
    z -= z.max()  # so that a small temperature does not overflow
    with np.errstate(over="ignore"):
        return 1 + int(rng.choice(len(z), p=softmax(z / temperature)))


def pieces_of(tokens: Iterable[str], before: str, unit: str) -> Iterator[str]:
    """Put a space before a word, but not before a mark that ends one."""
    for token in tokens:
        alone = unit == "characters" or token in AFTER_A_WORD or before in BEFORE_A_WORD
        yield token if alone else f" {token}"
        before = token
