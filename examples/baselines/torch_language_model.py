# SPDX-License-Identifier: MIT
"""PyTorch: the network and the training of `bptt.models.LanguageModel`, with torch.nn.

For ``--torch`` of next_character.py.
"""

import torch
from torch.nn.functional import cross_entropy

from bptt.models.language_model import windows_of
from bptt.models.vocabulary import tokens_of


def train_again(model, text):
    """Train a network of the sizes of a fitted model; write its weights into that model."""
    torch.manual_seed(model.seed)
    known, hidden = model.vocabulary_, model.hidden_size
    ids = known.encode(tokens_of("train_again", text, model.tokens))
    x, target = map(torch.from_numpy, windows_of(ids, model.window))
    embedding = torch.nn.Embedding(len(known), model.embedding_size)
    lstm = torch.nn.LSTM(model.embedding_size, hidden)
    head, dropout = torch.nn.Linear(hidden, len(known)), torch.nn.Dropout(model.dropout)
    modules = [embedding, lstm, head]
    parameters = [p for module in modules for p in module.parameters()]
    adam = torch.optim.Adam(parameters, lr=model.lr)
    steps = model.epochs * -(-len(x) // model.batch_size)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(model.epochs):
        for b in torch.randperm(len(x)).split(model.batch_size):
            h, _ = lstm(dropout(embedding(x[b].T)))
            logits = head(dropout(h)).flatten(0, 1)
            cross_entropy(logits, target[b].T.reshape(-1)).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            adam.step(), adam.zero_grad(), cosine.step()
    trained = [layer for layer in model.model_.layers if layer.parameters]
    for layer, module in zip(trained, modules):
        layer.load({name: p.detach().numpy() for name, p in module.named_parameters()})
