# SPDX-License-Identifier: MIT
"""PyTorch: `torch.nn.RNN`, `LSTM` and `GRU`."""

from __future__ import annotations

import importlib
from typing import Any

from ..._types import Array
from ..workloads import Problem
from .job import Job, as_tuple, named, threads


def prepare(cell: str, train: bool, p: Problem) -> Job:
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads())
    layer = getattr(torch.nn, cell.upper())(p.x.shape[2], p.dy.shape[2]).train(train)
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), p.weights):
            parameter.copy_(torch.from_numpy(value))
    x, dy = torch.tensor(p.x, requires_grad=train), torch.tensor(p.dy)
    states = tuple(torch.tensor(s[None], requires_grad=train) for s in p.state)
    leaves = [x, *layer.parameters(), *states]

    def infer(state: Any) -> tuple[Any, ...]:
        return layer(x, state)  # type: ignore[no-any-return]

    def step(state: Any) -> tuple[Any, ...]:
        y, final = layer(x, state)
        return y, final, torch.autograd.grad(y, leaves, dy)

    def arrays(result: tuple[Any, ...]) -> dict[str, Array]:
        y, final, *rest = result
        grads = [g.numpy() for grads in rest for g in grads]
        grads[5:] = [g[0] for g in grads[5:]]
        return named(y.detach().numpy(), [s[0].detach().numpy() for s in as_tuple(final)], grads)

    state = states if len(states) > 1 else states[0]
    if train:
        return Job(step, state, arrays)
    return Job(infer, state, arrays, torch.inference_mode)
