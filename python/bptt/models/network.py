# SPDX-License-Identifier: MIT
"""The network of the estimators."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._validate import as_choice, as_count, as_flag, as_probability
from ..layers.attention import Attention
from ..layers.cells import LAYERS
from ..layers.dropout import Dropout
from ..layers.embedding import Embedding
from ..layers.linear import Linear
from ..layers.pooling import Last, MeanPool
from ..sequential.model import Sequential

__all__ = ["POOLINGS", "network_of"]

POOLINGS = ("last", "mean", "attention")
EMBEDDING_STD = np.float32(0.1)  # of a token's vector at the start, before a pool


def network_of(
    caller: str, estimator: Any, inputs: int | None, outputs: int, tokens: int = 0
) -> Sequential:
    """An embedding if `inputs` is None, the recurrent layer of an estimator, and a linear layer.

    With an attribute ``pooling`` there is a pool before the linear layer.
    """
    kind = LAYERS[as_choice(caller, "cell", estimator.cell, tuple(LAYERS))]
    hidden = as_count(caller, "hidden_size", estimator.hidden_size, 1)
    count = as_count(caller, "num_layers", estimator.num_layers, 1)
    both = as_flag(caller, "bidirectional", getattr(estimator, "bidirectional", False))
    rate = as_probability(caller, "dropout", estimator.dropout)
    seed = as_count(caller, "seed", estimator.seed, 0)
    embedded = as_count(caller, "embedding_size", getattr(estimator, "embedding_size", 1), 1)
    seeds = map(int, np.random.SeedSequence(seed).generate_state(6))

    layers, width = list[Any](), hidden * (1 + both)
    pooled = hasattr(estimator, "pooling")
    if inputs is None:
        inputs = embedded
        layers.append(Embedding(tokens, inputs, seed=next(seeds)))
        if pooled:  # what a rare token learns in a few updates must outweigh how its vector began
            layers[0].parameters["weight"] *= EMBEDDING_STD
        layers += [Dropout(rate, seed=next(seeds))] if rate else []
    layers.append(kind(
        inputs, hidden, num_layers=count, bidirectional=both, dropout=rate if count > 1 else 0.0,
        seed=next(seeds),
    ))  # fmt: skip
    if pooled:
        pooling = as_choice(caller, "pooling", estimator.pooling, POOLINGS)
        of = {"last": Last, "mean": MeanPool}.get(pooling)
        layers.append(of() if of else Attention(width, seed=next(seeds)))
    layers += [Dropout(rate, seed=next(seeds))] if rate else []
    return Sequential(*layers, Linear(width, outputs, seed=next(seeds)))
