# SPDX-License-Identifier: MIT
"""The network of the estimators that predict at every step."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._validate import as_choice, as_count, as_probability
from ..layers.cells import LAYERS
from ..layers.dropout import Dropout
from ..layers.embedding import Embedding
from ..layers.linear import Linear
from ..sequential.model import Sequential

__all__ = ["network_of_steps"]


def network_of_steps(
    caller: str, estimator: Any, inputs: int, outputs: int, tokens: int | None = None
) -> Sequential:
    """An embedding of `tokens`, if any, the recurrent layer of an estimator, and a linear layer."""
    kind = LAYERS[as_choice(caller, "cell", estimator.cell, tuple(LAYERS))]
    hidden = as_count(caller, "hidden_size", estimator.hidden_size, 1)
    count = as_count(caller, "num_layers", estimator.num_layers, 1)
    rate = as_probability(caller, "dropout", estimator.dropout)
    seed = as_count(caller, "seed", estimator.seed, 0)
    seeds = map(int, np.random.SeedSequence(seed).generate_state(5))
    layers: list[Any] = []
    if tokens is not None:
        layers.append(Embedding(tokens, inputs, seed=next(seeds)))
        layers += [Dropout(rate, seed=next(seeds))] if rate else []
    layers.append(kind(
        inputs, hidden, num_layers=count, dropout=rate if count > 1 else 0.0, seed=next(seeds)
    ))  # fmt: skip
    layers += [Dropout(rate, seed=next(seeds))] if rate else []
    return Sequential(*layers, Linear(hidden, outputs, seed=next(seeds)))
