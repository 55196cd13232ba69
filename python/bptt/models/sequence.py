# SPDX-License-Identifier: MIT
"""What the estimators with one prediction for each sequence share: the model and its training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from .._files.access import Path
from .._types import Array
from .._validate import as_array, as_choice, as_count, as_real
from ..batches import pad_sequences
from ..sequential.model import Sequential
from ..sequential.stream import in_one_order
from ..training import History, fit
from .base import Estimator
from .frames import of_each_sequence
from .inputs import read
from .network import network_of
from .preparation import Preparation
from .stream import SequenceStream
from .vocabulary import UNITS

__all__ = ["FITTED", "SequenceEstimator"]

FITTED: dict[str, Any] = {"model_": Sequential, "inputs_": Preparation, "history_": History}
CHUNK = 256  # sequences in one call of the model, for predictions


class SequenceEstimator(Estimator, ABC):
    """The base of `SequenceClassifier` and `SequenceRegressor`."""

    cell: str
    hidden_size: int
    num_layers: int
    bidirectional: bool
    pooling: str
    dropout: float
    tokens: str
    embedding_size: int
    vocabulary_size: int | None
    min_count: int
    group_column: Any
    epochs: int
    batch_size: int
    lr: float
    schedule: str | None
    validation: float | None
    patience: int | None
    seed: int
    progress: bool | None
    model_: Sequential
    inputs_: Preparation
    history_: History

    # --- what differs -----------------------------------------------------------------------------

    @abstractmethod
    def _as_target(self, caller: str, y: Array) -> tuple[Array, Array, dict[str, Any]]:
        """Check `y`: targets in numbers, a weight for each sequence, and attributes to keep."""

    @staticmethod
    @abstractmethod
    def _outputs_of(learnt: dict[str, Any]) -> int:
        """The number of outputs of the model, from these attributes."""

    @staticmethod
    @abstractmethod
    def _loss(y: Array, rows: Array) -> tuple[float, Array]:
        """The loss of outputs; `rows` has the targets and, in its last column, the weights."""

    @staticmethod
    @abstractmethod
    def _metric(y: Array, rows: Array) -> float:
        """The metric of the history."""

    @abstractmethod
    def _result(self, y: Array) -> Array:
        """What a stream returns for outputs."""

    @abstractmethod
    def predict(self, X: Any) -> Array:
        """Return the prediction for each sequence."""

    # --- training ---------------------------------------------------------------------------------

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any, checkpoint: Path | None) -> Any:
        """Check all arguments, train a new model, and keep it."""
        name = type(self).__name__
        caller = f"{name}.fit"
        of_each = {"y": y, "sample_weight": sample_weight, "groups": groups}
        beside = [value for value in of_each.values() if isinstance(value, str)]
        as_choice(caller, "tokens", self.tokens, UNITS)
        given = read(caller, X, self.tokens, self.group_column, None, beside)
        if given.values is not None and not sum(map(len, given.values)):
            raise ValueError(f"{caller}: X has no steps, expected one or more in a sequence")
        if y is None:
            raise ValueError(f"{caller}: {name} requires y to be passed, but the target y is None")
        of_each = {
            label: value if value is None else self._of_each(caller, label, value, X, len(given))
            for label, value in of_each.items()
        }
        weights = _as_weights(caller, of_each["sample_weight"], len(given))
        target, by_class, learnt = self._as_target(caller, of_each["y"])
        inputs = Preparation.of(
            given,
            None if self.vocabulary_size is None
            else as_count(caller, "vocabulary_size", self.vocabulary_size, 2),
            as_count(caller, "min_count", self.min_count, 1),
        )  # fmt: skip
        tokens = 0 if inputs.vocabulary is None else len(inputs.vocabulary)
        model = network_of(caller, self, inputs.features, self._outputs_of(learnt), tokens)
        history = fit(
            model,
            (inputs(caller, name, given), np.column_stack([target, weights * by_class])),
            loss=self._loss, epochs=self.epochs, batch_size=self.batch_size, lr=self.lr,
            schedule=self.schedule, validation=self.validation, groups=of_each["groups"],
            patience=self.patience, metric=None if self.validation is None else self._metric,
            checkpoint=checkpoint, seed=self.seed, progress=self.progress,
        )  # fmt: skip
        vars(self).update(learnt, model_=model, inputs_=inputs, history_=history)
        return self

    # --- predictions ------------------------------------------------------------------------------

    def _outputs(self, method: str, X: Any) -> Array:
        """The model's outputs, with the same bits for a sequence in any batch."""
        self._check_fitted(method)
        name, inputs = type(self).__name__, self.inputs_
        caller = f"{name}.{method}"
        given = read(caller, X, self.tokens, self.group_column, inputs.names)
        sequences = inputs(caller, name, given)
        *below, head = self.model_.layers
        body, rows = Sequential(*below), list[Array]()
        for start in range(0, len(given), CHUNK):
            x, lengths = pad_sequences([*sequences[start : start + CHUNK]])
            # NumPy's products have bits that depend on the number of rows.
            rows.append(in_one_order(head, body(x, lengths=lengths)))
        return np.concatenate(rows)

    def _scored(self, X: Any, y: Any, sample_weight: Any) -> tuple[Array, Array, Array]:
        """Targets, weights and predictions, for a score."""
        predicted, caller = self.predict(X), f"{type(self).__name__}.score"
        y = self._of_each(caller, "y", y, X, len(predicted))
        if sample_weight is not None:
            sample_weight = self._of_each(caller, "sample_weight", sample_weight, X, len(predicted))
        return y, _as_weights(caller, sample_weight, len(predicted)), predicted

    def _of_each(self, caller: str, label: str, value: Any, X: Any, n: int) -> Array:
        """An entry for each of the `n` sequences."""
        value = of_each_sequence(caller, label, value, X, self.group_column)
        array = np.asarray(as_array(caller, label, value))
        if not array.ndim or len(array) != n:
            raise ValueError(
                f"{caller}: {label} has shape {array.shape}, expected an entry for each of the {n} "
                "sequences"
            )
        return array

    def stream(self) -> SequenceStream:
        """Return a `SequenceStream`, which reads one sequence step by step.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            If it needs all steps at once, with ``bidirectional=True``.
        """
        self._check_fitted("stream")
        caller = f"{type(self).__name__}.stream"
        if any(getattr(of, "bidirectional", False) for of in self.model_.layers):
            raise ValueError(f"{caller}: bidirectional is True, expected False")
        return SequenceStream(self.model_, self.inputs_, self._result)

    # --- what was learnt --------------------------------------------------------------------------

    @property
    def n_features_in_(self) -> int:
        """F; T of a table (n, T), as scikit-learn counts."""
        features = self._learnt("n_features_in_").features
        if features is None:
            raise AttributeError("n_features_in_: the estimator reads tokens, expected numbers")
        return self.inputs_.columns or features

    @property
    def feature_names_in_(self) -> Array:
        """The names of a frame's columns."""
        names = self._learnt("feature_names_in_").names
        if names is None or not all(isinstance(name, str) for name in names):
            raise AttributeError("feature_names_in_: fit was given no names of columns")
        return np.array(names, object)

    @property
    def vocabulary_(self) -> Any:
        """The `Vocabulary` of an estimator of tokens, else None."""
        return self._learnt("vocabulary_").vocabulary

    def _learnt(self, name: str) -> Preparation:
        self._check_fitted(name)
        return self.inputs_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = tags.input_tags.string = True
        return tags

    def _check_loaded(self) -> None:
        inputs, outputs = self.inputs_, self._outputs_of(vars(self))
        x = np.zeros((1, 1)) if inputs.features is None else np.zeros((1, 1, inputs.features))
        if inputs.vocabulary is not None:
            x = np.full((1, 1), len(inputs.vocabulary) - 1)
        if self.model_(x).shape != (1, outputs):
            raise ValueError("the model does not fit its inputs and outputs")


# --- checks ---------------------------------------------------------------------------------------


def _as_weights(caller: str, value: Any, n: int) -> Array:
    if value is None:
        return np.ones(n)
    weights = as_real(caller, "sample_weight", value).astype(np.float64)
    if weights.shape != (n,):
        raise ValueError(
            f"{caller}: sample_weight has shape {weights.shape}, expected (n,) = ({n},)"
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(
            f"{caller}: sample_weight has values {weights.min():g}..{weights.max():g}, expected "
            "finite numbers of zero or more, not every weight zero"
        )
    return weights
