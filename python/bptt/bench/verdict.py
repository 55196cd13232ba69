# SPDX-License-Identifier: MIT
"""The verdict of `bptt bench`: how far bptt is ahead of the best library, or behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .peers import rivals
from .report import Figures, aligned, count, figures, short, star

MARGIN = 0.03  # behind by no more than this share is a tie


class Standing(NamedTuple):
    """The best library at one point, beside bptt."""

    peer: str
    ratio: float  # time of the library / time of bptt
    uncertain: bool


def best_rival(by_peer: dict[str, Figures]) -> Standing | None:
    """The best library that computes in float32, or None if bptt is alone."""
    return min(_standings(by_peer), key=lambda s: s.ratio, default=None)


def behind(by_peer: dict[str, Figures]) -> Standing | None:
    """The library that is ahead by most, and more than the margin, in undisturbed samples."""
    ahead = [s for s in _standings(by_peer) if s.ratio < 1 - MARGIN and not s.uncertain]
    return min(ahead, key=lambda s: s.ratio, default=None)


def _standings(by_peer: dict[str, Figures]) -> list[Standing]:
    return [Standing(n, by_peer[n].ratio, by_peer[n].uncertain) for n in rivals(by_peer)]


def verdict(results: Sequence[dict[str, Any]]) -> str:
    """A line of ratios for each cell, pass and number of threads; then where bptt is behind."""
    points = list(dict.fromkeys(r["point"] for r in results))
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    known, late = 0, []
    for r, by_peer in zip(results, figures(results)):
        best, ahead = best_rival(by_peer), behind(by_peer)
        if best is None:
            continue
        key = r["cell"], r["pass"], str(r["threads"])
        mark = "!" if ahead else star(best.uncertain)
        lines.setdefault(key, {})[r["point"]] = short(best.ratio) + mark
        known += ahead is not None or not best.uncertain
        if ahead:
            case = f"{r['cell']} {r['point']} {r['pass']}, {count(r['threads'], 'thread')}"
            late.append(f"  {case}: {short(ahead.ratio)} {ahead.peer}")
    if not lines:
        return ""
    table = [["cell", "pass", "threads", *points]]
    table += [[*key, *(texts.get(p, "") for p in points)] for key, texts in lines.items()]
    return "\n".join(
        [
            "Time of the best library that computes in float32 / time of bptt:",
            *aligned(table, left=2),
            f"Of {count(sum(map(len, lines.values())), 'case')}, {known} are certain (no *); in "
            f"{len(late)} of these bptt is behind by more than {MARGIN:.0%} (!)" + ":" * bool(late),
            *late,
        ]
    )
