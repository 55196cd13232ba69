# SPDX-License-Identifier: MIT
"""``bptt bench``: the core beside its NumPy reference and other libraries.

Each library runs in a process of its own (`bptt.bench.worker`), on one thread and one core. First
each does the work once and its results are compared with those of bptt. Then the processes are
asked in turn for one sample each, round after round, so that whatever disturbs the machine meets
all of them alike, and times are compared within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import show_config
from ..io import write_atomically
from .peers import PEERS, TOLERANCE
from .points import CELLS, PASSES, POINTS, disagreement, flops
from .report import CALM, calm, draw, peak, print_table

__all__ = ["add_arguments", "run"]

POINTS_BY_DEFAULT = [name for name in POINTS if name not in ("large", "xl")]
POINTS_QUICK = ["tiny", "small", "stream128"]
SAMPLES = 20  # rounds that fit into the time of a case, unless single calls take longer

_WORKER = [sys.executable, "-m", "bptt.bench.worker"]
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


# --- arguments ------------------------------------------------------------------------------------


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = list(known) if text == "all" else text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"has {name!r}, expected 'all' or some of {','.join(known)}"
                )
        return [name for name in known if name in names]

    return parse


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"has {text!r}, expected a whole number from 1 up")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"has {text!r}, expected a number of seconds from 0 up")
    return value


def _file(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"has {text!r}, expected a file in an existing folder")
    return path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bptt bench`` to a parser."""
    lists = {
        "points": (list(POINTS), None, "sizes (default: all but large and xl)"),
        "cells": (list(CELLS), list(CELLS), "(default: all)"),
        "peers": (list(PEERS)[1:], list(PEERS)[1:], "libraries (default: all installed)"),
        "passes": (list(PASSES), list(PASSES), "(default: both)"),
    }
    for name, (known, default, text) in lists.items():
        parser.add_argument(
            f"--{name}",
            type=_names(known),
            default=default,
            metavar="A,B,...",
            help=f"{text}; of: {', '.join(known)}",
        )
    add = parser.add_argument
    add("--seconds", type=_seconds, help="for each line of the table (default: 1.5)")
    add("--repeats", type=_at_least_one, default=3, help="samples at least (default: 3)")
    add("--json", type=_file, metavar="FILE", help="write every sample and the machine's data")
    add("--plot", type=_file, metavar="FILE", help="draw the speeds relative to torch")
    add("--quick", action="store_true", help="three small points and 0.2 s for each line")


# --- workers --------------------------------------------------------------------------------------


