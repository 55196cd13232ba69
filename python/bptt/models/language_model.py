# SPDX-License-Identifier: MIT
"""The estimator `LanguageModel`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .._files.access import Path
from .._guesses import answering
from .._types import Array
from .._validate import as_between, as_count
from ..losses import IGNORED, cross_entropy
from ..sequential.model import Sequential
from ..training import History, fit
from .network import network_of
from .vocabulary import Vocabulary
from .writing import Writing

__all__ = ["LanguageModel"]


class LanguageModel(Writing):
    """Predict the next character or word of a text, and write text.

    An embedding, a recurrent layer and a linear layer give the logits of the next token. In
    training they read windows of the text. In each but the first, the first quarter is read but not
    predicted, so that no prediction starts without context.

    Parameters
    ----------
    tokens : {"characters", "words"}, optional
        The units that a text is split into; punctuation marks and ends of lines are words too.
    window : int, optional
        The tokens of a window, 4 or more: gradients reach no further.
    vocabulary_size, min_count : int, optional
        The largest number of tokens, and the smallest count of each: all others become "<unk>".
    cell : {"lstm", "gru", "rnn", "mgu", "slstm", "lstm1997"}, optional
    embedding_size, hidden_size, num_layers : int, optional
        Sizes of the layers.
    dropout : float, optional
        Between the layers.
    epochs, batch_size, lr, schedule, patience, progress
        As in `bptt.fit`.
    validation : float, optional
        The fraction of the text, its end, that is held out for early stopping; None for none.
    seed : int, optional
        For parameters, order and dropout.

    Attributes
    ----------
    model_ : Sequential
        The network: ids (T, B) to logits (T, B, tokens).
    vocabulary_ : Vocabulary
        The tokens.
    history_ : History
        Losses in nats a token; exp(loss) is the perplexity.

    References
    ----------
    Mikolov, Karafiat, Burget, Cernocky & Khudanpur (2010), "Recurrent neural network based language
    model", Interspeech.

    Examples
    --------
    >>> from bptt.models import LanguageModel
    >>> model = LanguageModel(hidden_size=16, window=16, epochs=30, batch_size=8, lr=0.02)
    >>> model = model.fit("abcd" * 200)
    >>> model.generate("ab", length=6, seed=0)
    'cdabcd'
    >>> bool(1 < model.perplexity("abcdabcd") < 1.1)
    True
    """

    FITTED: ClassVar[dict[str, Any]] = {
        "model_": Sequential, "vocabulary_": Vocabulary, "history_": History,
    }  # fmt: skip

    @answering
    def __init__(
        self, *, tokens: str = "characters", window: int = 128,
        vocabulary_size: int | None = 20_000, min_count: int = 1, cell: str = "lstm",
        embedding_size: int = 32, hidden_size: int = 128, num_layers: int = 1,
        dropout: float = 0.0, epochs: int = 15, batch_size: int = 16, lr: float = 5e-3,
        schedule: str | None = "cosine", validation: float | None = 0.1,
        patience: int | None = None, seed: int = 0, progress: bool | None = None,
    ) -> None:  # fmt: skip
        self.tokens, self.window = tokens, window
        self.vocabulary_size, self.min_count = vocabulary_size, min_count
        self.cell, self.embedding_size, self.hidden_size = cell, embedding_size, hidden_size
        self.num_layers, self.dropout, self.epochs = num_layers, dropout, epochs
        self.batch_size, self.lr, self.schedule = batch_size, lr, schedule
        self.validation, self.patience = validation, patience
        self.seed, self.progress = seed, progress

    def fit(self, text: str, y: Any = None, *, checkpoint: Path | None = None) -> LanguageModel:
        """Train on a text.

        Parameters
        ----------
        text : str
            At least two windows long.
        y : None
            For pipelines; not read.
        checkpoint : str or path-like, optional
            As in `bptt.fit`.

        Raises
        ------
        ValueError, TypeError
            If an argument is wrong.
        """
        caller = "LanguageModel.fit"
        window = as_count(caller, "window", self.window, 4)
        tokens, held = self._tokens(caller, "text", text), 0
        if self.validation is not None:
            fraction = as_between(caller, "validation", self.validation, 0, 1)
            held = max(round(fraction * len(tokens)), 1)
        split = len(tokens) - held
        if split < window + 1:
            raise ValueError(
                f"{caller}: text has {len(tokens)} tokens, {held} of them held out, expected "
                f"window + 1 = {window + 1} others or more"
            )
        known = Vocabulary.of([tokens[:split]], size=self.vocabulary_size, min_count=self.min_count)
        model = network_of(caller, self, None, len(known), len(known))
        ids, lead = known.encode(tokens), window // 4
        history = fit(
            model, windows_of(ids[:split], window), loss=cross_entropy, epochs=self.epochs,
            batch_size=self.batch_size, lr=self.lr, schedule=self.schedule,
            validation=windows_of(ids[split - lead - 1 :], window, lead) if held else None,
            patience=self.patience if held else None, checkpoint=checkpoint, seed=self.seed,
            progress=self.progress,
        )  # fmt: skip
        self.model_, self.vocabulary_, self.history_ = model, known, history
        return self


def windows_of(ids: Array, window: int, lead: int = 0) -> tuple[Array, Array]:
    """Windows of a text and their next tokens, each of which counts once after the first `lead`.

    Each window but the first begins with a quarter, or more, of tokens that another has predicted.
    """
    T = min(window, len(ids) - 1)
    last = len(ids) - 1 - T
    starts = np.array([*range(0, last, T - T // 4), last])
    at = starts[:, None] + np.arange(T)
    target = ids[at + 1]
    target[0, :lead] = IGNORED
    target[1:][at[1:] < starts[:-1, None] + T] = IGNORED
    return ids[at], target
