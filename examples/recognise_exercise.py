# SPDX-License-Identifier: MIT
"""Recognise an exercise
=====================

Which of seven exercises does the wearer of a watch do? Tested on people it has never seen.

Five times two of ten people are held out. The networks read windows of 10 s; the probabilities of
all windows of a recording are averaged. Beside them: a random forest on statistics of the same
windows. ``--torch`` trains the same network in PyTorch. Data (Burns et al., 2018): bundled with the
package seglearn. Needs ``pip install "bptt[tasks]"``.
"""

import sys
import time

import numpy as np
from seglearn.datasets import load_watch

from baselines.window_features import forest
from bptt.models import SequenceClassifier

if TORCH := "--torch" in sys.argv:
    from baselines.torch_classifier import train
EPOCHS, SEEDS, FOLDS = (4, 1, 1) if "--quick" in sys.argv else (12, 5, 5)
MEAN, WIDTH, HOP = 5, 100, 50  # steps of 0.1 s, of 5 values each; windows of 10 s, one each 5 s

data = load_watch()
names, y, subject = data["y_labels"], np.asarray(data["y"]), np.asarray(data["subject"])
windows, source = [], []  # and the recording of each window
for number, values in enumerate(data["X"]):
    steps = values[: len(values) // MEAN * MEAN].reshape(-1, MEAN, 6).mean(1)
    views = np.lib.stride_tricks.sliding_window_view(steps, WIDTH, axis=0)[::HOP]
    windows.append(views.swapaxes(1, 2))
    source += [number] * len(views)
x, source = np.concatenate(windows), np.array(source)


def score(learn, seed):
    """The accuracy of windows and of recordings, and a table of what was taken for what."""
    right, table = [], np.zeros((7, 7), int)
    for k in range(FOLDS):
        test = np.isin(subject[source], (k + 1, k + 6))
        p = learn(x[~test], y[source[~test]], seed)(x[test])
        right.append(p.argmax(1) == y[source[test]])
        for number in np.unique(source[test]):
            table[y[number], p[source[test] == number].sum(0).argmax()] += 1
    return np.mean(np.concatenate(right)), table.trace() / table.sum(), table


def network(x, y, seed):
    model = SequenceClassifier(bidirectional=True, pooling="mean", dropout=0.5, epochs=EPOCHS,
                               seed=seed)  # fmt: skip
    return train(model, x, y) if TORCH else model.fit(x, y).predict_proba


for title, learn in ((f"LSTM of {'PyTorch' if TORCH else 'bptt'}", network), ("forest", forest)):
    begin = time.process_time()
    of_windows, recordings, tables = zip(*(score(learn, seed) for seed in range(SEEDS)))
    seconds = (time.process_time() - begin) / SEEDS
    print(f"{title}: windows {np.mean(of_windows):.4f}, recordings {np.mean(recordings):.4f} (each "
          f"seed {np.round(recordings, 3)}), {seconds:.1f} s of processor time")  # fmt: skip
    for name, row in zip(names, sum(tables)):
        print(f"  {name:4} taken for", ", ".join(f"{names[k]} {n}" for k, n in enumerate(row) if n))
