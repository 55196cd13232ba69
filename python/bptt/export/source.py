# SPDX-License-Identifier: MIT
"""A whole model to export: from a file, or of an estimator."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._files.access import Path, naming
from .._files.contents import read
from .._files.parse import PARSERS
from ..io import MODEL
from ..models import files
from ..models.classifier import SequenceClassifier
from ..models.forecaster import Forecaster
from ..models.language_model import LanguageModel
from ..models.regressor import SequenceRegressor
from ..sequential.description import KEY
from ..sequential.model import Sequential
from ..sequential.rebuild import from_metadata
from .c_ends import Changes, Exported

__all__ = ["exported", "read_model"]

ESTIMATORS = (SequenceClassifier, SequenceRegressor, Forecaster, LanguageModel)


def read_model(caller: str, path: Path) -> Any:
    """The `Sequential` or the estimator of a file; of any other file the arrays by name."""
    arrays, metadata = read("load", path, PARSERS, MODEL.what)
    if files.KEY in metadata:
        return files.load(path)
    if KEY not in metadata:
        return arrays
    with naming(path):
        return from_metadata(caller, metadata, arrays)


def exported(caller: str, model: Any) -> Exported | None:
    """A whole model, and what its estimator does around it; None of anything else."""
    if isinstance(model, Sequential):
        return Exported(model)
    if not isinstance(model, ESTIMATORS):
        return None
    model._check_fitted("save_c_header")
    if isinstance(model, Forecaster):
        return _forecaster(caller, model)
    if isinstance(model, LanguageModel):
        return Exported(model.model_, tables={"tokens": model.vocabulary_.tokens})
    inputs, tables = model.inputs_, dict[str, Any]()
    if inputs.vocabulary is not None:
        tables["tokens"] = inputs.vocabulary.tokens
    scaling = None
    if inputs.mean is not None and inputs.scale is not None:
        scaling = inputs.mean, inputs.scale
    if isinstance(model, SequenceClassifier):
        tables["classes"] = [str(name) for name in model.classes_.tolist()]
        return Exported(model.model_, scaling, softmax=True, tables=tables)
    unscaling = model.target_mean_, model.target_scale_
    return Exported(model.model_, scaling, unscaling, tables=tables)


def _forecaster(caller: str, model: Forecaster) -> Exported:
    of, units = model.features_, model.scales_[0]
    if len(model.scales_) > 1:
        raise ValueError(
            f"{caller}: model has the units of {len(model.scales_)} series, expected a Forecaster "
            "of one series"
        )
    phases, steps = 2 * len(of.cycles), of.steps
    mean = np.concatenate([np.zeros(phases), np.repeat(of.mean, steps)])
    scale = np.concatenate([np.ones(phases), np.repeat(of.std, steps)])
    changes = Changes(
        of.lead, of.season is not None, units.step, units.season, units.ahead, steps, mean, scale
    )
    return Exported(model.model_, changes=changes)
