# SPDX-License-Identifier: MIT
"""The processes that `bptt bench` times in turn, and their samples."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .peers import PEERS
from .workloads import POINTS, disagreement, flops

SAMPLES = 20  # number of rounds in the time of a case, unless single calls take longer

_WORKER = [sys.executable, "-m", "bptt.bench.worker"]


def say(text: str) -> None:
    """Report progress on standard error, separate from the results."""
    print(text, file=sys.stderr, flush=True)


# --- workers --------------------------------------------------------------------------------------


def allowed_cores() -> list[int] | None:
    """The cores that this process may use, or None if the system cannot pin processes."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _environment(threads: int) -> dict[str, str]:
    """Environment variables that set the number of threads of each library."""
    names = ["BPTT_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
    several = str(threads > 1).lower()
    return {
        **dict.fromkeys([*names, "VECLIB_MAXIMUM_THREADS"], str(threads)),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={several} "
        f"intra_op_parallelism_threads={threads}",
    }


class Worker:
    """One library in its own process, which ends with the `with` block.

    The process is stopped except during requests: threads of many libraries spin while they wait
    for work, and would take the cores from the library that is timed.
    """

    def __init__(self, peer: str, threads: int) -> None:
        self.peer = peer
        cores = (allowed_cores() or [])[-threads:]
        self.process = subprocess.Popen(
            [*_WORKER, peer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, **_environment(threads), **PEERS[peer].environment},
            start_new_session=True,  # Ctrl-C reaches the parent only, which then ends this process
            # Pinned before it loads anything, so that the threads of its library inherit the cores.
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
        )

    def _signal(self, name: str) -> None:
        if sys.platform == "linux":  # where the end of the parent also ends a stopped worker
            self.process.send_signal(getattr(signal, name))

    def ask(self, do: str, **request: Any) -> dict[str, float]:
        self._signal("SIGCONT")
        with contextlib.suppress(BrokenPipeError):  # the process has ended: readline returns ""
            print(json.dumps({"do": do, **request}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline() if self.process.stdout else ""
        if line:
            self._signal("SIGSTOP")
        reply: dict[str, Any] = (
            json.loads(line) if line else {"error": f"it ended with code {self.process.wait()}"}
        )
        if "error" in reply:
            raise RuntimeError(f"bench: {self.peer} failed in its process: {reply['error']}")
        return reply

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate()  # waits, and closes the pipes


# --- measuring ------------------------------------------------------------------------------------


class Case(NamedTuple):
    cell: str
    point: str
    mode: str  # the pass
    threads: int

    def __str__(self) -> str:
        threads = f", {self.threads} threads" if self.threads > 1 else ""
        return f"{self.cell} {self.point} {self.mode}{threads}"


def _load(case: Case, workers: Mapping[str, Worker]) -> dict[str, tuple[float, float]]:
    """By library: seconds per call, and the error of its results relative to bptt's."""
    loaded: dict[str, tuple[float, float]] = {}
    expected: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bptt-bench-") as folder:
        for name, worker in workers.items():  # bptt comes first
            file = os.path.join(folder, name + ".npz")
            request = {"cell": case.cell, "point": case.point, "pass": case.mode, "file": file}
            seconds = worker.ask("load", **request)["seconds"]
            with np.load(file) as arrays:
                result = dict(arrays)
            expected = expected or result
            error, array = disagreement(result, expected)
            bound = PEERS[name].tolerance
            if error > bound:
                raise RuntimeError(
                    f"bench: {case}: {name} disagrees with bptt: {array} has a relative error "
                    f"of {error:.1e}, expected at most {bound:.0e}"
                )
            loaded[name] = seconds, error
    return loaded


def measure(
    case: Case, workers: Mapping[str, Worker], seconds: float, repeats: int
) -> dict[str, Any]:
    """Check that the libraries agree, then time them in turn."""
    loaded = _load(case, workers)
    share = seconds / len(workers) / SAMPLES
    calls = {name: max(1, round(share / loaded[name][0])) for name in workers}
    rounds: list[dict[str, dict[str, float]]] = []
    start = time.monotonic()
    while len(rounds) < repeats or time.monotonic() - start < seconds:
        rounds.append({n: worker.ask("time", calls=calls[n]) for n, worker in workers.items()})
    peers = {
        name: {
            "relative_error": float(f"{loaded[name][1]:.2g}"),
            "calls_per_sample": calls[name],
            **{
                key: [float(f"{r[name][key]:.4g}") for r in rounds]
                for key in ("seconds", "cpu", "probe")
            },
        }
        for name in workers
    }
    return {
        "cell": case.cell,
        "point": case.point,
        "shape": list(POINTS[case.point]),
        "pass": case.mode,
        "threads": case.threads,
        "flops": flops(case.cell, POINTS[case.point], case.mode),
        "peers": peers,
    }


def _times(name: str, case: Case) -> bool:
    """Is this library timed in this case?"""
    peer, stream = PEERS[name], POINTS[case.point].stream
    return case.mode in peer.passes and (peer.streams or not stream)


def measure_all(
    cases: Sequence[Case], peers: Sequence[str], seconds: float, repeats: int
) -> list[dict[str, Any]]:
    """Measure every case, grouped by number of threads, since a group shares its processes."""
    results: list[dict[str, Any]] = []
    for threads in dict.fromkeys(case.threads for case in cases):
        with contextlib.ExitStack() as stack:
            workers = {n: stack.enter_context(Worker(n, threads)) for n in ["bptt", *peers]}
            for case in (case for case in cases if case.threads == threads):
                say(f"[{len(results) + 1}/{len(cases)}] {case}")
                able = {name: worker for name, worker in workers.items() if _times(name, case)}
                results.append(measure(case, able, seconds, repeats))
    return results
