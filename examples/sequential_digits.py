# SPDX-License-Identifier: MIT
"""Sequential digits
=================

Which digit is it? An image of 8x8 is read row by row, 8 steps of 8, or pixel by pixel, 64 steps.

A benchmark of memory, as Le, Jaitly & Hinton (2015), arXiv:1504.00941. Beside the accuracy stands
the part of the gradient that reaches the first step, relative to the step with the most, before and
after training. ``--torch`` trains the same networks in PyTorch, ``--plot FILE`` draws the gradient
at each pixel. The digits are scikit-learn's: ``pip install "bptt[tasks]"``.
"""

import sys
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import bptt
from bptt.models import SequenceClassifier

if TORCH := "--torch" in sys.argv:
    from baselines.torch_classifier import train
EPOCHS, SEEDS = (5, 1) if "--quick" in sys.argv else (30, 5)
TRAIN = 1297  # of 1797 images
images, digits = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(images))
images, (y, test_y) = images[order] / 16, np.split(digits[order], [TRAIN])


def shares(model, x):
    """The norm of the gradient at each step, relative to the greatest of all steps."""
    logits, tape = model.model_.forward(model.inputs_.scaled(x).swapaxes(0, 1))
    dx = model.model_.backward(tape, bptt.cross_entropy(logits, test_y)[1]).x
    return (norms := np.linalg.norm(dx, axis=(1, 2))) / norms.max()


curves = {}
print("steps  cell  accuracy by seed               share before  after    processor time of a seed")
for steps in (8, 64):
    x, test_x = np.split(images.reshape(len(images), steps, -1), [TRAIN])
    for cell in ("rnn", "gru", "lstm"):
        right, flow, seconds = [], [], 0
        for seed in range(SEEDS):
            begin = time.process_time()
            model = SequenceClassifier(cell=cell, epochs=EPOCHS, seed=seed)
            predict = train(model, x, y) if TORCH else model.fit(x, y).predict_proba
            right.append(np.mean(predict(test_x).argmax(1) == test_y))
            seconds += (time.process_time() - begin) / SEEDS
            if not TORCH:
                start = SequenceClassifier(cell=cell, epochs=1, lr=0, seed=seed).fit(x, y)
                flow.append([shares(start, test_x), shares(model, test_x)])
        curves[cell] = before, after = np.median(flow, 0) if flow else [[np.nan]] * 2
        print(f"{steps:5}  {cell:4}  {' '.join(f'{one:.3f}' for one in right):29}  {before[0]:.1e}"
              f"       {after[0]:.1e}  {seconds:.1f} s")  # fmt: skip
pixels = LogisticRegression(max_iter=1000).fit(images[:TRAIN], y)
print(f"logistic regression on all pixels: {pixels.score(images[TRAIN:], test_y):.3f}")

if "--plot" in sys.argv:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for color, (cell, (before, after)) in enumerate(curves.items()):  # pixel by pixel
        axes.semilogy(before, f"C{color}:")
        axes.semilogy(after, f"C{color}", label=f"{cell}; dotted: before training")
    axes.set(xlabel="pixel", ylabel="share of the gradient")
    axes.legend(frameon=False)
    figure.savefig(sys.argv[-1], dpi=120)
