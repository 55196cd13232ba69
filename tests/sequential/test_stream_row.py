# SPDX-License-Identifier: MIT
"""A `Sequential` step by step: each step is the model's answer to the sequence so far."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import bptt
from support.compare import error

V, E, H, T, B = 7, 3, 4, 9, 2


@pytest.mark.parametrize("top", ["steps", "last", "mean"])
@pytest.mark.parametrize("cell", [bptt.RNN, bptt.LSTM, bptt.MGU])
def test_every_step_is_the_models_answer_so_far(cell: Any, top: str) -> None:
    pool = {"steps": [], "last": [bptt.Last()], "mean": [bptt.MeanPool()]}[top]
    model = bptt.Sequential(
        bptt.Embedding(V, E, seed=0), cell(E, H, 2, seed=1, learn_state=True), bptt.Dropout(0.9),
        bptt.LayerNorm(H), bptt.GRU(H, H, seed=2), *pool, bptt.Linear(H, 3, seed=3),
    )  # fmt: skip
    model.parameters["1.h0_l0"][...] = 0.5
    ids = np.random.default_rng(4).integers(0, V, (T, B))
    stream = model.stream(B)
    for _ in range(2):
        for t in range(T):
            y = stream.step(ids[t])
            want = model(ids[: t + 1])
            assert error(y, want if pool else want[-1]) < 1e-5
        stream.reset()


def test_the_recurrent_layers_have_the_bits_of_a_whole_call() -> None:
    model = bptt.Sequential(bptt.LSTM(E, H, seed=0), bptt.GRU(H, H, seed=1), bptt.Last())
    x = np.random.default_rng(0).standard_normal((T, B, E)).astype("float32")
    stream = model.stream(B)
    for x_t in x:
        y = stream.step(x_t)
    assert y.tobytes() == model(x).tobytes()
    state = model.forward(x)[1].state
    (h, c), g = stream.state
    assert (h.tobytes(), c.tobytes()) == tuple(part.tobytes() for part in state[0])
    assert g.tobytes() == state[1].tobytes()
    again = model.stream(B, stream.state)
    assert again.step(x[0]).tobytes() == stream.step(x[0]).tobytes()
    stream.reset([True, False])
    assert not stream.state[1][:, 0].any()
    assert stream.state[1][:, 1].any()


def test_models_that_need_the_end_are_refused() -> None:
    both = bptt.Sequential(bptt.Dropout(), bptt.GRU(E, H, bidirectional=True))
    with pytest.raises(ValueError, match=r"^Sequential\.stream: layer 1, GRU: the layer is bidir"):
        both.stream()
    pooled = bptt.Sequential(bptt.GRU(E, H), bptt.Attention(H))
    with pytest.raises(ValueError, match="layer 1, Attention, needs all steps at once"):
        pooled.stream()
    stream = bptt.Sequential(bptt.GRU(E, H)).stream(2)
    with pytest.raises(ValueError, match=r"stream\.step: x has shape \(3, 3\), expected B = 2"):
        stream.step(np.ones((3, E)))
    with pytest.raises(TypeError, match="expected a list of 1 states"):
        stream.state = np.ones(3)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(stream)
