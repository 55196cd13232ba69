# SPDX-License-Identifier: MIT
"""Tokens and their numbers."""

from __future__ import annotations

import numpy as np
import pytest

from bptt.models.vocabulary import Vocabulary, tokens_of


def test_the_most_frequent_come_first_and_ties_by_name() -> None:
    vocabulary = Vocabulary.of([["b", "a", "c"], [], ["c", "d", "c"]])
    assert vocabulary.tokens == ("<unk>", "c", "a", "b", "d")
    assert len(vocabulary) == 5
    assert Vocabulary.of([["b", "a", "c"], ["c"]], min_count=2).tokens == ("<unk>", "c")
    assert Vocabulary.of([["b", "a", "c"], ["c"]], size=3).tokens == ("<unk>", "c", "a")
    assert Vocabulary.of([]).tokens == ("<unk>",)


def test_unknown_tokens_have_number_0() -> None:
    vocabulary = Vocabulary.of([["a", "<unk>", "b", "<unk>"]])
    assert vocabulary.tokens == ("<unk>", "a", "b")
    np.testing.assert_array_equal(vocabulary.encode(["b", "x", "<unk>", "a"]), [2, 0, 0, 1])
    assert vocabulary.encode([]).dtype == np.int64
    assert vocabulary.decode([0, 2, 1]) == ["<unk>", "b", "a"]
    assert ("a" in vocabulary, "x" in vocabulary) == (True, False)


def test_there_and_back() -> None:
    text = "To be, or not to be \u2014 that's Hamlet's question!\n"
    for unit in ("words", "characters"):
        tokens = tokens_of("test", text, unit)
        vocabulary = Vocabulary.of([tokens])
        assert vocabulary.decode(vocabulary.encode(tokens)) == tokens
    assert "".join(tokens) == text
    assert tokens_of("test", text, "words")[-4:] == ["that's", "Hamlet's", "question", "!"]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: Vocabulary(("a",)), "tokens has ('a',), expected '<unk>' and then different"),
        (lambda: Vocabulary(("<unk>", "a", "a")), "different tokens"),
        (lambda: Vocabulary(["<unk>"]), "expected a tuple of text"),  # type: ignore[arg-type]
        (lambda: Vocabulary.of([], size=0), "Vocabulary: size is 0, expected 1 or more"),
        (lambda: Vocabulary.of([]).decode([1]), "ids has values 1..1, expected"),
        (lambda: tokens_of("f", "a", "letters"), "f: tokens is 'letters', expected one of"),
    ],
)
def test_refusals(call, expected) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert expected in str(caught.value)
