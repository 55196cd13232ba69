# SPDX-License-Identifier: MIT
"""Measure this kind of machine, then write the tables and pictures of all kinds.

    python -m benchmarks.speed [options of bptt bench]   # half an hour on two cores
    python -m benchmarks.speed --force                   # measure a kind of machine again
    python -m benchmarks.speed --pages                   # measure nothing

By default all sizes are measured on one thread and on two, for five seconds and at least five
rounds. The results go to `benchmarks/results/speed/KIND.json`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bptt.bench.machine import describe, kind
from bptt.bench.measure import allowed_cores
from bptt.bench.peers import PEERS
from bptt.bench.plot import write_plots
from bptt.cli import main as bptt

from .sets import RESULTS, ROOT, read_sets
from .tables import update


def write_pages(root: Path = ROOT) -> None:
    """Write the tables of all pages, if all of them can be made."""
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    old = {page: page.read_text("utf-8") for page in pages}
    new = {page: update(text, root / RESULTS) for page, text in old.items()}
    for page, text in new.items():
        if text != old[page]:
            page.write_text(text, "utf-8")


def write_pictures(root: Path = ROOT) -> None:
    """Draw the newest set, on one thread."""
    report = read_sets(root / RESULTS / "speed")[0].report
    one = [result for result in report["results"] if result["threads"] == 1]
    write_plots({**report, "results": one}, root / "docs" / "bench.png", force=True)


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", usage="%(prog)s [--pages] [--force] [bench options]"
    )
    parser.add_argument("--pages", action="store_true")
    parser.add_argument("--force", action="store_true")
    args, others = parser.parse_known_args(arguments)
    if not args.pages:
        file = root / RESULTS / "speed" / f"{kind(describe())}.json"
        if file.exists() and not args.force:
            parser.error(f"{file} exists, expected a new kind of machine, or --force")
        threads = "1,2" if len(allowed_cores() or "12") > 1 else "1"
        peers = ",".join(name for name in PEERS if name not in ("bptt", "reference"))
        standard = {"points": "all", "peers": peers, "threads": threads, "json": str(file)}
        standard |= {"seconds": "5", "repeats": "5"}
        options = [word for name, value in standard.items() for word in (f"--{name}", value)]
        if code := bptt(["bench", *options, *others]):
            return code
    write_pages(root)
    write_pictures(root)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
