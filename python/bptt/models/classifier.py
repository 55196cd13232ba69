# SPDX-License-Identifier: MIT
"""`SequenceClassifier`: one class for each sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from .. import _core
from .._files.access import Path
from .._guesses import answering
from .._types import Array
from ..losses import cross_entropy
from .labels import as_classes, weights_of
from .sequence import FITTED, SequenceEstimator

__all__ = ["SequenceClassifier"]


class SequenceClassifier(SequenceEstimator):
    """A recurrent network that names the class of a sequence, trained by cross-entropy.

    Recurrent layers read a sequence, their outputs are pooled into one vector, and a linear layer
    and a softmax turn it into probabilities. Numbers are normalised by the mean and the spread of
    each feature over the training steps. Tokens are embedded.

    Follows scikit-learn's conventions: `clone`, `Pipeline` and `GridSearchCV` take it.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn", "mgu", "slstm", "lstm1997"}, optional
        The recurrent layers.
    hidden_size, num_layers, bidirectional : optional
        Their size, their number, and whether they read in both directions.
    pooling : {"last", "mean", "attention"}, optional
        The vector of a sequence: its last output, the mean of its outputs, or their mean weighted
        by attention.
    dropout : float, optional
        The probability of dropout after the embedding, between the layers and before the linear
        layer.
    tokens : {"words", "characters"}, optional
        The units that a string is split into. Words are in lower case; punctuation marks are tokens
        too.
    embedding_size : int, optional
        The size of a token's vector, which begins as N(0, 0.1^2).
    vocabulary_size : int or None, optional
        The largest number of tokens to learn; the less frequent ones count as unknown.
    min_count : int, optional
        Tokens that occur less often in the training data count as unknown too. From them the model
        learns what an unknown token means.
    group_column : str, optional
        The column of a pandas frame that says to which sequence a row belongs.
    class_weight : dict or "balanced", optional
        The weight of each class; "balanced": n / (C count of the class).
    epochs, batch_size, lr, schedule, validation, patience, seed, progress : optional
        As in `bptt.fit`. `validation` is a fraction; with it the best epoch's weights are kept.

    Attributes
    ----------
    model_ : Sequential
        The trained network.
    classes_ : ndarray, shape (C,)
        The classes, sorted.
    history_ : History
        Loss and, with validation, accuracy by epoch.
    n_features_in_, feature_names_in_, vocabulary_
        F, or T of a table (n, T); the columns of a frame; the `Vocabulary` of tokens.

    Examples
    --------
    >>> import numpy as np, bptt.models
    >>> rng = np.random.default_rng(0)
    >>> x = [rng.standard_normal((rng.integers(5, 15), 1)) for _ in range(300)]
    >>> y = np.array(["falls" if one.sum() < 0 else "rises" for one in x])
    >>> model = bptt.models.SequenceClassifier(hidden_size=16, epochs=20, lr=0.02).fit(x, y)
    >>> model.score(x, y) > 0.9
    True
    >>> model.predict([[1, 2, 1], [-1, -2]])
    array(['rises', 'falls'], dtype='<U5')
    """

    KIND = "classifier"
    FITTED: ClassVar[dict[str, Any]] = FITTED | {"classes_": np.ndarray}
    class_weight: Mapping[Any, float] | str | None
    classes_: Array

    @answering
    def __init__(
        self, *, cell: str = "lstm", hidden_size: int = 64, num_layers: int = 1,
        bidirectional: bool = False, pooling: str = "last", dropout: float = 0.0,
        tokens: str = "words", embedding_size: int = 64, vocabulary_size: int | None = 20_000,
        min_count: int = 2, group_column: Any = None,
        class_weight: Mapping[Any, float] | str | None = None, epochs: int = 30,
        batch_size: int = 32, lr: float = 5e-3, schedule: str | None = "cosine",
        validation: float | None = None, patience: int | None = None, seed: int = 0,
        progress: bool | None = None,
    ) -> None:  # fmt: skip
        self._keep(locals())

    def fit(
        self, X: Any, y: Any, *, sample_weight: Any = None, groups: Any = None,
        checkpoint: Path | None = None,
    ) -> SequenceClassifier:  # fmt: skip
        """Train a new network.

        Parameters
        ----------
        X : array_like, list or frame
            Sequences: an array (n, T, F), or (n, T) of one feature; a list of n arrays (T_i, F) or
            (T_i,) of different lengths; a list of texts, or of lists of tokens; a pandas frame
            with a row for each step and a `group_column`, whose sequences are in the order of
            their first rows.
        y : array_like, shape (n,), or str
            The classes: numbers or text. With a `group_column`, also the name of a column, or a
            Series whose index has the groups.
        sample_weight : array_like, shape (n,), optional
            Weights of the sequences in the loss, 0 or more.
        groups : array_like, shape (n,), optional
            The group of each sequence, such as its speaker: `validation` holds out whole groups.
        checkpoint : str or path-like, optional
            As in `bptt.fit`: an interrupted call goes on from there.

        Returns
        -------
        SequenceClassifier
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If an argument, of the constructor too, is wrong; nothing has changed then.
        """
        self._fit(X, y, sample_weight, groups, checkpoint)
        return self

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class of ``classes_``, shape (n, C).

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError, TypeError
            If `X` does not have the kind and features of the training data.
        """
        return self._result(self._outputs("predict_proba", X))

    def predict(self, X: Any) -> Array:
        """Return the most probable class of each sequence, shape (n,)."""
        predicted: Array = self._outputs("predict", X).argmax(1)
        return np.asarray(self.classes_[predicted])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy: the fraction of sequences that `predict` classifies correctly."""
        y, weights, predicted = self._scored(X, y, sample_weight)
        return float(np.average(predicted == y.reshape(predicted.shape), weights=weights))

    # --- for the base -----------------------------------------------------------------------------

    def _as_target(self, caller: str, y: Array) -> tuple[Array, Array, dict[str, Any]]:
        classes, numbers = as_classes(caller, y)
        weights = weights_of(caller, self.class_weight, classes, numbers)
        return numbers, weights, {"classes_": classes}

    @staticmethod
    def _outputs_of(learnt: dict[str, Any]) -> int:
        return len(learnt["classes_"])

    @staticmethod
    def _loss(logits: Array, rows: Array) -> tuple[float, Array]:
        return cross_entropy(logits, rows[:, 0].astype(np.intp), sample_weight=rows[:, 1])

    @staticmethod
    def _metric(logits: Array, rows: Array) -> float:
        return float(np.mean(logits.argmax(1) == rows[:, 0]))

    @staticmethod
    def _result(logits: Array) -> Array:
        y: Array = _core.softmax(np.ascontiguousarray(logits))  # the bits of `bptt export`
        return y
