# SPDX-License-Identifier: MIT
"""Remember an early word
======================

Which word ends the sentence? An early word decides it, 5, 20 or 80 words before.

Each sentence names a language, goes on with unrelated words, and asks for the state where it is
spoken ("Marathi ... Maharashtra"). An RNN, an LSTM and one with attention learn the same sentences.
Beside the accuracy stands the part of the gradient that reaches the word that decides, before and
after training: at the network's input, relative to the step with the most. ``--torch`` trains the
same networks, from the same weights, in PyTorch.
"""

import sys
import time

import numpy as np

import bptt

if TORCH := "--torch" in sys.argv:
    from baselines.torch_memory import train_again
LANGUAGES, FILLERS, QUICK = 8, 40, "--quick" in sys.argv
EPOCHS, SEEDS = (6, 1) if QUICK else (20, 5)


def sentences(gap, n, rng):
    """Ids (n, gap + 1): a language, `gap` - 1 other words, and the question; and the answers."""
    language = rng.integers(0, LANGUAGES, n)
    others = LANGUAGES + rng.integers(0, FILLERS, (n, gap - 1))
    question = np.full((n, 1), LANGUAGES + FILLERS)
    return np.concatenate([language[:, None], others, question], 1), language


def network(kind, seed):
    cell = {"RNN": bptt.RNN}.get(kind, bptt.LSTM)(16, 32, seed=seed)
    if kind != "RNN":
        bptt.init.forget_bias(cell, 5.0)  # forget gates that start open
    pool = bptt.Attention(32, seed=seed) if kind == "attention" else bptt.Last()
    head = bptt.Linear(32, LANGUAGES, seed=seed)
    return bptt.Sequential(bptt.Embedding(LANGUAGES + FILLERS + 1, 16, seed=seed), cell, pool, head)


def shares(model, x, target):
    """The norm of the gradient at each word, relative to the greatest."""
    above = bptt.Sequential(*model.layers[1:])
    y, tape = above.forward(model.layers[0](x.T))
    dx = above.backward(tape, bptt.cross_entropy(y, target)[1]).x
    return (norms := np.linalg.norm(dx, axis=(1, 2))) / norms.max()


print(
    f"chance: {1 / LANGUAGES:.3f}\n"
    "gap  network    accuracy by seed               share before  after    time of a seed"
)
for gap in (20,) if QUICK else (5, 20, 80):
    for kind in ("RNN", "LSTM", "attention"):
        right, before, after, seconds = [], [], [], 0
        for seed in range(SEEDS):
            rng = np.random.default_rng(seed)
            (x, target), (test_x, test_y) = sentences(gap, 1000, rng), sentences(gap, 500, rng)
            model = network(kind, seed)
            before.append(shares(model, test_x, test_y)[0])
            begin = time.process_time()
            if TORCH:
                train_again(model, x, target, EPOCHS, lr=5e-3, seed=seed)
            else:
                bptt.fit(model, (x, target), loss=bptt.cross_entropy, epochs=EPOCHS, lr=5e-3,
                         seed=seed)  # fmt: skip
            seconds += (time.process_time() - begin) / SEEDS
            after.append(shares(model, test_x, test_y)[0])
            right.append(np.mean(model(test_x.T).argmax(1) == test_y))
        scores = " ".join(f"{one:.3f}" for one in right)
        print(f"{gap:3}  {kind:9}  {scores:29}  {np.median(before):.1e}       "
              f"{np.median(after):.1e}  {seconds:.1f} s")  # fmt: skip
