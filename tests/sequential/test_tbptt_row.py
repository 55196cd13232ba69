# SPDX-License-Identifier: MIT
"""`tbptt` of a `Sequential`, with a trained embedding in front."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import bptt
from support.compare import assert_close, same_bits
from support.problems import flat

V, E, H, T, B = 9, 3, 4, 13, 2


def made(batch_first: bool = False, dtype: str = "float64", **options: Any) -> Any:
    of = {"batch_first": batch_first, "dtype": dtype, "seed": 1, **options}
    return bptt.Sequential(
        bptt.Embedding(V, E, seed=0, dtype=dtype), bptt.LSTM(E, H, 2, **of),
        bptt.LayerNorm(H, dtype=dtype), bptt.GRU(H, H, **of),
        bptt.Linear(H, V, seed=2, dtype=dtype),
    )  # fmt: skip


def data(batch_first: bool = False) -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    ids, dy = rng.integers(0, V, (T, B)), rng.standard_normal((T, B, V))
    return (ids.T.copy(), dy.swapaxes(0, 1).copy()) if batch_first else (ids, dy)


def states(state: Any) -> dict[str, Any]:
    return {f"{k}.{i}": a for k, s in enumerate(state) for i, a in enumerate(flat(s))}


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options", [{}, {"learn_state": True, "zoneout": 0.2}])
def test_one_chunk_is_the_model_to_the_last_bit(batch_first: bool, options: Any) -> None:
    model, twin = made(batch_first, **options), made(batch_first, **options)
    ids, dy = data(batch_first)
    lengths, resets = [13, 5], np.zeros(ids.shape, bool)
    resets[..., 1] = True
    y, tape = twin.forward(ids, None, lengths, resets)
    (chunk,) = bptt.tbptt(model, ids, T, T, lengths=lengths, resets=resets)
    same_bits({"y": chunk.y, **states(chunk.state)}, {"y": y, **states(tape.state)})
    got, want = chunk.backward(dy, tape.state), twin.backward(tape, dy, tape.state)
    same_bits({**got.params, **states(got.state)}, {**want.params, **states(want.state)})
    assert got.params.keys() == model.parameters.keys()
    assert got.x is None


@pytest.mark.parametrize(("k1", "k2"), [(5, 5), (4, 8), (5, 7), (1, 3)])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_gradient_is_that_of_the_window_from_a_constant_state(
    k1: int, k2: int, batch_first: bool
) -> None:
    model, (ids, dy) = made(batch_first), data(batch_first)
    axis = int(batch_first)
    for c in bptt.tbptt(model, ids, k1, k2):
        cut = [np.take(a, range(T)[c.window], axis) for a in (ids, dy)]
        start = c.window.start
        before = model.forward(np.take(ids, range(start), axis))[1].state if start else None
        y, tape = model.forward(cut[0], before)
        d = cut[1].copy()
        d[(slice(None),) * axis + (slice(c.steps.start - start),)] = 0
        want = model.backward(tape, d)
        got = c.backward(np.take(dy, range(T)[c.steps], axis))
        assert_close({**got.params}, {**want.params}, 1e-12)
        tail = np.take(y, range(c.steps.start - start, c.steps.stop - start), axis)
        assert_close({"y": c.y}, {"y": tail}, 1e-12)


def test_it_trains_the_embedding_with_a_carried_state() -> None:
    ids = np.tile([[1], [2], [3], [4]], (30, 1))
    model = bptt.Sequential(
        bptt.Embedding(5, 4, seed=0), bptt.GRU(4, 8, seed=1), bptt.Linear(8, 5, seed=2)
    )
    adam, losses, before = bptt.Adam(model.parameters, 0.02), [], model.state_dict()
    for _ in range(3):
        for chunk in bptt.tbptt(model, ids[:-1], 7, 14):
            value, dy = bptt.cross_entropy(chunk.y, ids[1:][chunk.steps])
            adam.step(chunk.backward(dy).params)
            losses.append(value)
    assert losses[-1] < 0.2 * losses[0]
    assert all((model.parameters[name] != before[name]).any() for name in before)


def test_a_failed_piece_counts_in_no_layer() -> None:
    model = bptt.Sequential(bptt.Dropout(0.5, seed=0), bptt.GRU(E, H, seed=1))
    before = model.state_dict()
    chunks = bptt.tbptt(model, np.ones((T, B, E + 1)), 5, 5)
    with pytest.raises(ValueError, match=r"^Sequential: layer 1, GRU: x has shape"):
        next(chunks)
    same_bits(model.state_dict(), before)


def test_random_masks_are_those_of_the_pieces() -> None:
    made_twice = [
        bptt.Sequential(bptt.GRU(E, H, seed=1, recurrent_dropout=0.5), bptt.Dropout(0.5, seed=2))
        for _ in range(2)
    ]
    x = np.random.default_rng(0).standard_normal((10, B, E))
    state, ends = None, [0, 5, 10]
    chunks = bptt.tbptt(made_twice[0], x, 5, 5)
    for chunk, (a, b) in zip(chunks, pairwise(ends)):
        y, tape = made_twice[1].forward(x[a:b], state)
        state = tape.state
        same_bits({"y": chunk.y}, {"y": y})


ERRORS = [
    (lambda: bptt.Sequential(bptt.GRU(E, H), bptt.Last()), "layer 1, Last, removes the time axis"),
    (lambda: bptt.Sequential(bptt.Linear(E, H)), "tbptt: the model has no recurrent layer"),
    (
        lambda: bptt.Sequential(bptt.GRU(E, H, bidirectional=True)),
        "tbptt: layer 0, GRU, is bidirectional, expected one direction",
    ),
    (
        lambda: bptt.Linear(E, H),
        "tbptt: layer is Linear, expected a recurrent layer or a Sequentia",
    ),
    (lambda: bptt.Sequential(bptt.GRU(E + 1, H)), "GRU: x has shape (13, 2, 3), expected (T, B, i"),
    (made, "tbptt: x has dtype float64, expected integers"),
]


@pytest.mark.parametrize(("model", "message"), ERRORS, ids=[row[1][:40] for row in ERRORS])
def test_bad_models_are_refused_at_once(model: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        bptt.tbptt(model(), np.ones((T, B, E)), 5, 5)


def test_a_bad_state_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="state is 1 items, expected a list of 2, one for each rec"):
        bptt.tbptt(made(), data()[0], 5, 5, [None])
    with pytest.raises(ValueError, match=r"GRU: state has shape \(3,\), expected"):
        bptt.tbptt(made(), data()[0], 5, 5, [None, np.ones(3)])