class Worker:
    """One library in its own process; it ends with the `with` block."""

    def __init__(self, peer: str, core: int | None) -> None:
        self.peer = peer
        self.process = subprocess.Popen(
            [*_WORKER, peer, *([] if core is None else [str(core)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=os.environ | _ONE_THREAD,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends this process
        )

    def ask(self, do: str, **request: Any) -> dict[str, float]:
        with contextlib.suppress(BrokenPipeError):  # it has ended, as the next line will show
            print(json.dumps({"do": do, **request}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline() if self.process.stdout else ""
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


def _installed(peers: Sequence[str]) -> list[str]:
    """Those that can run here; the others are reported with the line that installs them."""
    found = []
    for peer in peers:
        missing = [name for name in PEERS[peer].modules if not importlib.util.find_spec(name)]
        if missing:
            line = f'pip install "bptt[{PEERS[peer].extra}]"'
            _say(f"bench: {peer} is left out: {' and '.join(missing)} not installed ({line})")
        else:
            found.append(peer)
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- measuring ------------------------------------------------------------------------------------


class Case(NamedTuple):
    cell: str
    point: str
    mode: str  # the pass

    def __str__(self) -> str:
        return f"{self.cell} {self.point} {self.mode}"


def _load(case: Case, workers: Mapping[str, Worker]) -> dict[str, tuple[float, float]]:
    """By library: seconds per call, and the agreement of its results with those of bptt."""
    loaded: dict[str, tuple[float, float]] = {}
    expected: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bptt-bench-") as folder:
        for name, worker in workers.items():  # bptt is the first
            file = os.path.join(folder, name + ".npz")
            request = {"cell": case.cell, "point": case.point, "pass": case.mode, "file": file}
            seconds = worker.ask("load", **request)["seconds"]
            with np.load(file) as arrays:
                result = dict(arrays)
            expected = expected or result
            error, array = disagreement(result, expected)
            if error > TOLERANCE:
                raise RuntimeError(
                    f"bench: {case}: {name} disagrees with bptt: {array} has the relative error "
                    f"{error:.1e}, expected at most {TOLERANCE:.0e}"
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
        "flops": flops(case.cell, POINTS[case.point], case.mode),
        "peers": peers,
    }


def _measure_all(
    cases: Sequence[Case], peers: Sequence[str], seconds: float, repeats: int, core: int | None
) -> list[dict[str, Any]]:
    results = []
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(name, core)) for name in ["bptt", *peers]}
        for k, case in enumerate(cases):
            _say(f"[{k + 1}/{len(cases)}] {case}")
            able = {
                name: worker
                for name, worker in workers.items()
                if case.mode in PEERS[name].passes and case.cell in PEERS[name].cells
            }
            results.append(measure(case, able, seconds, repeats))
    return results


# --- the command ----------------------------------------------------------------------------------


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "isa": show_config()["isa"],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _version(peer: str) -> str:
    if peer == "reference":
        return f"NumPy {np.__version__}"
    return importlib.metadata.version((*PEERS[peer].modules, "bptt")[0])


def _matplotlib_writes(file: Path) -> None:
    """Raise unless the picture can be written at the end."""
    if not importlib.util.find_spec("matplotlib"):
        raise ValueError('bench: plot needs matplotlib: pip install "bptt[plot]"')
    canvas = importlib.import_module("matplotlib.backend_bases").FigureCanvasBase
    known = sorted(canvas.filetypes)
    if file.suffix[1:].lower() not in known:
        raise ValueError(f"bench: plot has {str(file)!r}, expected a name in .{', .'.join(known)}")


def _to_json(report: Mapping[str, Any]) -> str:
    """Indented, but each result on one line."""
    lines = ",\n".join(json.dumps(result) for result in report["results"])
    head = json.dumps({**report, "results": []}, indent=1)
    return head.replace('"results": []', f'"results": [\n{lines}\n]') + "\n"


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, and write what the options ask for.

    Returns
    -------
    int
        0 when done, 1 if a library's results differ from those of bptt or its process failed.

    Raises
    ------
    ValueError
        If the options leave nothing to time, or ask for a picture without matplotlib.
    """
    points = args.points or (POINTS_QUICK if args.quick else POINTS_BY_DEFAULT)
    seconds = args.seconds if args.seconds is not None else 0.2 if args.quick else 1.5
    cases = [
        Case(cell, point, mode)
        for cell in args.cells
        for mode in args.passes
        for point in points
        if mode in POINTS[point].passes
    ]
    if not cases:
        raise ValueError(f"bench: points has {','.join(points)}, expected one with a training pass")
    if args.plot:
        _matplotlib_writes(args.plot)
    peers = _installed(args.peers)
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    try:
        results = _measure_all(cases, peers, seconds, args.repeats, core)
    except RuntimeError as error:
        _say(str(error))
        return 1
    for result in results:
        for peer in result["peers"].values():
            peer["disturbed"] = calm(peer, peak(results)).count(False)
    report = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": _machine(),
        "settings": {"seconds": seconds, "repeats": args.repeats, "calm": CALM},
        "threads": 1,
        "core": core,
        "dtype": "float32",
        "tolerance": TOLERANCE,
        "versions": {name: _version(name) for name in ["bptt", *peers]},
        "fma_peak_gflops": peak(results),
        "results": results,
    }
    print_table(report)
    if args.json:
        text = _to_json(report).encode()
        write_atomically(os.path.realpath(args.json), lambda file: file.write(text))
    if args.plot:
        figure, suffix = draw(report), args.plot.suffix[1:]
        write_atomically(
            os.path.realpath(args.plot), lambda file: figure.savefig(file, format=suffix)
        )
    return 0
