# SPDX-License-Identifier: MIT
"""`LanguageModel`: windows, perplexity and sampling against definitions; files; bad input."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.models import LanguageModel, load
from bptt.models.language_model import IGNORED, windows_of
from bptt.models.writing import pieces_of, sampled

TEXT = "the cat sat on the mat; the dog sat on the log. " * 12


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    options = {"hidden_size": 24, "window": 24, "epochs": 12, "batch_size": 8, "lr": 0.02}
    return LanguageModel(dropout=0.1, **options).fit(TEXT)


def small(**options: Any) -> LanguageModel:
    return LanguageModel(**{"hidden_size": 4, "window": 8, "epochs": 1, **options})


@pytest.mark.parametrize("length", [9, 10, 17, 64, 101])
@pytest.mark.parametrize(("window", "lead"), [(8, 0), (8, 2), (7, 1), (200, 3)])
def test_each_token_is_predicted_once(length, window, lead) -> None:
    x, target = windows_of(np.arange(length), window, lead)
    counts = target != IGNORED
    np.testing.assert_array_equal(target[counts], x[counts] + 1)
    assert sorted(target[counts]) == list(range(1 + lead, length))
    assert not counts[1:, : min(window, length - 1) // 4].any()


def test_it_learns_and_writes(model) -> None:
    assert model.perplexity(TEXT) < 1.3 < 5 < small().fit(TEXT).perplexity(TEXT)
    assert (
        model.generate("the cat sat on the mat; the d", length=12, temperature=0)
        == "og sat on the"[:12]
    )
    assert model.history_.best.validation_loss < 0.5


def test_perplexity_is_its_definition(model) -> None:
    ids = model.vocabulary_.encode(list("the cat?"))
    assert ids[-1] == 0  # "?" is unknown
    logits, stream = [], model.model_.stream()
    for number in ids[:-1]:
        logits.append(stream.step([number])[0].astype(float))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wanted = np.exp(-np.log(p[np.arange(7), ids[1:]]).mean())
    assert model.perplexity("the cat?") == pytest.approx(wanted, rel=1e-5)
    long = TEXT * 3  # more rows than are computed together
    whole = model.model_(model.vocabulary_.encode(list(long))[:-1, None])[:, 0]
    loss, _ = bptt.cross_entropy(whole, model.vocabulary_.encode(list(long))[1:])
    assert model.perplexity(long) == pytest.approx(np.exp(loss), rel=1e-5)


def test_draws_have_the_probabilities_of_the_softmax() -> None:
    rng, z = np.random.default_rng(0), np.array([9.0, 0.0, 1.0, 2.0, -1.0], np.float32)
    for temperature, top_k, kept in [(1.0, None, 4), (0.5, None, 4), (2.0, 2, 2), (1.0, 9, 4)]:
        p = np.exp(z[1:].astype(float) / temperature)
        p[np.argsort(p)[: 4 - kept]] = 0
        p /= p.sum()
        drawn = [sampled(z, temperature, top_k, rng) for _ in range(4000)]
        seen = np.bincount(drawn, minlength=5) / 4000
        assert seen[0] == 0  # the token for unknown ones
        np.testing.assert_allclose(seen[1:], p, atol=5 * np.sqrt(0.25 / 4000))
        assert (seen[1:][p == 0] == 0).all()
    assert {sampled(z, t, None, rng) for t in (0, 1e-300, 1e-9)} == {3}


def test_the_seed_decides_and_a_stream_is_what_generate_joins(model) -> None:
    first = model.generate("the ", length=30, seed=5)
    assert first == model.generate("the ", length=30, seed=5) != model.generate("the ", seed=6)
    assert "".join(islice(model.stream("the ", seed=5), 30)) == first
    assert len(first) == 30
    assert model.generate("the ", length=0) == ""
    one = model.generate("the ", length=20, top_k=1)
    assert one == model.generate("the ", length=20, temperature=0)


def test_words() -> None:
    words = small(tokens="words", epochs=20, hidden_size=16, lr=0.02, validation=None).fit(TEXT)
    assert words.vocabulary_.tokens[:3] == ("<unk>", "the", "on")
    assert words.generate("the cat sat", length=3, temperature=0)[:7] == " on the"
    assert words.perplexity("the cat sat on the mat") < 2
    rare = small(tokens="words", min_count=13).fit(TEXT).vocabulary_
    assert "cat" not in rare
    assert "the" in rare
    assert "".join(pieces_of(["b", ",", "(", "c", ")"], "a", "words")) == " b, (c)"
    assert "".join(pieces_of(["b", ","], "a", "characters")) == "b,"


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_file_writes_the_same_text(model, suffix, tmp_path) -> None:
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    model.save(tmp_path / f"model.{suffix}")
    again = load(tmp_path / f"model.{suffix}")
    assert again.generate("the ", seed=1) == model.generate("the ", seed=1)
    assert again.perplexity(TEXT) == model.perplexity(TEXT)
    assert again.vocabulary_ == model.vocabulary_


@pytest.mark.parametrize(
    ("options", "text", "message"),
    [
        ({}, 3, "text is 3, expected text"),
        ({}, "abc", "text has 3 tokens, 1 of them held out, expected window + 1 = 9 others"),
        ({"window": 3}, TEXT, "window is 3, expected 4 or more"),
        ({"tokens": "lines"}, TEXT, "tokens is 'lines', expected one of"),
        ({"cell": "x"}, TEXT, "cell is 'x', expected one of"),
        ({"validation": 2}, TEXT, "validation is 2, expected 0..1"),
        ({"embedding_size": 0}, TEXT, "embedding_size is 0, expected 1 or more"),
        ({"dropout": 2}, TEXT, "dropout is 2, expected a probability 0..1"),
    ],
)
def test_bad_arguments_of_fit(options, text, message) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(f"LanguageModel.fit: {message}")):
        small(**options).fit(text)


def test_bad_arguments_of_a_fitted_model(model) -> None:
    with pytest.raises(ValueError, match=r"LanguageModel.perplexity: the estimator is not fitted"):
        small().perplexity("ab")
    with pytest.raises(ValueError, match=r"perplexity: text has 1 tokens, expected two or more"):
        model.perplexity("a")
    for call, message in [
        ({"prompt": ""}, "prompt is '', expected at least one token"),
        ({"prompt": "a", "temperature": -1}, "temperature is -1, expected 0 or more"),
        ({"prompt": "a", "top_k": 0}, "top_k is 0, expected 1 or more"),
        ({"prompt": "a", "length": -1}, "length is -1, expected 0 or more"),
    ]:
        with pytest.raises(ValueError, match=re.escape(f"LanguageModel.generate: {message}")):
            model.generate(**call)
