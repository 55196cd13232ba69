# SPDX-License-Identifier: MIT
"""Estimators: from arrays, a table or texts to a trained model, with scikit-learn's conventions."""

from .base import NotFittedError
from .files import load
from .vocabulary import Vocabulary

__all__ = ["NotFittedError", "Vocabulary", "load"]
