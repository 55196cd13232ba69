# SPDX-License-Identifier: MIT
"""Which of nine men says /ae/? Sequences of 7 to 29 frames, classified with five seeds.

``--torch`` trains the same network in PyTorch. Data: JapaneseVowels (Kudo, Toyama & Shimbo, 1999),
shipped with the package, CC BY 4.0.
"""

import sys
import time

import numpy as np

import bptt

if TORCH := "--torch" in sys.argv:
    import torch
EPOCHS, SEEDS = (5, 1) if "--quick" in sys.argv else (30, 5)
train, test = bptt.datasets.load_japanese_vowels()
x, y, test_x, test_y = train.to_list(), train.labels, test.to_list(), test.labels


def with_bptt(seed):
    model = bptt.models.SequenceClassifier(
        hidden_size=100, bidirectional=True, pooling="mean", dropout=0.5, epochs=EPOCHS, seed=seed
    )
    return model.fit(x, y).score(test_x, test_y)


def with_torch(seed):
    torch.manual_seed(seed)
    frames = np.concatenate(x)
    mean, scale = frames.mean(0), frames.std(0)
    lstm, head = torch.nn.LSTM(12, 100, bidirectional=True), torch.nn.Linear(200, 9)
    parameters = [*lstm.parameters(), *head.parameters()]
    adam = torch.optim.Adam(parameters, lr=5e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, EPOCHS * -(-len(x) // 32))

    def logits(sequences, dropout):
        steps = [torch.from_numpy((one - mean) / scale) for one in sequences]
        packed = torch.nn.utils.rnn.pack_sequence(steps, enforce_sorted=False)
        out, n = torch.nn.utils.rnn.pad_packed_sequence(lstm(packed)[0])
        return head(torch.dropout(out.sum(0) / n[:, None], dropout, train=dropout > 0))

    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(32):
            out = logits([x[k] for k in batch], 0.5)
            torch.nn.functional.cross_entropy(out, torch.from_numpy(y[batch])).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            adam.step(), adam.zero_grad(), cosine.step()
    return np.mean(logits(test_x, 0.0).argmax(1).numpy() == test_y)


scores = []
for seed in range(SEEDS):
    start = time.perf_counter()
    scores.append((with_torch if TORCH else with_bptt)(seed))
    print(f"seed {seed}  {scores[-1]:.4f}  in {time.perf_counter() - start:.1f} s")
most = np.bincount(test_y).max() / len(test_y)
print(f"test accuracy {np.mean(scores):.4f}; always naming the most frequent speaker: {most:.4f}")
