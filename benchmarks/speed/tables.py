# SPDX-License-Identifier: MIT
"""Tables of the recorded results, on pages between a pair of comments.

    <!-- speed WHAT -->
    <!-- /speed -->

WHAT is one of

    machines            a row for each kind of machine
    sets                a section of tables for each kind of machine
    bf16                bfloat16, for each kind of machine on which it was measured
    range PEER THREADS  the smallest and the largest ratio to a library over all kinds of machine,
                        but those where bptt was kept from its best instruction set;
                        PEER `fastest` is the best library at each point and on each machine
    costs NAME          the table NAME of `benchmarks/costs.py`, from the newest machine that has it
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bptt.bench.peers import rivals
from bptt.bench.report import Figures, compare, count, short, star
from bptt.bench.verdict import Standing, behind, best_rival

from .costs import markdown, newest
from .sets import RESULTS, ROOT, Set, forced, read_files, read_sets

_BLOCK = re.compile(r"(<!-- speed (.+?) -->\n).*?(<!-- /speed -->)", re.DOTALL)
_Text = Callable[[dict[str, Any], dict[str, Figures]], str]


def update(page: str, results: Path = ROOT / RESULTS) -> str:
    """The page with its tables written again.

    Raises
    ------
    ValueError
        If a comment asks for a table that there is not, or a file is no set of results.
    """

    def write(match: re.Match[str]) -> str:
        head, what, foot = match.groups()
        return f"{head}{_block(what.split(), results)}{foot}"

    return _BLOCK.sub(write, page)


def _block(words: list[str], results: Path) -> str:
    match words:
        case ["machines"]:
            return _machines(read_sets(results / "speed"))
        case ["sets"]:
            return "\n".join(map(_section, read_sets(results / "speed")))
        case ["bf16"]:
            return _bf16(read_sets(results / "speed"))
        case ["range", peer, threads] if threads.isdigit():
            return _range(read_sets(results / "speed"), peer, int(threads))
        case ["costs", name]:
            return newest(read_files(results / "costs"), name)
    raise ValueError(
        f"speed comment: has {' '.join(words)!r}, expected machines, sets, bf16, "
        "range PEER THREADS or costs NAME"
    )


# --- parts of tables ------------------------------------------------------------------------------


def _grid(cells: dict[tuple[str, str, str], str]) -> str:
    """A table of texts by point, shape and column, in order of appearance."""
    columns = list(dict.fromkeys(column for _, _, column in cells))
    points = dict.fromkeys((point, shape) for point, shape, _ in cells)
    body = [[*row, *(cells.get((*row, column), "") for column in columns)] for row in points]
    return markdown(["size", "T, B, I, H", *columns], body)


def _place(result: dict[str, Any]) -> tuple[str, str, str]:
    shape = ", ".join(map(str, result["shape"]))
    return result["point"], shape, f"{result['cell'].upper()} {result['pass']}"


def _standing(by_peer: dict[str, Figures], peer: str) -> Standing | None:
    """A library or the fastest beside bptt, if it was timed."""
    if peer == "fastest":
        return best_rival(by_peer)
    f = by_peer.get(peer)
    return f and Standing(peer, f.ratio, f.uncertain)


def _shown(standing: Standing) -> str:
    return short(standing.ratio) + star(standing.uncertain)


# --- one kind of machine --------------------------------------------------------------------------


def _section(kind: Set) -> str:
    """All tables of a kind of machine."""
    text = f"### {kind.name}\n\n"
    for threads in sorted(kind.peaks):
        on, timed = f"on {count(threads, 'thread')}", kind.timed(threads)
        text += _titled(f"PyTorch in its default settings, {on}", kind, threads, ["torch"], _torch)
        text += _titled(f"The fastest library, {on}", kind, threads, rivals(timed), _fastest)
        title = f"Milliseconds of bptt, and their share of the peak, {on}"
        text += _titled(title, kind, threads, [], _own(kind.peaks[threads]))
    return text.rstrip() + "\n"


def _titled(title: str, kind: Set, threads: int, peers: Sequence[str], cell: _Text) -> str:
    """A table with its title and its caption, or nothing if it would be empty."""
    cells = {_place(r): cell(r, by_peer) for r, by_peer in kind.of(threads)}
    if not any(cells.values()):
        return ""
    return f"{title}:\n\n{_grid(cells)}\n{kind.caption(threads, peers)}\n\n"


def _torch(result: dict[str, Any], by_peer: dict[str, Figures]) -> str:
    standing = _standing(by_peer, "torch")
    return _shown(standing) if standing else ""


def _fastest(result: dict[str, Any], by_peer: dict[str, Figures]) -> str:
    standing = _standing(by_peer, "fastest")
    return f"{_shown(standing)} {standing.peer}" if standing else ""


def _own(peak: float) -> _Text:
    def text(result: dict[str, Any], by_peer: dict[str, Figures]) -> str:
        own = by_peer["bptt"]
        share = result["flops"] / (own.median * 1e-3) / (peak * 1e9)
        return f"{short(own.median)} ms{star(own.disturbed)}, {share:.0%}"

    return text


# --- all kinds of machine -------------------------------------------------------------------------


def _machines(sets: Sequence[Set]) -> str:
    body = []
    for kind in sets:
        machine, cases = kind.report["machine"], [by_peer for _, by_peer in kind.results]
        certain = [best for by in cases if (best := best_rival(by)) and not best.uncertain]
        late = [ahead for by in cases if (ahead := behind(by))]
        body.append(
            [
                kind.name,
                machine["cpu"],
                machine.get("caches", "not recorded"),
                ", ".join(f"{rate:.0f}" for rate in kind.peaks.values()),
                kind.code(),
                f"{len(late)} of {len(certain)}",
            ]
        )
    head = ["kind", "CPU", "caches", "peak on 1, 2 threads, GFLOP/s", "measured with", "behind"]
    return markdown(head, body)


def _bf16(sets: Sequence[Set]) -> str:
    title, text = "PyTorch in bfloat16 (in float32) / bptt with products in bfloat16, on ", ""
    for kind in sets:
        for threads, peak in kind.peaks.items():
            peers = ["torch", "torch_bf16"]
            shown = _titled(title + count(threads, "thread"), kind, threads, peers, _in_bf16(peak))
            text += shown.strip() + "\n" * bool(shown)
    return text or "Not measured yet.\n"


def _in_bf16(peak: float) -> _Text:
    def text(result: dict[str, Any], by_peer: dict[str, Figures]) -> str:
        peers = result["peers"]
        if not {"bptt_bf16", "torch_bf16", "torch"} <= peers.keys():
            return ""
        pair = (compare(peers[n], peers["bptt_bf16"], peak) for n in ("torch_bf16", "torch"))
        bf16, float32 = (short(f.ratio) + star(f.uncertain) for f in pair)
        return f"{bf16} ({float32})"

    return text


def _range(sets: Sequence[Set], peer: str, threads: int) -> str:
    found: dict[tuple[str, str, str], list[Standing]] = {}
    sets = [kind for kind in sets if not forced(kind.report)]
    for kind in sets:
        for result, by_peer in kind.of(threads):
            if standing := _standing(by_peer, peer):
                found.setdefault(_place(result), []).append(standing)
    if not found:
        raise ValueError(f"speed comment: no set has {peer!r} on {count(threads, 'thread')}")
    cells = {place: _ends(standings) for place, standings in found.items()}
    kinds = "".join(f"- {kind.caption(threads, [peer])}\n" for kind in sets if kind.of(threads))
    return f"{_grid(cells)}\n{kinds}"


def _ends(standings: Sequence[Standing]) -> str:
    """The smallest and the largest ratio, once if they show the same digits."""
    worst, best = (end(standings, key=lambda s: s.ratio) for end in (min, max))
    if short(worst.ratio) == short(best.ratio):
        return short(worst.ratio) + star(worst.uncertain or best.uncertain)
    return f"{_shown(worst)} to {_shown(best)}"
