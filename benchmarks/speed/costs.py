# SPDX-License-Identifier: MIT
"""Recorded tables of costs: a file for each kind of machine, with its tables by name."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bptt.bench.machine import describe, kind

from .sets import RESULTS, ROOT, day_of, name_of


class Table(NamedTuple):
    title: str
    head: str  # with " | " between the columns
    rows: list[list[str]]

    def markdown(self) -> str:
        return markdown(self.head.split(" | "), self.rows)


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def record(name: str, table: Table, folder: Path = ROOT / RESULTS / "costs") -> None:
    """Add a table to the file of this kind of machine, in place of an earlier one."""
    machine = describe()
    file = folder / f"{kind(machine)}.json"
    known = json.loads(file.read_text("utf-8")) if file.exists() else {"tables": {}}
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    libraries = ["bptt", "torch"] if "PyTorch" in str(table) else ["bptt"]
    versions = {name: importlib.metadata.version(name) for name in libraries}
    new = {"date": now, "versions": versions, **table._asdict()}
    tables = {**known["tables"], name: new}
    text = json.dumps({"date": now, "machine": machine, "tables": tables}, indent=1)
    file.write_text(text + "\n", "utf-8")


def newest(records: Sequence[dict[str, Any]], name: str) -> str:
    """The table of the machine that was measured last, with a caption."""
    found = [(r["tables"][name], r) for r in records if name in r["tables"]]
    if not found:
        return "Not measured yet.\n"
    table, machine = max(found, key=lambda pair: str(pair[0]["date"]))
    text = Table(table["title"], table["head"], table["rows"]).markdown()
    versions = ", ".join(f"{library} {version}" for library, version in table["versions"].items())
    cpu = machine["machine"]["cpu"]
    return f"{text}\n{name_of(machine)} ({cpu}); {versions}; {day_of(table)}.\n"
