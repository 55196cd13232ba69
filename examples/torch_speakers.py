# SPDX-License-Identifier: MIT
"""PyTorch: recognise a speaker
============================

Which of nine men says /ae/? A GRU reads a PackedSequence of 7 to 29 frames.

The last line but two is the one that changes: `bptt.torch` in place of `torch.nn`.
Needs `pip install "bptt[torch]"`. Data: JapaneseVowels, shipped with the package, CC BY 4.0. ::

    python examples/torch_speakers.py              # --before: with torch.nn;  --quick: fewer epochs
"""

import sys

import torch
from torch.nn.utils.rnn import pack_padded_sequence

import bptt.torch


class Classifier(torch.nn.Module):
    def __init__(self, nn):
        super().__init__()
        self.gru = nn.GRU(12, 64, bidirectional=True)
        self.out = torch.nn.Linear(128, 9)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        _, h = self.gru(packed)
        return self.out(torch.cat([h[0], h[1]], dim=1))


def train(nn, quick=False):
    """Return the loss of each epoch, and the fraction of the test that is right."""
    torch.manual_seed(0)
    data, test = bptt.datasets.load_japanese_vowels()
    frames = data.x[data.x.any(axis=2)]
    mean, scale = frames.mean(axis=0), frames.std(axis=0)
    x, test_x = (torch.from_numpy((part.x - mean) / scale) for part in (data, test))
    lengths, labels = torch.from_numpy(data.lengths), torch.from_numpy(data.labels)

    model = Classifier(nn)
    adam = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(4 if quick else 40):
        total = 0.0
        for b in torch.randperm(270).split(54):
            noisy = x[:, b] + 0.6 * torch.randn(len(x), len(b), 12)  # against overfitting
            loss = torch.nn.functional.cross_entropy(model(noisy, lengths[b]), labels[b])
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            total += loss.item() / 5
        losses.append(total)

    model.eval()
    with torch.no_grad():
        answers = model(test_x, torch.from_numpy(test.lengths)).argmax(dim=1).numpy()
    return losses, float((answers == test.labels).mean())


if __name__ == "__main__":
    nn = torch.nn if "--before" in sys.argv else bptt.torch
    losses, right = train(nn, "--quick" in sys.argv)
    print(f"{nn.__name__}: loss {losses[0]:.6f} to {losses[-1]:.6f}, test accuracy {right:.4f}")
