# SPDX-License-Identifier: MIT
"""The table of `bptt bench`: medians, minima and ratios of the samples."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

# A sample is calm if its process had this share of the core's time, and the multiply-adds right
# after it reached this share of their best rate. From this number of calm samples on, only they
# count.
CALM = {"cpu": 0.95, "probe": 0.85, "samples": 3}


class Figures(NamedTuple):
    """The times of one library at one point."""

    median: float  # ms per call
    minimum: float  # ms per call
    ratio: float  # time of the library / time of bptt, median over the rounds
    disturbed: bool  # were too few samples calm, so that all are used?


def peaks(results: Sequence[dict[str, Any]]) -> dict[int, float]:
    """GFLOP/s of multiply-adds by number of threads: the best probe of the run."""
    best: dict[int, float] = {}
    for r in results:
        probes = [p for peer in r["peers"].values() for p in peer["probe"]]
        best[r["threads"]] = max(best.get(r["threads"], 0.0), *probes)
    return best


def calm(peer: dict[str, Any], best: float) -> list[bool]:
    """Is each sample of a library at one point calm?"""
    return [
        cpu >= CALM["cpu"] and probe >= CALM["probe"] * best
        for cpu, probe in zip(peer["cpu"], peer["probe"])
    ]


def figures(results: Sequence[dict[str, Any]]) -> list[dict[str, Figures]]:
    """The figures of each result by library, from calm samples if there are enough."""
    best = peaks(results)

    def enough(values: Sequence[Any], good: Sequence[bool]) -> Sequence[Any]:
        return [v for v, ok in zip(values, good) if ok] if sum(good) >= CALM["samples"] else values

    def compare(peer: dict[str, Any], own: dict[str, Any], best: float) -> Figures:
        good, own_good = calm(peer, best), calm(own, best)
        used = enough(peer["seconds"], good)
        pairs = list(zip(peer["seconds"], own["seconds"]))
        both = enough(pairs, [a and b for a, b in zip(good, own_good)])
        disturbed = sum(good) < min(CALM["samples"], len(good))
        return Figures(
            1e3 * median(used), 1e3 * min(used), median(a / b for a, b in both), disturbed
        )

    return [
        {
            name: compare(peer, r["peers"]["bptt"], best[r["threads"]])
            for name, peer in r["peers"].items()
        }
        for r in results
    ]


def short(value: float) -> str:
    """Three digits, or all digits before the decimal point."""
    return f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:.0f}"


def _milliseconds(f: Figures) -> str:
    return f"{short(f.median)} ({short(f.minimum)})" + ("*" if f.disturbed else "")


def rows(report: dict[str, Any]) -> list[list[str]]:
    """The rows of the table, with the heading first."""
    peers = [name for name in report["versions"] if name != "bptt"]
    columns = [text for name in peers for text in (f"{name} ms", "ratio")]
    table = [["cell", "size", "pass", "threads", "bptt ms", "% of peak", *columns]]
    best = peaks(report["results"])
    for result, by_peer in zip(report["results"], figures(report["results"])):
        own = by_peer["bptt"]
        share = result["flops"] / (own.median * 1e-3) / (best[result["threads"]] * 1e9)
        row = [result[key] for key in ("cell", "point", "pass")] + [str(result["threads"])]
        row += [_milliseconds(own), f"{100 * share:.0f}"]
        for name in peers:
            f = by_peer.get(name)
            row += ["", ""] if f is None else [_milliseconds(f), short(f.ratio)]
        table.append(row)
    return table


def notes(report: dict[str, Any]) -> str:
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    pinned = "not pinned" if report["cores"] is None else "pinned to as many cores as threads"
    best = [f"{rate:.0f} on {n}" for n, rate in peaks(report["results"]).items()]
    text = (
        f"{machine['cpu']}, {machine['isa']}; {versions}; float32, {pinned}.\n"
        "ms per call: median (minimum). ratio: time of the library / time of bptt; above 1, bptt "
        "is faster.\n"
        "% of peak: speed relative to the best rate of float32 multiply-adds, which is measured "
        f"after each sample;\nthe best rates, in GFLOP/s by threads: {', '.join(best)}.\n"
        f"Disturbed samples (less than {CALM['cpu']:.0%} of the core's time, or multiply-adds "
        f"below {CALM['probe']:.0%} of the best)\n"
        f"are left out if at least {CALM['samples']} others remain."
    )
    if any(f.disturbed for by_peer in figures(report["results"]) for f in by_peer.values()):
        return text + " *: fewer remain, so all are used; measure again."
    return text


def print_table(report: dict[str, Any]) -> None:
    """Print with rich if it is installed and the terminal is wide enough, else as plain text."""
    heading, *body = rows(report)
    widths = [max(len(row[k]) for row in (heading, *body)) for k in range(len(heading))]
    wide = shutil.get_terminal_size().columns >= sum(widths) + 2 * len(widths)
    if wide and sys.stdout.isatty() and importlib.util.find_spec("rich"):
        rich = importlib.import_module("rich")
        box = importlib.import_module("rich.box").SIMPLE_HEAD
        table = importlib.import_module("rich.table").Table(box=box, pad_edge=False)
        for k, text in enumerate(heading):
            table.add_column(text, justify="left" if k < 3 else "right", no_wrap=True)
        for row in body:
            table.add_row(*row)
        rich.print(table)
    else:
        for row in (heading, *body):
            left = [text.ljust(width) for text, width in zip(row[:3], widths)]
            right = [text.rjust(width) for text, width in zip(row[3:], widths[3:])]
            print("  ".join(left + right).rstrip())
    print(notes(report))
