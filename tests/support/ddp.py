# SPDX-License-Identifier: MIT
"""The same training by DistributedDataParallel on several ranks, and by hand in one process."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import bptt.torch

STEPS = 4
T, B, I, H = 9, 8, 5, 19


class Model(torch.nn.Module):
    """Two recurrent modules, and a layer that PyTorch does not have."""

    def __init__(self, library: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        nn: Any = bptt.torch if library == "bptt" else torch.nn
        self.lstm = nn.LSTM(I, H, num_layers=2, bidirectional=True)
        self.gru = nn.GRU(2 * H, H)
        self.norm = bptt.torch.Layer(bptt.MGU(H, H, layer_norm=True, seed=0))
        self.out = torch.nn.Linear(H, 1)

    def forward(self, x: Any) -> Any:
        y = self.gru(self.lstm(x)[0])[0]
        return self.out(self.norm(y)[1][0])


def loss_of(model: Any, step: int, rank: int, ranks: int) -> Any:
    made = torch.Generator().manual_seed(step)
    x, target = (torch.randn(shape, generator=made) for shape in ((T, B, I), (B, 1)))
    return torch.nn.functional.mse_loss(model(x[:, rank::ranks]), target[rank::ranks])


def trained(model: Any, losses: Any) -> dict[str, Any]:
    """Take the steps; `losses(step)` is a loss after its gradients are there."""
    found: dict[str, list[Any]] = {"losses": [], "gradients": [], "parameters": []}
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(STEPS):
        sgd.zero_grad()
        found["losses"].append(losses(step))
        found["gradients"].append({n: p.grad.clone() for n, p in model.named_parameters()})
        sgd.step()
        found["parameters"].append({n: p.data.clone() for n, p in model.named_parameters()})
    return found


def by_hand(parts: int) -> dict[str, Any]:
    """The gradients of each part of the batch, then their mean."""
    model = Model("bptt")

    def losses(step: int) -> float:
        total, sums = 0.0, None
        for part in range(parts):
            loss = loss_of(model, step, part, parts)
            grads = [g / parts for g in torch.autograd.grad(loss, list(model.parameters()))]
            sums = grads if sums is None else [a + b for a, b in zip(sums, grads)]
            total += loss.item() / parts
        for parameter, gradient in zip(model.parameters(), sums or ()):
            parameter.grad = gradient
        return total

    return trained(model, losses)


def main(library: str, folder: str, rank: str) -> None:
    """One of two ranks; with small buckets, whose order PyTorch chooses after the first step."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/{library}", rank=int(rank), world_size=2
    )
    model = Model(library)
    parallel = DistributedDataParallel(model, bucket_cap_mb=0.004)

    def losses(step: int) -> float:
        loss = loss_of(parallel, step, int(rank), 2)
        loss.backward()
        return float(loss)

    torch.save(trained(model, losses), f"{folder}/{library}{rank}.pt")
    dist.destroy_process_group()
