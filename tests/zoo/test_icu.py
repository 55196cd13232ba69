# SPDX-License-Identifier: MIT
"""The word segmenters of ICU for Thai and Burmese, on the cases of its own tests.

The BiLSTM reads code points or grapheme clusters and says of each whether a word begins there.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from bptt._types import Array
from support.zoo import files_of
from support.zoo_formats import icu_table

DATA = "icu/source/test/testdata"
MODELS = {
    "Thai_codepoints_exclusive_model5_heavy": 46,
    "Thai_graphclust_model4_heavy": 46,
    "Burmese_graphclust_model5_heavy": 2,
}


def load(table: dict[str, Any]) -> tuple[bptt.Embedding, bptt.LSTM, bptt.Linear]:
    """The three layers; the file has the numbers of all in one vector."""
    I, H, V = table["embeddings"], table["hunits"], len(table["dict"]) + 1
    shapes = [(V, I), *[(I, 4 * H), (H, 4 * H), (4 * H,)] * 2, (2 * H, 4), (4,)]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    numbers = table["data"].view(np.float32)
    assert len(numbers) == ends[-1]
    first, *parts, w, b = (
        part.reshape(shape) for part, shape in zip(np.split(numbers, ends[:-1]), shapes)
    )
    embedding = bptt.load_model({"in.weight": first}, "in", cell="embedding")
    lstm = bptt.layer_from_arrays("lstm", *parts[:3], transposed=True, reverse=parts[3:])
    out = bptt.load_model({"out.weight": w.T, "out.bias": b}, "out")
    return embedding, lstm, out


def clusters(text: str) -> list[str]:
    """The grapheme clusters of Thai and Burmese text, by the rules that these scripts need."""
    found: list[str] = []
    for c in text:
        extends = unicodedata.category(c) in ("Mn", "Me") or c in EXTENDING
        if found and (extends or found[-1][-1] in PREPENDING):
            found[-1] += c
        else:
            found.append(c)
    return found


# SpacingMark: sara am, and Burmese vowel signs and medials. Asat and virama are of category Mn.
EXTENDING = "\u0e33\u1031\u103b\u103c\u1056\u1057\u1084"
PREPENDING = ""


def segmented(text: str, model: Any, table: dict[str, Any]) -> list[str]:
    embedding, lstm, out = model
    parts = list(text) if table["type"] == "codepoints" else clusters(text)
    numbers = {part: k for k, part in enumerate(table["dict"])}
    indices = np.array([[numbers.get(part, len(numbers))] for part in parts])
    y, _ = lstm(embedding(indices))
    classes: Array = out(y)[:, 0].argmax(-1)  # begin, inside, end, single
    return words("".join("|" * (k in (0, 3)) + part for k, part in zip(classes, parts)))


def words(text: str) -> list[str]:
    return [word for word in text.split("|") if word]


@pytest.mark.parametrize("name", MODELS)
def test_words(name: str, tmp_path: Path) -> None:
    files = files_of("icu", [f"{DATA}/{name}.txt", f"{DATA}/{name}_Test.txt"], tmp_path)
    content, recorded = (path.read_text("utf-8") for path in files.values())
    cases = recorded.splitlines()
    inputs = [line.split("\t")[1] for line in cases if line.startswith("Input:")]
    outputs = [words(line.split("\t")[1]) for line in cases if line.startswith("Output:")]
    table = icu_table(content)
    model = load(table)
    assert model[1].dtype == np.float32
    got = [segmented(text, model, table) for text in inputs]
    assert len(outputs) == MODELS[name]
    wrong = sum(a != b for a, b in zip(got, outputs))
    print(f"{name}: {len(outputs) - wrong} of {len(outputs)} sentences as in its tests")
    assert got == outputs
