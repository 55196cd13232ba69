# SPDX-License-Identifier: MIT
"""PyTorch: the networks and the training of memory.py, with torch.nn."""

import numpy as np
import torch

from bptt import Attention
from bptt.batches import batch_order


class Network(torch.nn.Module):
    """The same layers as of a `Sequential`, with the same weights."""

    def __init__(self, model):
        super().__init__()
        embedding, cell, pool, head = model.layers
        self.embedding = torch.nn.Embedding(embedding.num_embeddings, embedding.embedding_dim)
        self.cell = getattr(torch.nn, type(cell).__name__)(cell.input_size, cell.hidden_size)
        self.head = torch.nn.Linear(head.in_features, head.out_features)
        self.pool = torch.nn.ParameterDict()
        if isinstance(pool, Attention):
            copies = {name: torch.from_numpy(a.copy()) for name, a in pool.parameters.items()}
            self.pool = torch.nn.ParameterDict(copies)
        for layer, module in self.pairs(model):
            if layer is not pool:
                module.load_state_dict(
                    {name: torch.from_numpy(a.copy()) for name, a in layer.parameters.items()}
                )

    def pairs(self, model):
        return zip(model.layers, (self.embedding, self.cell, self.pool, self.head))

    def forward(self, ids):
        y, _ = self.cell(self.embedding(ids))
        if not self.pool:
            return self.head(y[-1])
        fit = torch.tanh(y @ self.pool["weight_key"].T + self.pool["bias"])
        weights = (fit @ self.pool["weight_score"]).softmax(0)
        return self.head((weights[..., None] * y).sum(0))


def train_again(model, x, target, epochs, lr, seed):
    """Train a copy of the untrained model as `bptt.fit` does; write its weights into the model."""
    torch.manual_seed(seed)
    network = Network(model)
    x, target = torch.from_numpy(x), torch.from_numpy(target)
    adam = torch.optim.Adam(network.parameters(), lr=lr)
    for epoch in range(epochs):
        rng = np.random.default_rng((seed, epoch))
        for batch in batch_order([x.shape[1]] * len(x), 32, rng):
            torch.nn.functional.cross_entropy(network(x[batch].T), target[batch]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            adam.step(), adam.zero_grad()
    for layer, module in network.pairs(model):
        if layer.parameters:
            layer.load({name: p.detach().numpy() for name, p in module.named_parameters()})
