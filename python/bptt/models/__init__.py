# SPDX-License-Identifier: MIT
"""Estimators: from arrays, a table or texts to a trained model, with scikit-learn's conventions."""

from .base import NotFittedError
from .classifier import SequenceClassifier
from .files import load
from .forecaster import Forecaster
from .language_model import LanguageModel
from .regressor import SequenceRegressor
from .vocabulary import Vocabulary

__all__ = [
    "Forecaster",
    "LanguageModel",
    "NotFittedError",
    "SequenceClassifier",
    "SequenceRegressor",
    "Vocabulary",
    "load",
]
