# SPDX-License-Identifier: MIT
"""PyTorch: skorch, and the order of two symbols
=============================================

skorch's fit and predict around a GRU, which says in which order two symbols came.

skorch makes the module, so the one line that changes is the class that it gets: `bptt.torch.GRU` in
place of `torch.nn.GRU`. Needs `pip install "bptt[torch]" skorch`::

    python examples/torch_skorch.py                # --before: with torch.nn;  --quick: fewer epochs
"""

import sys

import skorch
import torch
from skorch.callbacks import GradientNormClipping

import bptt.torch


class Classifier(torch.nn.Module):
    def __init__(self, nn=bptt.torch, hidden=48):
        super().__init__()
        self.gru = nn.GRU(8, hidden, batch_first=True)
        self.out = torch.nn.Linear(hidden, 4)

    def forward(self, x):
        _, h = self.gru(x)
        return self.out(h[0])


def train(nn, quick=False):
    """Return the loss of each epoch, and the fraction of the test that is right."""
    torch.manual_seed(0)
    T, size = (20, 1000) if quick else (60, 4000)
    (x, y, _), (test_x, test_y, _) = (
        bptt.tasks.temporal_order(T, batch, seed=batch) for batch in (size, 1000)
    )
    net = skorch.NeuralNetClassifier(
        Classifier,
        module__nn=nn,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=3e-3,
        batch_size=50,
        max_epochs=4 if quick else 12,
        callbacks=[GradientNormClipping(1.0)],
        verbose=0,
    )
    net.fit(x.swapaxes(0, 1), y)
    return net.history[:, "train_loss"], net.score(test_x.swapaxes(0, 1), test_y)


if __name__ == "__main__":
    nn = torch.nn if "--before" in sys.argv else bptt.torch
    losses, right = train(nn, "--quick" in sys.argv)
    print(f"{nn.__name__}: loss {losses[0]:.6f} to {losses[-1]:.6f}, test accuracy {right:.4f}")
