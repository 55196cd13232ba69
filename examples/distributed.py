# SPDX-License-Identifier: MIT
"""PyTorch: train on several processes or machines
===============================================

PyTorch's DistributedDataParallel around a GRU of `bptt.torch`.

Each process trains on its part of every batch, and PyTorch averages the gradients. After a crash,
torchrun starts all processes again, and they go on from the last checkpoint. Several machines run
the same command, with a checkpoint that all of them see; docs/distributed.md explains it. ::

    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1  # else PyTorch 2.13 may hang in a restart
    torchrun --standalone --nproc-per-node 2 --max-restarts 3 examples/distributed.py adding.pt
"""

import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import bptt.torch

PATH = sys.argv[1]
STEPS = 60 if "--quick" in sys.argv else 3000
T, BATCH, SAVE_EVERY = 60, 64, 20


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = bptt.torch.GRU(2, 64)
        self.out = torch.nn.Linear(64, 1)

    def forward(self, x):
        return self.out(self.gru(x)[1][0])[:, 0]


def save(state):
    """All or nothing: a crash leaves the checkpoint of before."""
    torch.save(state, PATH + ".new")
    os.replace(PATH + ".new", PATH)


dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
model = DistributedDataParallel(Model())
adam = torch.optim.Adam(model.parameters(), lr=3e-3)
first = 0
if os.path.exists(PATH):
    state = torch.load(PATH)
    first = state["step"]
    model.load_state_dict(state["model"])
    adam.load_state_dict(state["adam"])
    if rank == 0:
        print(f"goes on from step {first}", flush=True)

for step in range(first, STEPS):
    if step % SAVE_EVERY == 0 and rank == 0:
        save({"step": step, "model": model.state_dict(), "adam": adam.state_dict()})
    x, target, _ = bptt.tasks.adding(T, BATCH, seed=step)
    x, target = torch.from_numpy(x[:, rank::size]), torch.from_numpy(target[rank::size])
    loss = torch.nn.functional.mse_loss(model(x), target)
    adam.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()
    if (step + 1) % (STEPS // 10) == 0:
        dist.all_reduce(loss.detach_())
        if rank == 0:
            print(f"step {step + 1}  loss {loss.item() / size:.6f}", flush=True)
dist.destroy_process_group()
