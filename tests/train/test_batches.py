# SPDX-License-Identifier: MIT
"""Padding and minibatches of sequences of different lengths."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.batches import batch_order

RNG = np.random.default_rng(0)
LENGTHS = [*RNG.integers(1, 60, 203).tolist(), 0]
X = [RNG.standard_normal((n, 3)).astype("float32") for n in LENGTHS]
IDS = [RNG.integers(1, 9, n) for n in LENGTHS]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("sequences", [X[:9], IDS[:9], [X[0]], [[1, 2], []], [[], []]])
def test_a_padded_sequence_is_the_sequence_and_the_value(sequences: Any, batch_first: bool) -> None:
    x, lengths = bptt.pad_sequences(sequences, batch_first=batch_first, value=-1)
    assert lengths.tolist() == [len(s) for s in sequences]
    for b, sequence in enumerate(sequences):
        row = x[b] if batch_first else x[:, b]
        assert np.array_equal(
            row[: len(sequence)], np.asarray(sequence).reshape(row[: len(sequence)].shape)
        )
        assert (row[len(sequence) :] == -1).all()
    if len(sequences[0]):
        assert x.dtype == np.asarray(sequences[0]).dtype
    assert x.flags.c_contiguous


@pytest.mark.parametrize("bucket", [1, 4, 1000])
@pytest.mark.parametrize("batch_size", [1, 10, 500])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_pass_has_every_sample_once_with_its_target(
    batch_first: bool, batch_size: int, bucket: int
) -> None:
    target, steps = np.arange(len(X)), [ids % 3 for ids in IDS]
    seen = []
    how = {"seed": 1, "bucket": bucket, "batch_first": batch_first}
    one = bptt.minibatches(X, target, batch_size, **how)
    each = bptt.minibatches(IDS, steps, batch_size, **how)
    for batch, stepwise in zip(one, each):
        assert np.array_equal(batch.target, batch.samples)
        assert np.array_equal(batch.samples, stepwise.samples)  # one seed, one order
        padded = bptt.pad_sequences([X[i] for i in batch.samples], batch_first=batch_first)[0]
        assert np.array_equal(batch.x, padded)
        assert batch.lengths.tolist() == [LENGTHS[i] for i in batch.samples]
        assert stepwise.target.shape == stepwise.x.shape
        inside = stepwise.x != 0
        assert np.array_equal(stepwise.target[inside], stepwise.x[inside] % 3)
        assert (stepwise.target[~inside] == -100).all()
        seen += batch.samples.tolist()
    assert sorted(seen) == target.tolist()
    assert next(one, None) is next(each, None) is None


def test_buckets_leave_little_padding() -> None:
    def padding(bucket: int) -> float:
        batches = [*bptt.minibatches(X, None, 10, seed=0, bucket=bucket)]
        return 1 - sum(LENGTHS) / sum(b.x.shape[0] * b.x.shape[1] for b in batches)

    assert padding(1) > 0.4
    assert padding(20) < 0.1


def test_the_order_is_that_of_the_seed_or_of_the_data() -> None:
    def order(**how: Any) -> list[list[int]]:
        return [b.samples.tolist() for b in bptt.minibatches(X, None, 10, **how)]

    assert order(seed=3) == order(seed=3) != order(seed=4)
    assert [i for batch in order(shuffle=False) for i in batch] == [*range(len(X))]
    rng = np.random.default_rng(3)
    assert [i.tolist() for i in batch_order(LENGTHS, 10, rng)] == order(seed=3)
    epochs = [order(seed=rng), order(seed=rng)]  # a generator goes on
    assert epochs[0] != epochs[1]


def test_an_array_of_samples_first() -> None:
    x, y = np.arange(24.0).reshape(4, 3, 2), np.arange(12.0).reshape(4, 3)
    (batch,) = bptt.minibatches(x, y, 4, shuffle=False)
    assert np.array_equal(batch.x, x.swapaxes(0, 1))
    assert np.array_equal(batch.target, y.T)
    (batch,) = bptt.minibatches(x, y, 4, shuffle=False, per_step=False)
    assert np.array_equal(batch.target, y)


def test_a_batch_trains_a_model_at_each_step() -> None:
    model = bptt.Sequential(
        bptt.Embedding(9, 4, seed=0), bptt.GRU(4, 8, seed=1), bptt.Linear(8, 3, seed=2)
    )
    adam, losses = bptt.Adam(model.parameters, 0.03), []
    for epoch in range(3):
        for b in bptt.minibatches(IDS, [ids % 3 for ids in IDS], 10, seed=epoch):
            value, grads = model.loss_and_grads(
                b.x, b.target, bptt.cross_entropy, lengths=b.lengths
            )
            adam.step(grads)
            losses.append(value)
    assert losses[-1] < 0.1 * losses[0]


ERRORS = [
    (lambda: bptt.pad_sequences([]), "pad_sequences: sequences is empty, expected at least one"),
    (lambda: bptt.pad_sequences(3), "pad_sequences: sequences is 3, expected a list of sequences"),
    (lambda: bptt.pad_sequences("ab"), "pad_sequences: sequences is 'ab', expected a list of seq"),
    (lambda: bptt.pad_sequences([1, 2]), "pad_sequences: sequences[0] has shape (), expected (T)"),
    (
        lambda: bptt.pad_sequences([np.ones((2, 3)), np.ones((2, 4))]),
        "pad_sequences: sequences[1] has shape (2, 4), expected (T, 3) as the others",
    ),
    (lambda: bptt.pad_sequences([["a"]]), "pad_sequences: sequences[0] has dtype <U1, expected nu"),
    (lambda: bptt.pad_sequences([[1]], batch_first=1), "pad_sequences: batch_first is 1, expected"),
    (
        lambda: bptt.minibatches([[1], [2]], [0], 1),
        "minibatches: target has 1 items, expected 2, one for each sequence of x",
    ),
    (
        lambda: bptt.minibatches([[1, 2], [2]], [[0, 0], [0, 1]], 1, per_step=True),
        "minibatches: per_step is True, expected False: target[1] has shape (2,), and x[1] has",
    ),
    (lambda: bptt.minibatches([[1]], [0], 0), "minibatches: batch_size is 0, expected 1 or more"),
    (lambda: bptt.minibatches([[1]], [0], 1, bucket=0), "minibatches: bucket is 0, expected 1 or"),
    (lambda: bptt.minibatches([[1]], [0], 1, seed="a"), "minibatches: seed is 'a', expected a who"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[row[1][:40] for row in ERRORS])
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        call()
