# SPDX-License-Identifier: MIT
"""Which of nine men says /ae/? Sequences of 7 to 29 frames in one batch, read by a GRU.

Data: JapaneseVowels (Kudo, Toyama & Shimbo, 1999), shipped with the package, CC BY 4.0.
"""

import sys

import numpy as np

import bptt

EPOCHS = 5 if "--quick" in sys.argv else 80
rng = np.random.default_rng(0)

train, test = bptt.datasets.load_japanese_vowels()  # each: x (T, B, 12), lengths (B,), labels (B,)
frames = train.x[np.arange(len(train.x))[:, None] < train.lengths]  # without the padding
mean, scale = frames.mean(axis=0), frames.std(axis=0)

gru = bptt.GRU(input_size=12, hidden_size=64, seed=0)
out = bptt.Linear(64, 9, seed=0)
print(gru)

optimizer = bptt.optim.Adam(bptt.optim.join(gru=gru.parameters, out=out.parameters), lr=5e-3)
schedule = bptt.schedules.CosineAnnealing(optimizer, t_max=EPOCHS)


def accuracy(data):
    _, h = gru((data.x - mean) / scale, lengths=data.lengths)  # h: (1, B, 64), after the last frame
    return np.mean(out(h[0]).argmax(axis=1) == data.labels)


for epoch in range(1, EPOCHS + 1):
    losses = []
    for b in np.array_split(rng.permutation(270), 5):
        x = (train.x[:, b] - mean) / scale
        x += 0.6 * rng.standard_normal(x.shape, dtype=np.float32)  # against overfitting

        _, h, tape = gru.forward(x, lengths=train.lengths[b])
        logits, out_tape = out.forward(h[0])
        loss, dlogits = bptt.losses.cross_entropy(logits, train.labels[b])

        out_grads = out.backward(out_tape, dlogits)
        gru_grads = gru.backward(tape, dstate=out_grads.x[None])
        grads = bptt.optim.join(gru=gru_grads.params, out=out_grads.params)
        bptt.clip_grad_norm(grads, 1.0)
        optimizer.step(grads)
        losses.append(loss)
    schedule.step()
    if epoch % 10 == 0 or epoch == EPOCHS:
        print(
            f"epoch {epoch:3}  loss {np.mean(losses):.4f}  right {accuracy(train):.4f} (training)"
        )

most = np.bincount(test.labels).max() / len(test.labels)
print(f"test accuracy {accuracy(test):.4f}; always naming the most frequent speaker: {most:.4f}")
