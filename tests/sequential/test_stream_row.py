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


@pytest.mark.parametrize("top", ["steps", "last", "mean", "attention"])
@pytest.mark.parametrize("cell", [bptt.RNN, bptt.LSTM, bptt.MGU])
def test_every_step_is_the_models_answer_so_far(cell: Any, top: str) -> None:
    pools = {"last": bptt.Last(), "mean": bptt.MeanPool(), "attention": bptt.Attention(H, seed=5)}
    pool = [pools[top]] if top in pools else []
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
    model = bptt.Sequential(bptt.GRU(E, H))
    with pytest.raises(ValueError, match=r"^Sequential\.stream: layer 0, GRU: state has shape"):
        model.stream(2, [np.ones((1, 3, H))])
    stream = model.stream(2)
    with pytest.raises(TypeError, match="expected a list of 1 states"):
        stream.state = np.ones(3)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(stream)


MEAN = [bptt.Dropout(), bptt.MeanPool(), bptt.Linear(E, H, seed=0)]
IDS = [bptt.Embedding(V, E, seed=0), bptt.GRU(E, H, seed=1, batch_first=True)]
WRONG = {
    "features": (MEAN, "step", np.ones((B, 4)), "has shape (2, 4), expected (B, I) with B = 2, I"),
    "batch": (MEAN, "step", np.ones((3, E)), "has shape (3, 3), expected (B, I) with B = 2, I = 3"),
    "time": (MEAN, "step", np.ones((T, B, E)), "has shape (9, 2, 3), expected (B, I) with B = 2"),
    "one step": (MEAN, "process", np.ones((B, E)), "has shape (2, 3), expected (T, B, I) with B"),
    "turned": (
        IDS,
        "process",
        np.ones((T, B), int),
        "has shape (9, 2), expected (B, T) with B = 2",
    ),
    "id": (IDS, "step", [0, V], "Embedding: x has values 0..7, expected 0..num_embeddings - 1"),
    "text": (MEAN, "step", [["a"] * E] * B, "has dtype <U1, expected real numbers"),
    "ids": (
        MEAN,
        "step",
        [0, 1],
        "has shape (2,), expected (B, I) with B = 2, I = 3; ids become f",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_step_that_does_not_fit_is_refused_and_nothing_changes(case: str) -> None:
    layers, call, x, message = WRONG[case]
    model = bptt.Sequential(*layers)
    stream, other = model.stream(B), model.stream(B)
    right = np.ones((B, E)) if layers is MEAN else np.array([1, 2])
    first = [one.step(right) for one in (stream, other)]
    with pytest.raises((ValueError, TypeError)) as caught:
        getattr(stream, call)(x)
    start = "" if message.startswith("Embedding") else f"stream.{call}: x "
    assert str(caught.value).startswith(f"{start}{message}")
    again = [one.step(2 * right) for one in (stream, other)]
    for a, b in (first, again):
        assert a.tobytes() == b.tobytes()


def test_sums_keep_the_number_of_features_that_came_first() -> None:
    stream = bptt.Sequential(bptt.MeanPool()).stream(1)
    assert stream.step([[1.0, 3.0]]).tolist() == [[1, 3]]
    with pytest.raises(
        ValueError, match=r"has shape \(1, 3\), expected \(B, I\) with B = 1, I = 2"
    ):
        stream.step([[1.0, 2.0, 3.0]])
    assert stream.step([[3.0, 5.0]]).tolist() == [[2, 4]]


def test_attention_far_apart_scores_and_resets() -> None:
    attention = bptt.Attention(2, dtype="float64", seed=0)
    attention.parameters["weight_score"][...] = [800, -700]  # exp of a score would overflow
    model = bptt.Sequential(attention)
    x = np.random.default_rng(0).standard_normal((20, B, 2))
    stream = model.stream(B)
    for t in range(20):
        assert error(stream.step(x[t]), model(x[: t + 1])) < 1e-13
    stream.reset([True, False])
    y = stream.process(x)
    assert error(y[-1, 0], model(x)[0]) < 1e-13
    assert error(y[-1, 1], model(np.concatenate([x, x]))[1]) < 1e-13
