# SPDX-License-Identifier: MIT
"""`SequenceRegressor`: one number, or several, for each sequence."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .._files.access import Path
from .._guesses import answering
from .._types import Array
from .._validate import as_real
from ..losses import mse
from .sequence import FITTED, SequenceEstimator

__all__ = ["SequenceRegressor"]


class SequenceRegressor(SequenceEstimator):
    """A recurrent network that estimates numbers from a sequence, trained by squared error.

    It reads sequences as `SequenceClassifier` does. It is trained on targets normalised by their
    mean and spread; predictions are in the units of the targets.

    Parameters
    ----------
    cell, hidden_size, num_layers, bidirectional, pooling, dropout : optional
        The network, as in `SequenceClassifier`.
    tokens, embedding_size, vocabulary_size, min_count, group_column : optional
        The inputs, as in `SequenceClassifier`.
    epochs, batch_size, lr, schedule, validation, patience, seed, progress : optional
        The training, as in `bptt.fit`.

    Attributes
    ----------
    model_ : Sequential
        The trained network, whose outputs are normalised targets.
    target_mean_, target_scale_ : ndarray of float64, shape (K,)
        Mean and spread of the targets.
    history_ : History
        Loss by epoch, in squared units of the spread; with validation, R^2 as metric.
    n_features_in_, feature_names_in_, vocabulary_
        As of `SequenceClassifier`.

    Examples
    --------
    >>> import numpy as np, bptt.models
    >>> rng = np.random.default_rng(0)
    >>> x = [rng.standard_normal((rng.integers(5, 15), 1)) for _ in range(300)]
    >>> y = np.array([one.sum() for one in x])
    >>> model = bptt.models.SequenceRegressor(hidden_size=16, epochs=20, lr=0.02).fit(x, y)
    >>> model.score(x, y) > 0.9
    True
    """

    KIND = "regressor"
    FITTED: ClassVar[dict[str, Any]] = FITTED | {
        "target_mean_": np.ndarray, "target_scale_": np.ndarray, "one_target_": bool,
    }  # fmt: skip
    target_mean_: Array
    target_scale_: Array
    one_target_: bool

    @answering
    def __init__(
        self, *, cell: str = "lstm", hidden_size: int = 64, num_layers: int = 1,
        bidirectional: bool = False, pooling: str = "last", dropout: float = 0.0,
        tokens: str = "words", embedding_size: int = 64, vocabulary_size: int | None = 20_000,
        min_count: int = 2, group_column: Any = None, epochs: int = 30, batch_size: int = 32,
        lr: float = 5e-3, schedule: str | None = "cosine", validation: float | None = None,
        patience: int | None = None, seed: int = 0, progress: bool | None = None,
    ) -> None:  # fmt: skip
        self._keep(locals())

    def fit(
        self, X: Any, y: Any, *, sample_weight: Any = None, groups: Any = None,
        checkpoint: Path | None = None,
    ) -> SequenceRegressor:  # fmt: skip
        """Train a new network.

        Parameters
        ----------
        X : array_like, list or frame
            Sequences, as in `SequenceClassifier.fit`.
        y : array_like, shape (n,) or (n, K), or str
            The targets. With a `group_column`, also the name of a column, or a Series by group.
        sample_weight, groups, checkpoint : optional
            As in `SequenceClassifier.fit`.

        Returns
        -------
        SequenceRegressor
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If an argument, of the constructor too, is wrong; nothing has changed then.
        """
        self._fit(X, y, sample_weight, groups, checkpoint)
        return self

    def predict(self, X: Any) -> Array:
        """Return the estimate for each sequence, shape (n,) or (n, K) as the targets.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError, TypeError
            If `X` does not have the kind and features of the training data.
        """
        return self._result(self._outputs("predict", X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R^2, 1 - (sum of squared errors) / (sum of squares about the mean of `y`).

        With several targets, the mean of their R^2.
        """
        y, weights, predicted = self._scored(X, y, sample_weight)
        return _r2(as_real("SequenceRegressor.score", "y", y).reshape(predicted.shape), predicted,
                   weights)  # fmt: skip

    # --- for the base -----------------------------------------------------------------------------

    def _as_target(self, caller: str, y: Array) -> tuple[Array, Array, dict[str, Any]]:
        if y.dtype.kind == "c":
            raise ValueError(f"{caller}: y has complex numbers. Complex data not supported")
        values = y.astype(np.float64) if y.dtype == object else as_real(caller, "y", y)
        values = values.astype(np.float64)
        if values.ndim not in (1, 2) or not values.size:
            raise ValueError(f"{caller}: y has shape {y.shape}, expected (n,) or (n, K)")
        if not np.isfinite(values).all():
            raise ValueError(f"{caller}: y contains NaN or inf, expected finite numbers")
        rows = values.reshape(len(values), -1)
        mean, scale = rows.mean(0), rows.std(0)
        scale = np.where(scale > 1e-12 * np.abs(mean), scale, 1.0)
        learnt = {"target_mean_": mean, "target_scale_": scale, "one_target_": values.ndim == 1}
        return (rows - mean) / scale, np.ones(len(rows)), learnt

    @staticmethod
    def _outputs_of(learnt: dict[str, Any]) -> int:
        return len(learnt["target_mean_"])

    @staticmethod
    def _loss(y: Array, rows: Array) -> tuple[float, Array]:
        return mse(y, rows[:, :-1], weight=rows[:, -1:])

    @staticmethod
    def _metric(y: Array, rows: Array) -> float:
        return _r2(rows[:, :-1], y, rows[:, -1])

    def _result(self, y: Array) -> Array:
        values = y * self.target_scale_ + self.target_mean_
        return values[:, 0] if self.one_target_ else values

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _check_loaded(self) -> None:
        if (
            not self.target_mean_.shape
            == self.target_scale_.shape
            == (self._outputs_of(vars(self)),)
        ):
            raise ValueError("the normalisation of the targets does not fit the model")
        super()._check_loaded()


def _r2(y: Array, predicted: Array, weights: Array) -> float:
    y, predicted, w = y.reshape(len(y), -1), predicted.reshape(len(y), -1), weights[:, None]
    left = (w * (y - predicted) ** 2).sum(0)
    total = (w * (y - np.average(y, axis=0, weights=weights)) ** 2).sum(0)
    # Of targets that do not vary, as scikit-learn: 1 if there is no error, else 0.
    scores = [1 - a / b if b else float(not a) for a, b in zip(left, total)]
    return float(np.mean(scores))
