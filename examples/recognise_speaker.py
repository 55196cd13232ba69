# SPDX-License-Identifier: MIT
"""Recognise a speaker
===================

Which of nine men says /ae/? A GRU reads sequences of 7 to 29 frames in one batch.

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

# %%
# Nine numbers, made of the state after the last frame of each sequence.
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

# %%
# Sequences of the test that were never trained on.
most = np.bincount(test.labels).max() / len(test.labels)
print(f"test accuracy {accuracy(test):.4f}; always naming the most frequent speaker: {most:.4f}")

if "--plot" in sys.argv:
    from matplotlib.figure import Figure

    y, _ = gru((test.x - mean) / scale, lengths=test.lengths)
    right = out(y).argmax(axis=2) == test.labels  # (T, B): an answer after each frame
    heard = np.arange(len(y))[:, None] < test.lengths
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(1 + np.arange(len(y)), (right & heard).sum(1) / heard.sum(1), label="GRU")
    axes.axhline(most, color="0.6", lw=0.8, label="the most frequent speaker")
    axes.set(xlabel="frames heard", ylabel="right answers", ylim=(0, 1.02))
    axes.legend(frameon=False)
    figure.savefig(sys.argv[-1], dpi=120)
