# SPDX-License-Identifier: MIT
"""A call that is refused draws nothing from the caller's generator: the next has the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import init, regularise, tasks

W, WRONG = np.zeros((4, 4)), np.zeros(4)
TAPE = bptt.RNN(3, 4, seed=0).forward(np.ones((5, 2, 3)))[2]

CALLS: dict[str, Callable[[Any], Any]] = {
    "layer size": lambda rng: bptt.LSTM(0, 3, seed=rng),
    "layer option": lambda rng: bptt.GRU(2, 3, zoneout=2.0, seed=rng),
    "layer dtype": lambda rng: bptt.RNN(2, 3, dtype="f2", seed=rng),
    "layer compute": lambda rng: bptt.RNN(2, 3, compute="bf8", seed=rng),
    "heads": lambda rng: bptt.SLSTM(2, 4, heads=3, seed=rng),
    "skip": lambda rng: bptt.MGU(2, 4, dilation=2, skip=3, seed=rng),
    "projection": lambda rng: bptt.LSTM(2, 4, proj_size=4, seed=rng),
    "linear": lambda rng: bptt.Linear(2, 3, activation="gelu", seed=rng),
    "embedding": lambda rng: bptt.Embedding(2, 0, seed=rng),
    "attention": lambda rng: bptt.Attention(2, "cosine", seed=rng),
    "normal std": lambda rng: init.normal(W, rng, -1.0),
    "orthogonal": lambda rng: init.orthogonal(WRONG, rng),
    "orthogonal gates": lambda rng: init.orthogonal(np.zeros((5, 2)), rng, gates=2),
    "chrono": lambda rng: init.chrono(bptt.RNN(2, 3, seed=0), 10, rng),
    "chrono steps": lambda rng: init.chrono(bptt.LSTM(2, 3, seed=0), 1, rng),
    "adding": lambda rng: tasks.adding(1, 2, seed=rng),
    "adding batch": lambda rng: tasks.adding(10, 0, seed=rng),
    "copy": lambda rng: tasks.copy_memory(0, 2, seed=rng),
    "temporal order": lambda rng: tasks.temporal_order(3, 2, seed=rng),
    "flossing": lambda rng: regularise.flossing(TAPE, 9, rng=rng),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_refused_call_draws_nothing(call: Callable[[Any], Any]) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises((ValueError, TypeError)):
        call(rng)
    assert rng.random() == np.random.default_rng(0).random()
