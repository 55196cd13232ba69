# SPDX-License-Identifier: MIT
"""Keras 2 and 3, and what tests of both need."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 6, 3)).astype(np.float32)
IDS = RNG.integers(0, 7, (2, 6))


def keras_of(version: int) -> Any:
    """Keras 3 on PyTorch, or Keras 2, which is called tf_keras today."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if version == 3:
            pytest.importorskip("torch")
            library = pytest.importorskip("keras")
            if library.backend.backend() != "torch":
                pytest.skip("Keras has another backend than torch")
            return library
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        return pytest.importorskip("tf_keras")


def outputs(model: Any, x: Any) -> Any:
    y = model(x)
    return np.asarray(y.detach() if hasattr(y, "detach") else y)


def chain(layers: Any, x: Any) -> Any:
    for layer in layers:
        result = layer(x)
        x = result[0] if isinstance(result, tuple) else result
    return x


def randomised(model: Any) -> Any:
    model.set_weights([RNG.standard_normal(w.shape) * 0.7 for w in model.get_weights()])
    return model


def save(model: Any, path: Path) -> Path:
    with warnings.catch_warnings():  # .h5 is old
        warnings.simplefilter("ignore")
        getattr(model, "save_weights" if "weights" in path.name else "save")(str(path))
    return path
