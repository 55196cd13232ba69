# SPDX-License-Identifier: MIT
"""The tasks mean what they say: labels and baselines are worked out again from the input alone."""

from __future__ import annotations

import collections
import math
import re

import numpy as np
import pytest

import bptt
from bptt import tasks


def test_three_digits_are_the_four_sequences():
    x, target, _ = tasks.three_digits()
    words = ["".join(str(int(d)) for d in column) for column in x[:, :, 0].T]
    assert dict(zip(words, target)) == {"101": 1, "001": 0, "000": 0, "111": 1}


def test_three_digits_grow_at_the_end():
    x, target, baseline = tasks.three_digits(50, seed=3)
    assert x.shape == (50, 4, 1)
    assert np.array_equal(x[:3], tasks.three_digits().x)
    assert np.array_equal(x[0, :, 0], target)
    assert set(np.unique(x[3:])) == {0, 1}
    assert baseline == np.mean((target - target.mean()) ** 2)


def test_adding():
    x, target, baseline = tasks.adding(11, 100_000, seed=0)
    number, marker = x[:, :, 0], x[:, :, 1]
    assert set(np.unique(marker)) == {0, 1}
    assert (marker[:5].sum(axis=0) == 1).all()
    assert (marker[5:].sum(axis=0) == 1).all()
    assert (marker.sum(axis=1) > 0).all()  # every position is used
    assert number.min() >= 0
    assert number.max() < 1
    np.testing.assert_allclose((number * marker).sum(axis=0), target, rtol=1e-6)
    # No constant does better than 1, whose error is the baseline.
    assert target.mean() == pytest.approx(1, abs=5 * math.sqrt(baseline / 1e5))
    assert np.mean((target - 1.0) ** 2) == pytest.approx(baseline, abs=5 * 0.2 / math.sqrt(1e5))


@pytest.mark.parametrize("T", [1, 7, 100])
def test_copy_memory(T):
    x, target, baseline = tasks.copy_memory(T, 32, seed=0)
    assert x.shape == (T + 20, 32, 10)
    assert (x.sum(axis=2) == 1).all()
    for shown, wanted in zip(x.argmax(axis=2).T.tolist(), target.T.tolist()):
        symbols = shown[:10]
        assert shown == symbols + [8] * (T - 1) + [9] + [8] * 10
        assert wanted == [8] * (T + 10) + symbols
        assert set(symbols) <= set(range(8))
    # The best without memory: sure of the blanks, even between the eight symbols at the end.
    logits = np.full((T + 20, 32, 10), -1e9)
    logits[: T + 10, :, 8] = 0
    logits[T + 10 :, :, :8] = 0
    assert bptt.cross_entropy(logits, target)[0] == pytest.approx(baseline, rel=1e-12)


@pytest.mark.parametrize("T", [10, 33, 100])
def test_temporal_order(T):
    x, target, baseline = tasks.temporal_order(T, 4000, seed=0)
    assert x.shape == (T, 4000, 8)
    assert (x.sum(axis=2) == 1).all()
    classes = {"XX": 0, "XY": 1, "YX": 2, "YY": 3}
    seen = set()
    for codes, label in zip(x.argmax(axis=2).T, target):
        word = "".join("EBabcdXY"[c] for c in codes)
        first, second = (t for t, letter in enumerate(word) if letter in "XY")
        assert T // 10 <= first < T // 5
        assert T // 2 <= second < 3 * T // 5
        assert classes[word[first] + word[second]] == label
        assert word[0] + word[-1] == "EB"
        assert set(word[1:first]) <= set("abcd")
        seen |= set(word)
    assert seen == set("EBabcdXY")
    share = np.bincount(target) / 4000
    np.testing.assert_allclose(share, 0.25, atol=5 * math.sqrt(0.25 * 0.75 / 4000))
    assert bptt.cross_entropy(np.zeros((4000, 4)), target)[0] == pytest.approx(baseline, rel=1e-12)


# The Reber grammar as a regular expression, with LOOP for its lower half.
LOOP = "(T*VPX)*T*V(V|PS)"
EMBEDDED = re.compile(f"B(?P<second>[TP])(?P<inner>B(TS*X(S|X{LOOP})|P{LOOP})E)(?P=second)E")


def test_embedded_reber():
    x, target, baseline = tasks.embedded_reber(20_000, seed=0)
    lengths = (target != -100).sum(axis=0)
    assert x.shape == (*target.shape, 7)
    assert len(x) == lengths.max()
    assert lengths.min() == 8
    assert np.array_equal(x.sum(axis=2), target != -100)
    counts, choices = collections.Counter(), []
    for b, n in enumerate(lengths):
        shown = x[:n, b].argmax(axis=1)
        assert np.array_equal(shown[1:], target[: n - 1, b])
        text = "".join("BTPSXVE"[code] for code in [*shown, target[n - 1, b]])
        match = EMBEDDED.fullmatch(text)
        assert match, text
        choices.append(1 + len(match["inner"]) - 2)  # all of the inner string but its B and E
        counts[text] += 1
    # Every choice is even, so that a string has the probability 2^-choices.
    likely = {text: 2.0 ** -(len(text) - 5) for text in counts if len(text) < 12}
    assert len(likely) > 8
    for text, p in likely.items():
        assert counts[text] == pytest.approx(20_000 * p, abs=5 * math.sqrt(20_000 * p))
    # Who forgets the second symbol has one even choice more, where it comes again.
    per_symbol = (np.sum(choices) + len(choices)) * math.log(2) / lengths.sum()
    assert per_symbol == pytest.approx(baseline, rel=0.01)


MAKERS = {
    "three_digits": lambda seed: tasks.three_digits(20, seed),
    "adding": lambda seed: tasks.adding(20, 4, seed),
    "copy_memory": lambda seed: tasks.copy_memory(20, 4, seed),
    "temporal_order": lambda seed: tasks.temporal_order(20, 4, seed),
    "embedded_reber": lambda seed: tasks.embedded_reber(16, seed),
}


@pytest.mark.parametrize("name", MAKERS)
def test_seed(name):
    make = MAKERS[name]
    assert make(0).x.dtype == np.float32
    assert np.array_equal(make(0).x, make(0).x)
    assert not np.array_equal(make(0).x, make(1).x)
    rng = np.random.default_rng(0)
    assert np.array_equal(make(rng).x, make(0).x)
    assert not np.array_equal(make(rng).x, make(0).x)  # the generator has moved on


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tasks.three_digits(2), ValueError, "three_digits: T is 2, expected"),
        (lambda: tasks.adding(1, 4), ValueError, "adding: T is 1, expected 2.."),
        (lambda: tasks.adding(9, 0), ValueError, "adding: batch is 0, expected 1.."),
        (lambda: tasks.adding(9.0, 1), TypeError, "adding: T is 9.0, expected a whole number"),
        (lambda: tasks.copy_memory(0, 1), ValueError, "copy_memory: T is 0, expected"),
        (lambda: tasks.temporal_order(9, 1), ValueError, "T is 9, expected 10.."),
        (lambda: tasks.embedded_reber(0), ValueError, "embedded_reber: batch is 0"),
        (lambda: tasks.temporal_order(10, True), TypeError, "batch is True, expected a whole"),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
