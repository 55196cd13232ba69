# SPDX-License-Identifier: MIT
"""Time `bptt.jax` beside `jax.lax.scan` of the equations, and beside bptt called without JAX.

    taskset -c 0 python benchmarks/jax_overhead.py                  # two minutes; prints a table
    taskset -c 0 python benchmarks/jax_overhead.py small,medium lstm

Each row is one size and cell of `bptt bench`, in float32. All three are timed in one process, in
turn, round after round; a ratio is the median of the ratios within rounds. Training is a compiled
forward and backward pass with the gradients of x, all weights and the initial state, for a given
dL/dy. All results must agree before anything is timed. The scan has the weights in the layout that
suits XLA best, bptt has PyTorch's.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import jax

import bptt.jax
from bptt.bench.peers import bptt_peer
from bptt.bench.peers import jax as scan_peer
from bptt.bench.peers.job import Job, as_tuple, named
from bptt.bench.workloads import CELLS, POINTS, Problem, disagreement, problem

SIZES = ("tiny", "small", "medium", "medium2", "large", "long", "online", "wide")
ROUNDS, SAMPLE = 9, 0.05  # seconds of one sample, at least one call


def prepare(cell: str, train: bool, p: Problem) -> Job:
    """`bptt.jax` in a compiled program, as `prepare` of the peers."""
    function = getattr(bptt.jax, cell)

    def forward(x: Any, weights: Any, state: Any) -> Any:
        return function(x, *weights, state if cell == "lstm" else state[0])

    def forward_backward(x: Any, weights: Any, state: Any, dy: Any) -> Any:
        y, pull, final = jax.vjp(forward, x, weights, state, has_aux=True)
        return y, final, pull(dy)

    x, weights, dy = jax.tree.map(jax.numpy.asarray, (p.x, p.weights, p.dy))
    infer, train_step = jax.jit(forward), jax.jit(forward_backward)

    def run(state: Any) -> Any:
        out = train_step(x, weights, state, dy) if train else infer(x, weights, state)
        return jax.block_until_ready(out)

    def arrays(result: Any) -> dict[str, Any]:
        y, final, *rest = result
        return named(y, as_tuple(final), [g for d in rest for g in jax.tree.leaves(d)])

    return Job(run, jax.tree.map(jax.numpy.asarray, p.state), arrays)


def seconds(job: Job, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        job.run(job.state)
    return (time.perf_counter() - start) / calls


def row(cell: str, size: str, train: bool) -> tuple[float, float, float]:
    """Milliseconds of `bptt.jax`; the times of the scan and of bptt alone, relative to it."""
    p = problem(cell, POINTS[size])
    jobs = [peer(cell, train, p) for peer in (prepare, scan_peer.prepare, bptt_peer.core)]
    results = [job.arrays(job.run(job.state)) for job in jobs]
    for result in results[:2]:
        error, name = disagreement(result, results[2])
        assert error < 2e-4, f"{cell} {size}: {name} differs by {error:.1e}"
    calls = [max(1, int(SAMPLE / seconds(job, 1))) for job in jobs]
    rounds = [[seconds(job, n) for job, n in zip(jobs, calls)] for _ in range(ROUNDS)]
    own, scan, alone = zip(*rounds)
    return (
        1e3 * statistics.median(own),
        statistics.median(s / o for s, o in zip(scan, own)),
        statistics.median(a / o for a, o in zip(alone, own)),
    )


def main(sizes: str = ",".join(SIZES), cells: str = ",".join(CELLS)) -> None:
    print("| size | cell | pass | bptt.jax | scan / bptt.jax | bptt alone / bptt.jax |")
    print("|---|---|---|---|---|---|")
    for size in sizes.split(","):
        for cell in cells.split(","):
            for train in (False, True):
                ms, scan, alone = row(cell, size, train)
                name = "training" if train else "inference"
                ratios = f"{ms:.3f} ms | {scan:.2f} | {alone:.2f}"
                print(f"| {size} | {cell} | {name} | {ratios} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
