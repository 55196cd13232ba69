# SPDX-License-Identifier: MIT
"""``bptt bench``: the core against its NumPy reference and other libraries.

Each library runs in its own process (`bptt.bench.worker`), on as many cores as threads. First each
library does the work once, and its results are compared with bptt's. Then the processes take
turns, one sample each per round: a disturbance of the machine affects all of them alike, and times
are compared within a round.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._arguments import as_file, refused, whole
from .._files.access import check_target, mark, write_file
from .._files.pictures import PICTURE, check_format
from .machine import describe
from .measure import Case, allowed_cores, measure_all, say
from .peers import PEERS
from .plot import plot_name, write_plots
from .report import CALM, calm, peaks, print_table
from .verdict import verdict
from .workloads import CELLS, PASSES, POINTS

__all__ = ["add_arguments", "run"]

POINTS_BY_DEFAULT = [name for name in POINTS if name not in ("large", "xl")]
JSON = mark("results made by bptt", b'{\n "date": ', b' "fma_peak_gflops": ')
POINTS_QUICK = ["tiny", "small", "stream128"]
EPILOG = """\
names of --peers:
  reference      bptt.reference, in NumPy
  torch_tuned    torch, with a C library that keeps freed memory
  onednn         oneDNN from C++; onednn3 is a second version of it
  ..._packed     with weights packed once; bptt_prepared: by layer.prepare()
  ..._bf16       in bfloat16

example:
  bptt bench --points small,medium --cells lstm --peers torch,onnxruntime"""

# --- arguments ------------------------------------------------------------------------------------


def _names(choices: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = list(choices) if text == "all" else text.split(",")
        for name in names:
            if name not in choices:
                raise refused(name, f"'all' or some of {','.join(choices)}")
        return [name for name in choices if name in names]

    return parse


def _threads(text: str) -> list[int]:
    most = len(allowed_cores() or range(os.cpu_count() or 1))
    choices = [str(n + 1) for n in range(most)]
    if not set(text.split(",")) <= set(choices):
        cores = f"{most} core{'s' if most > 1 else ''}"
        raise refused(text, f"some of {','.join(choices)}: this process may use {cores}")
    return sorted({int(n) for n in text.split(",")})


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise refused(text, "a number of seconds from 0 up")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bptt bench`` to a parser."""
    parser.epilog = EPILOG
    lists = {
        "points": (list(POINTS), None, "problem sizes", "all but large and xl"),
        "cells": (list(CELLS), list(CELLS), "kinds of cells", "all"),
        "peers": (list(PEERS)[1:], list(PEERS)[1:], "other libraries", "all that are installed"),
        "passes": (list(PASSES), list(PASSES), "kinds of calls", "both"),
    }
    for name, (choices, default, text, words) in lists.items():
        parser.add_argument(
            f"--{name}",
            type=_names(choices),
            default=default,
            metavar="A,B,...",
            help=f"{text}: {', '.join(choices)} (default: {words})",
        )
    add = parser.add_argument
    add(
        "--threads",
        type=_threads,
        default=[1],
        metavar="N,N,...",
        help="numbers of threads of a call (default: 1)",
    )
    add("--seconds", type=_seconds, help="time for each row of the table (default: 1.5)")
    add("--repeats", type=whole(1), default=3, help="minimum number of samples (default: 3)")
    add(
        "--json",
        type=as_file,
        metavar="FILE",
        help="write all samples and a description of the machine",
    )
    add(
        "--plot",
        type=as_file,
        metavar="FILE",
        help="draw speeds relative to torch, in one picture per cell, FILE-cell",
    )
    add("--force", action="store_true", help="also overwrite files that bptt did not make")
    add("--quick", action="store_true", help="three small sizes, and 0.2 s for each row")


# --- the command ----------------------------------------------------------------------------------


def _installed(peers: Sequence[str]) -> list[str]:
    """Find the libraries that can run here; report the others, with the line that installs them."""
    found = []
    for peer in peers:
        missing = PEERS[peer].missing()
        if missing:
            say(f"bench: {peer} is left out: {missing}")
        else:
            found.append(peer)
    return found


def _to_json(report: Mapping[str, Any]) -> str:
    """Indented JSON, but with each result on one line."""
    lines = ",\n".join(json.dumps(result) for result in report["results"])
    head = json.dumps({**report, "results": []}, indent=1)
    return head.replace('"results": []', f'"results": [\n{lines}\n]') + "\n"


def _check_files(args: argparse.Namespace) -> None:
    """Raise now if a file cannot be written at the end."""
    if args.json:
        check_target("bench", args.json, JSON, "--json", args.force)
    if args.plot:
        check_format("bench", "--plot", args.plot)
        for cell in args.cells:
            check_target("bench", plot_name(args.plot, cell), PICTURE, "--plot", args.force)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, and write the files of the options.

    Returns
    -------
    int
        0, or 1 if the results of a library differ from bptt's, or its process failed.

    Raises
    ------
    ValueError
        If the options leave nothing to time, or ask for a picture without matplotlib.
    """
    points = args.points or (POINTS_QUICK if args.quick else POINTS_BY_DEFAULT)
    seconds = args.seconds if args.seconds is not None else 0.2 if args.quick else 1.5
    cases = [
        Case(cell, point, mode, threads)
        for threads in args.threads
        for cell in args.cells
        for mode in args.passes
        for point in points
        if mode in POINTS[point].passes
    ]
    if not cases:
        raise ValueError(
            f"bench: --points has {','.join(points)}, expected one with a training pass"
        )
    _check_files(args)
    peers = _installed(args.peers)
    try:
        results = measure_all(cases, peers, seconds, args.repeats)
    except RuntimeError as error:
        say(str(error))
        return 1
    best = peaks(results)
    for result in results:
        for peer in result["peers"].values():
            peer["disturbed"] = calm(peer, best[result["threads"]]).count(False)
    report = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": describe(),
        "settings": {"seconds": seconds, "repeats": args.repeats, "calm": CALM},
        "threads": args.threads,
        "cores": allowed_cores(),
        "dtype": "float32",
        "tolerance": {name: PEERS[name].tolerance for name in ["bptt", *peers]},
        "versions": {name: PEERS[name].version() for name in ["bptt", *peers]},
        "fma_peak_gflops": best,
        "results": results,
    }
    print_table(report)
    if text := verdict(results):
        print(f"\n{text}")
    if args.json:
        write_file("bench", args.json, _to_json(report).encode(), JSON, "--json", args.force)
    if args.plot:
        write_plots(report, args.plot, args.force)
    return 0
