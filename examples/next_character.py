# SPDX-License-Identifier: MIT
"""Write like Hamlet
=================

An LSTM learns to predict the next character of the play.

``--words`` predicts the next word instead, ``--torch`` trains the same network in PyTorch, and
``--baseline`` shows a Kneser-Ney 5-gram (``pip install "bptt[tasks]"``). Text: Shakespeare, public
domain, shipped with the package. The last tenth of the play is held out.
"""

import sys
import time

import numpy as np

import bptt
from baselines.kneser_ney import kneser_ney
from bptt.models import LanguageModel
from bptt.models.vocabulary import tokens_of

WORDS, QUICK = "--words" in sys.argv, "--quick" in sys.argv
UNIT = "words" if WORDS else "characters"
SIZES = {"embedding_size": 32, "hidden_size": 32 if QUICK else 128, "epochs": 2 if QUICK else 15}
if WORDS:
    SIZES |= {"embedding_size": 128, "window": 64, "dropout": 0.5, "min_count": 2}

text = bptt.datasets.load_text()
if QUICK:
    text = text[:40_000]
split = len(text) * 9 // 10
train, test = text[:split], text[split:]


scores = []
for seed in range(1 if QUICK else 5):
    begin = time.process_time()
    model = LanguageModel(tokens=UNIT, validation=None, seed=seed, **SIZES).fit(train)
    if "--torch" in sys.argv:  # again from the start, with weights that it gives to the model
        from baselines.torch_language_model import train_again

        begin = time.process_time()
        train_again(model, train)
    seconds = time.process_time() - begin
    scores.append(model.perplexity(test))
    bits = np.log2(scores[-1])
    print(f"seed {seed}: perplexity of the held-out {UNIT} {scores[-1]:.3f}, {bits:.3f} bits each, "
          f"after {seconds:.1f} s of processor time")  # fmt: skip

known = model.vocabulary_
tokens, later = (known.decode(known.encode(tokens_of("", t, UNIT))) for t in (train, test))
counts = np.bincount(known.encode(tokens), minlength=len(known)) + 1
unigram = np.exp(-np.log(counts / counts.sum())[known.encode(later)].mean())
print(f"frequencies alone (unigram): {unigram:.3f}, {np.log2(unigram):.3f} bits")
if "--baseline" in sys.argv:
    print(f"Kneser-Ney 5-gram: {kneser_ney(tokens, later):.3f}")
print(model.generate("Ham.\n", length=200, temperature=0.7, seed=0))
