# SPDX-License-Identifier: MIT
"""Recorded sets of results: a file for each kind of machine, named by the kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from bptt.bench.machine import kind
from bptt.bench.report import Figures, count, figures, peaks

ROOT = Path(__file__).parents[2]
RESULTS = Path("benchmarks") / "results"  # from the root


def read_files(folder: Path) -> list[dict[str, Any]]:
    """The contents of all files of a folder by date, the newest first.

    Raises
    ------
    ValueError
        If a file is no record of a machine, or named otherwise than by the kind of its machine.
    """
    records = [_read(file) for file in sorted(folder.glob("*.json"))]
    return sorted(records, key=lambda record: str(record["date"]), reverse=True)


def _read(file: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(file.read_text("utf-8"))
    try:
        known = kind(record["machine"])
        day_of(record)
    except (KeyError, TypeError):
        raise ValueError(
            f"{file.name}: no record of a machine, expected 'date' and, in 'machine', "
            "'architecture' and 'isa'"
        ) from None
    if file.stem != known:
        raise ValueError(f"{file.name}: its machine is of another kind, expected {known}.json")
    return record


def day_of(record: dict[str, Any]) -> str:
    return str(record["date"][:10])


def forced(record: dict[str, Any]) -> bool:
    """Did bptt use another instruction set than its best, while other libraries used theirs?"""
    machine = record["machine"]
    return bool(machine["isa"] != machine.get("best_isa", machine["isa"]))


def name_of(record: dict[str, Any]) -> str:
    """As in "AMD Zen 3, avx2"."""
    machine = record["machine"]
    name = f"{machine['architecture']}, {machine['isa']}"
    return f"{name} instead of {machine['best_isa']}" if forced(record) else name


class Set:
    """The results of `bptt bench` on one kind of machine."""

    def __init__(self, report: dict[str, Any], newest: str) -> None:
        self.report, self.name, self.day = report, name_of(report), day_of(report)
        self.older = self.day < newest  # measured with older code than the newest set?

    @cached_property
    def results(self) -> list[tuple[dict[str, Any], dict[str, Figures]]]:
        """Each result, and its figures by library."""
        return list(zip(self.report["results"], figures(self.report["results"])))

    @cached_property
    def peaks(self) -> dict[int, float]:
        """GFLOP/s of multiply-adds by number of threads."""
        return peaks(self.report["results"])

    def of(self, threads: int) -> list[tuple[dict[str, Any], dict[str, Figures]]]:
        return [(r, by_peer) for r, by_peer in self.results if r["threads"] == threads]

    def timed(self, threads: int) -> list[str]:
        """The libraries that were timed on this number of threads, bptt among them."""
        return list(dict.fromkeys(name for _, by_peer in self.of(threads) for name in by_peer))

    def code(self) -> str:
        """The version of bptt, and the day that tells versions under way apart."""
        text = f"bptt {self.report['versions']['bptt']} of {self.day}"
        return f"{text} (older code)" if self.older else text

    def caption(self, threads: int, peers: Sequence[str]) -> str:
        """The machine, and the versions of the libraries that are shown."""
        others = [f"{n} {v}" for n, v in self.report["versions"].items() if n in peers]
        cpu = self.report["machine"]["cpu"]
        where = f"{self.name} ({cpu}), {count(threads, 'thread')}"
        return f"{where}; {', '.join([self.code(), *others])}."


def read_sets(folder: Path) -> list[Set]:
    """All sets, the newest first."""
    reports = read_files(folder)
    return [Set(report, day_of(reports[0])) for report in reports]
