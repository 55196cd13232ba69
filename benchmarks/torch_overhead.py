# SPDX-License-Identifier: MIT
"""Measure what a call through `bptt.torch` takes beside the core, in eager mode.

    python benchmarks/torch_overhead.py             # half a minute on a free core
    python benchmarks/torch_overhead.py --rounds 500

One layer in float32, one thread. In each round every candidate runs for a millisecond, in another
order; the table has lower quartiles. Columns, in microseconds for one call or training step:

    torch      the module of torch.nn
    bptt       the module of bptt.torch
    empty      an autograd.Function that takes and returns the same tensors and computes nothing
    core       the calls of the core alone, from NumPy arrays
    bridge     bptt - core - empty: what the bridge itself takes (for inference, bptt - core)
    ratio      torch / bptt
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import bptt
import bptt.torch
from bptt import _core
from bptt.bench.workloads import CELLS, POINTS, Point, problem

SIZES = ("stream32", "tiny", "small")
Job = Callable[[], Any]


class Empty(torch.autograd.Function):
    """The tensors of a module, and no work."""

    @staticmethod
    def forward(ctx: Any, shapes: Any, x: Any, *weights: Any) -> Any:
        ctx.set_materialize_grads(False)
        results = tuple(torch.empty(shape) for shape in shapes)
        ctx.save_for_backward(x, *weights, results[0])
        return results

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        x, *weights, _ = ctx.saved_tensors
        dx = torch.empty_like(x) if ctx.needs_input_grad[1] else None
        return None, dx, *map(torch.empty_like, weights)


class EmptyModule(torch.nn.Module):
    def __init__(self, like: Any, shapes: Any) -> None:
        super().__init__()
        self.shapes = shapes
        for name, parameter in like.named_parameters():
            self.register_parameter(name, torch.nn.Parameter(parameter.detach().clone()))

    def forward(self, x: Any) -> Any:
        y, *finals = Empty.apply(self.shapes, x, *self._parameters.values())
        return y, finals


def training(module: Any, x: Any, dy: Any) -> Job:
    parameters = list(module.parameters())

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        module(x)[0].backward(dy)

    return step


def inference(module: Any, x: Any) -> Job:
    def call() -> None:
        with torch.no_grad():
            module(x)

    return call


def core(kind: str, x: Any, weights: Any, dy: Any, train: bool) -> Job:
    wanted = bptt._grads.ALL & ~bptt._grads.BITS["x"] & ~bptt._grads.BITS["state"]
    how = ("none", 0.0, "h", 0, 0, 1, wanted)
    none = (None,) * len(CELLS[kind].states)

    def call() -> None:
        inputs = (x, *weights, None, None, False)
        tape = _core.forward(kind, inputs, None, train, (1, None, False))[2]
        if train:
            _core.backward(kind, tape, dy, none, how)

    return call


def jobs(kind: str, point: Point, train: bool) -> dict[str, Job]:
    T, B, I, H = point
    p = problem(kind, point)
    theirs = getattr(torch.nn, kind.upper())(I, H)
    ours = getattr(bptt.torch, kind.upper())(I, H)
    ours.load_state_dict(theirs.state_dict())
    shapes = [(T, B, H), *[(1, B, H) for _ in p.state]]
    x, dy = torch.tensor(p.x), torch.tensor(p.dy)
    made = {"torch": theirs, "bptt": ours, "empty": EmptyModule(theirs, shapes)}
    found = {name: training(m, x, dy) if train else inference(m, x) for name, m in made.items()}
    return found | {"core": core(kind, p.x, p.weights, p.dy, train)}


def measure(found: dict[str, Job], rounds: int) -> dict[str, float]:
    """Microseconds of each job, the lower quartile of interleaved rounds."""
    counts = {}
    for name, job in found.items():
        job()
        start = time.perf_counter()
        job()
        counts[name] = max(1, int(1e-3 / (time.perf_counter() - start)))
    times: dict[str, list[float]] = {name: [] for name in found}
    names = list(found)
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            job, count = found[name], counts[name]
            start = time.perf_counter()
            for _ in range(count):
                job()
            times[name].append((time.perf_counter() - start) / count * 1e6)
    return {name: statistics.quantiles(values, n=4)[0] for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"{'':22}{'torch':>8}{'bptt':>8}{'empty':>8}{'core':>8}{'bridge':>8}{'ratio':>8}")
    for size in SIZES:
        for kind in CELLS:
            for train in (False, True):
                t = measure(jobs(kind, POINTS[size], train), rounds)
                bridge = t["bptt"] - t["core"] - (t["empty"] if train else 0)
                row = [t["torch"], t["bptt"], t["empty"], t["core"], bridge]
                label = f"{size} {kind} {'train' if train else 'infer'}"
                numbers = "".join(f"{value:8.1f}" for value in row)
                print(f"{label:22}{numbers}{t['torch'] / t['bptt']:8.2f}")


if __name__ == "__main__":
    main()
