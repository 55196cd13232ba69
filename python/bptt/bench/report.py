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

from .peers import own_of

# A sample is calm if its process had this share of the core's time, and the multiply-adds right
# after it reached this share of their best rate. From this number of calm samples on, only they
# count.
CALM = {"cpu": 0.95, "probe": 0.85, "samples": 3}


class Figures(NamedTuple):
    """The times of one library at one point."""

    median: float  # ms per call
    minimum: float  # ms per call
    disturbed: bool  # are too few samples calm, so that all are used?
    ratio: float  # time of the library / time of bptt, median over the rounds
    uncertain: bool  # are both calm in too few rounds, so that all are used?


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
    """The figures of each result by library, beside the same work done by bptt."""
    best = peaks(results)
    return [
        {
            name: compare(peer, r["peers"][own_of(name, r["peers"])], best[r["threads"]])
            for name, peer in r["peers"].items()
        }
        for r in results
    ]


def compare(peer: dict[str, Any], own: dict[str, Any], best: float) -> Figures:
    """The figures of one library beside another, from calm samples if there are enough."""

    def enough(values: Sequence[Any], good: Sequence[bool]) -> tuple[Sequence[Any], bool]:
        if sum(good) >= CALM["samples"]:
            return [v for v, ok in zip(values, good) if ok], False
        return values, True

    good, own_good = calm(peer, best), calm(own, best)
    used, disturbed = enough(peer["seconds"], good)
    pairs = list(zip(peer["seconds"], own["seconds"]))
    both, uncertain = enough(pairs, [a and b for a, b in zip(good, own_good)])
    ratio = median(a / b for a, b in both)
    return Figures(1e3 * median(used), 1e3 * min(used), disturbed, ratio, uncertain)


def short(value: float) -> str:
    """Three digits, or all digits before the decimal point."""
    return f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:.0f}"


def count(number: int, what: str) -> str:
    """As in "1 thread" and "2 threads"."""
    return f"{number} {what}{'s' * (number != 1)}"


def _milliseconds(f: Figures) -> str:
    return f"{short(f.median)} ({short(f.minimum)}){star(f.disturbed)}"


def star(doubtful: bool) -> str:
    return "*" if doubtful else ""


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
            row += ["", ""] if f is None else [_milliseconds(f), short(f.ratio) + star(f.uncertain)]
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
        f"{_owns(report['versions'])}"
        "% of peak: speed relative to the best rate of float32 multiply-adds, which is measured "
        f"after each sample;\nthe best rates, in GFLOP/s by threads: {', '.join(best)}.\n"
        f"Disturbed samples (less than {CALM['cpu']:.0%} of the core's time, or multiply-adds "
        f"below {CALM['probe']:.0%} of the best)\n"
        f"are left out if at least {CALM['samples']} others remain."
    )
    every = (f for by_peer in figures(report["results"]) for f in by_peer.values())
    if any(f.disturbed or f.uncertain for f in every):
        return text + " *: fewer remain, so all are used; measure again."
    return text


def _owns(names: Sequence[str]) -> str:
    """Which libraries are compared with another call of bptt than the plain one?"""
    owns: dict[str, list[str]] = {}
    for name in names:
        owns.setdefault(own_of(name, names), []).append(name)
    return "".join(
        f"{', '.join(owns[own])}: time of the library / time of {own}.\n"
        for own in owns
        if own != "bptt"
    )


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
        print("\n".join(aligned([heading, *body], left=3)))
    print(notes(report))


def aligned(table: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of plain text; columns from the number `left` on are numbers."""
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    return [
        "  ".join(
            text.ljust(width) if k < left else text.rjust(width)
            for k, (text, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in table
    ]
