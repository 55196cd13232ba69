# SPDX-License-Identifier: MIT
"""Write like Hamlet: the next character
=====================================

An LSTM learns to predict the next character of the play.

Truncated backpropagation through time: 16 stretches of the play are read side by side, in chunks of
64 characters, and each chunk starts from the last state of the chunk before. Text: Shakespeare,
public domain, shipped with the package.
"""

import sys

import numpy as np

import bptt

PASSES = 1 if "--quick" in sys.argv else 15
HIDDEN = 32 if "--quick" in sys.argv else 128
T, B = 64, 16
rng = np.random.default_rng(0)

text = bptt.datasets.load_text()
letters = sorted(set(text))
codes = np.array([letters.index(c) for c in text])
split = len(codes) * 9 // 10
train, test = codes[:split], codes[split:]

# %%
# Read the play in order: the state goes on from chunk to chunk, the gradient does not.
lstm = bptt.LSTM(input_size=len(letters), hidden_size=HIDDEN, seed=0)
out = bptt.Linear(HIDDEN, len(letters), seed=0)
one_hot = np.eye(len(letters), dtype=np.float32)
optimizer = bptt.optim.Adam(bptt.optim.join(lstm=lstm.parameters, out=out.parameters), lr=5e-3)

# B columns, each a long stretch of the play: (length, B).
columns = train[: len(train) // B * B].reshape(B, -1).T
pieces = [columns[t : t + T + 1] for t in range(0, len(columns) - T, T)]
schedule = bptt.schedules.CosineAnnealing(optimizer, t_max=PASSES * len(pieces))


def bits_per_character(codes):
    y, _ = lstm(one_hot[codes[:-1, None]])
    return bptt.losses.cross_entropy(out(y[:, 0]), codes[1:])[0] / np.log(2)


curves = []
for n in range(1, PASSES + 1):
    state, losses = None, []
    for piece in pieces:
        y, state, tape = lstm.forward(one_hot[piece[:-1]], state)
        logits, out_tape = out.forward(y)
        loss, dlogits = bptt.losses.cross_entropy(logits, piece[1:])

        out_grads = out.backward(out_tape, dlogits)
        lstm_grads = lstm.backward(tape, dy=out_grads.x)
        grads = bptt.optim.join(lstm=lstm_grads.params, out=out_grads.params)
        bptt.clip_grad_norm(grads, 1.0)
        optimizer.step(grads)
        schedule.step()
        losses.append(loss)
    curves.append((np.mean(losses) / np.log(2), bits_per_character(test)))
    print("pass {:2}  {:.3f} bits/character, held out {:.3f}".format(n, *curves[-1]))

frequency = (np.bincount(train, minlength=len(letters)) + 1) / (len(train) + len(letters))
unigram = -np.log2(frequency[test]).mean()
print(f"letter frequencies alone (unigram): {unigram:.3f} bits/character")

# %%
# The network writes: each character is drawn from its prediction, and read as the next input.
written, state = list("\n\nHam.\n"), None
codes = [letters.index(c) for c in written]
while len(written) < 400:
    y, state = lstm(one_hot[np.array(codes)[:, None]], state)
    logits = out(y[-1, 0]).astype(np.float64) / 0.7  # a temperature below 1 plays safe
    p = np.exp(logits - logits.max())
    codes = [rng.choice(len(letters), p=p / p.sum())]
    written.append(letters[codes[0]])
print("".join(written))

if "--plot" in sys.argv:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(1 + np.arange(PASSES), curves, label=("training", "held out"))
    axes.axhline(unigram, color="0.6", lw=0.8, label="letter frequencies alone")
    axes.set(xlabel="pass over the play", ylabel="bits per character", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(sys.argv[-1], dpi=120)
