# SPDX-License-Identifier: MIT
"""The process in which one library is timed: ``python -m bptt.bench.worker PEER``.

It answers each line of JSON on standard input with a line on standard output, and ends when its
input ends::

    {"do": "load", "cell": ..., "point": ..., "pass": ..., "file": ...}   -> {"seconds": ...}
    {"do": "time", "calls": n}      -> {"seconds": per call, "cpu": share, "probe": GFLOP/s}

"load" prepares the work, runs it until warm, and saves the results of the next call to a file
(npz). The results of a first call would hide whether a call leaves something behind. The answer to
a failure is {"error": ...}.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from .measure import allowed_cores
from .peers import PEERS
from .peers.job import Job, threads
from .workloads import POINTS, problem

CHECKED_STEPS = 3  # steps of a stream before its results are saved
WARM_SECONDS = 0.02  # time of warm calls, at least one after the first, which may compile
PR_SET_PDEATHSIG = 1  # <sys/prctl.h>: a stopped process would not notice the end of its input
PROBES, PROBE_SECONDS = 5, 2e-4  # several, since wide vector units take time to power up


def probe(threads: int) -> float:
    """The best GFLOP/s of multiply-adds, on as many cores at once as threads."""
    if threads == 1:
        return max(_core.fma_gflops(PROBE_SECONDS) for _ in range(PROBES))
    rates: list[float] = []
    cores = allowed_cores()
    ready = threading.Barrier(threads)

    def work(k: int) -> None:
        if cores:
            os.sched_setaffinity(0, {cores[k]})  # affects this thread only
        ready.wait()
        rates.append(probe(1))

    helpers = [threading.Thread(target=work, args=[k]) for k in range(threads)]
    for helper in helpers:
        helper.start()
    for helper in helpers:
        helper.join()
    return sum(rates)


class Bench:
    """The loaded work, and the requests."""

    def __init__(self, peer: str) -> None:
        self.prepare = PEERS[peer].prepare
        self.job: Job | None = None
        self.carry = False

    def run(self, calls: int) -> tuple[Any, ...]:
        """Make several calls. A stream carries its state; others start from the same state."""
        assert self.job is not None
        run, state = self.job.run, self.job.state
        result: tuple[Any, ...] = ()
        if self.carry:
            for _ in range(calls):
                result = run(state)
                state = result[1]
        else:
            for _ in range(calls):
                result = run(state)
        return result

    def load(self, request: dict[str, Any]) -> dict[str, float]:
        self.job = None  # frees the last job before the next is made
        gc.collect()
        cell, point = request["cell"], POINTS[request["point"]]
        self.carry = point.stream
        self.job = self.prepare(cell, request["pass"] == "training", problem(cell, point))
        with self.job.context():
            self.run(1)
            best, start = float("inf"), time.perf_counter()
            while time.perf_counter() - start < WARM_SECONDS:
                before = time.perf_counter()
                self.run(1)
                best = min(best, time.perf_counter() - before)
            arrays: Any = self.job.arrays(self.run(CHECKED_STEPS if self.carry else 1))
        np.savez(request["file"], **arrays)
        return {"seconds": best}

    def time(self, request: dict[str, Any]) -> dict[str, float]:
        assert self.job is not None
        calls = request["calls"]
        with self.job.context():
            if calls > 1:
                self.run(1)  # refill the caches, which the other libraries used meanwhile
            cpu, start = time.process_time(), time.perf_counter()
            self.run(calls)
            seconds = time.perf_counter() - start
            cpu = time.process_time() - cpu
        # The probe shows if the host slows the core down, the CPU time if other processes share it.
        return {"seconds": seconds / calls, "cpu": cpu / seconds, "probe": probe(threads())}


def main(argv: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)  # keep the output of a library out of the replies
        gc.disable()
        bench = Bench(argv[0])
        requests: dict[str, Callable[[dict[str, Any]], dict[str, float]]] = {
            "load": bench.load,
            "time": bench.time,
        }
        for line in sys.stdin:
            request = json.loads(line)
            reply: dict[str, Any]
            try:
                reply = requests[request["do"]](request)
            except Exception as error:
                reply = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
