# SPDX-License-Identifier: MIT
"""PyTorch: `torch.nn.RNN`, `LSTM` and `GRU`, in float32 or all in bfloat16."""

from __future__ import annotations

import importlib
from typing import Any

from ..._types import Array
from ..workloads import Problem
from .job import Job, as_tuple, named, threads


def float32(cell: str, train: bool, p: Problem) -> Job:
    return _prepare(cell, train, p, "float32")


def bf16(cell: str, train: bool, p: Problem) -> Job:
    """Weights, x and states are converted once, outside the times: the least work for PyTorch."""
    return _prepare(cell, train, p, "bfloat16")


def _prepare(cell: str, train: bool, p: Problem, dtype: str) -> Job:
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads())
    kind = getattr(torch, dtype)
    layer = getattr(torch.nn, cell.upper())(p.x.shape[2], p.dy.shape[2], dtype=kind).train(train)
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), p.weights):
            parameter.copy_(torch.from_numpy(value))
    x, dy = torch.tensor(p.x).to(kind).requires_grad_(train), torch.tensor(p.dy).to(kind)
    states = tuple(torch.tensor(s[None]).to(kind).requires_grad_(train) for s in p.state)
    leaves = [x, *layer.parameters(), *states]

    def infer(state: Any) -> tuple[Any, ...]:
        return layer(x, state)  # type: ignore[no-any-return]

    def step(state: Any) -> tuple[Any, ...]:
        y, final = layer(x, state)
        return y, final, torch.autograd.grad(y, leaves, dy)

    def array(tensor: Any) -> Array:
        return tensor.detach().float().numpy()  # type: ignore[no-any-return]

    def arrays(result: tuple[Any, ...]) -> dict[str, Array]:
        y, final, *rest = result
        grads = [array(g) for grads in rest for g in grads]
        grads[5:] = [g[0] for g in grads[5:]]
        return named(array(y), [array(s)[0] for s in as_tuple(final)], grads)

    state = states if len(states) > 1 else states[0]
    if train:
        return Job(step, state, arrays)
    return Job(infer, state, arrays, torch.inference_mode)
