# SPDX-License-Identifier: MIT
"""Tables of results in documents: ``python -m bptt.bench.markdown PAGE.md ...`` updates them.

A page has a pair of comments around each table. The first names a file, relative to the page, a
library and a number of threads::

    <!-- bench results/0.1.0.json torch 1 -->
    <!-- /bench -->

The table has the ratio of the library's time to the time of bptt. For ``fastest``, it has the
smallest ratio and its library; for ``bptt``, milliseconds and the share of the peak.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from .._files.access import write_atomically
from .report import Figures, figures, peaks, short

_TABLE = re.compile(r"(<!-- bench (\S+) (\S+) (\S+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def update(page: str, folder: Path) -> str:
    """The page with its tables updated.

    Raises
    ------
    ValueError
        If a comment asks for a library or a number of threads that the file does not have.
    """

    def write(match: re.Match[str]) -> str:
        head, file, peer, threads, foot = match.groups()
        report = json.loads((folder / file).read_text("utf-8"))
        return f"{head}{_table(report, peer, threads)}{foot}"

    return _TABLE.sub(write, page)


def _table(report: dict[str, Any], peer: str, threads: str) -> str:
    results = [{"threads": 1, **r} for r in report["results"]]  # early files have one thread
    _check("library", peer, [*report["versions"], "fastest"])
    _check("number of threads", threads, sorted({str(r["threads"]) for r in results}))
    best = peaks(results)[int(threads)]
    texts: dict[str, dict[str, str]] = {}  # by point and by column
    for r, by_peer in zip(results, figures(results)):
        if str(r["threads"]) == threads:
            row = texts.setdefault(r["point"], {"T, B, I, H": ", ".join(map(str, r["shape"]))})
            row[f"{r['cell'].upper()} {r['pass']}"] = _text(r, by_peer, peer, best)
    columns = list(dict.fromkeys(column for row in texts.values() for column in row))
    lines = [["size", *columns], ["---"] * (1 + len(columns))]
    lines += [[point, *(row.get(c, "") for c in columns)] for point, row in texts.items()]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{text}\n{_caption(report, peer, threads)}\n"


def _check(what: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise ValueError(f"bench comment: {what} has {name!r}, expected one of {', '.join(names)}")


def _text(result: dict[str, Any], by_peer: dict[str, Figures], peer: str, best: float) -> str:
    own = by_peer["bptt"]
    others = [name for name in by_peer if name != "bptt"]
    if peer == "fastest":
        peer = min(others, key=lambda name: by_peer[name].ratio)
        named = f" {peer}"
    else:
        named = ""
    if peer not in by_peer:
        return ""
    star = "*" if own.disturbed or by_peer[peer].disturbed else ""
    if peer == "bptt":
        share = result["flops"] / (own.median * 1e-3) / (best * 1e9)
        return f"{short(own.median)} ms{star}, {share:.0%}"
    return f"{short(by_peer[peer].ratio)}{star}{named}"


def _caption(report: dict[str, Any], peer: str, threads: str) -> str:
    """The machine and the versions."""
    versions = report["versions"]
    shown = versions if peer == "fastest" else {name: versions[name] for name in ("bptt", peer)}
    machine = report["machine"]
    count = f"{threads} thread{'s' * (threads != '1')}"
    names = ", ".join(f"{name} {version}" for name, version in shown.items())
    return f"{machine['cpu']}, {machine['isa']}, {count}; {names}; {report['date'][:10]}."


def main(pages: Sequence[str]) -> int:
    for page in map(Path, pages):
        try:
            text = update(page.read_text("utf-8"), page.parent).encode()
        except (OSError, ValueError) as error:
            print(f"{page}: {error}", file=sys.stderr)
            return 2
        write_atomically(os.path.realpath(page), partial(_write, text))
    return 0


def _write(text: bytes, file: IO[bytes]) -> None:
    file.write(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
