# SPDX-License-Identifier: MIT
"""PyTorch: the network and the training of `bptt.models.SequenceClassifier`, with torch.nn.

For ``--torch`` of the examples that classify. Sequences of different lengths are packed.
"""

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bptt import pad_sequences
from bptt.batches import batch_order
from bptt.models.inputs import read
from bptt.models.preparation import Preparation


class Network(torch.nn.Module):
    """The layers of an estimator, for an output of each class."""

    def __init__(self, model, inputs, classes):
        super().__init__()
        self.embedding, size = None, inputs.features
        if size is None:
            size = model.embedding_size
            self.embedding = torch.nn.Embedding(len(inputs.vocabulary), size)
            torch.nn.init.normal_(self.embedding.weight, std=0.1)
        kind = getattr(torch.nn, model.cell.upper())
        self.rnn = kind(size, model.hidden_size, bidirectional=model.bidirectional)
        self.dropout = torch.nn.Dropout(model.dropout)
        self.head = torch.nn.Linear(model.hidden_size * (1 + model.bidirectional), classes)
        self.mean = model.pooling == "mean"

    def forward(self, sequences):
        x, lengths = map(torch.from_numpy, pad_sequences(sequences))
        if self.embedding is not None:
            x = self.dropout(self.embedding(x))
        if (lengths == len(x)).all():
            y, state = self.rnn(x)
        else:
            y, state = self.rnn(pack_padded_sequence(x, lengths, enforce_sorted=False))
            y = pad_packed_sequence(y)[0] if self.mean else None
        h = state[0] if isinstance(state, tuple) else state
        pooled = y.sum(0) / lengths[:, None] if self.mean else torch.cat([*h], 1)
        return self.head(self.dropout(pooled))


def train(model, x, target):
    """Train the network of an estimator from the start; return a function that makes `predict`.

    `target` numbers the classes from 0. The batches are those of `bptt.fit`.
    """
    torch.manual_seed(model.seed)
    given = read("train", x, model.tokens, None, None)
    inputs = Preparation.of(given, model.vocabulary_size, model.min_count)
    sequences, target = inputs("train", "train", given), torch.as_tensor(target)
    network = Network(model, inputs, int(target.max()) + 1)
    adam = torch.optim.Adam(network.parameters(), lr=model.lr)
    steps = model.epochs * -(-len(target) // model.batch_size)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    lengths = [len(one) for one in sequences]
    for epoch in range(model.epochs):
        rng = np.random.default_rng((model.seed, epoch))
        for batch in batch_order(lengths, model.batch_size, rng):
            logits = network([sequences[k] for k in batch])
            torch.nn.functional.cross_entropy(logits, target[batch]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            adam.step(), adam.zero_grad(), cosine.step()
    network.eval()

    @torch.no_grad()
    def probabilities(x):
        given = inputs("train", "train", read("train", x, model.tokens, None, None))
        parts = [network([*given[k : k + 256]]).softmax(1) for k in range(0, len(given), 256)]
        return torch.cat(parts).numpy()

    return probabilities
