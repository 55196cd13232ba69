# SPDX-License-Identifier: MIT
"""The pictures of `bptt bench --plot`: one for each cell."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._files.pictures import write_picture
from .report import compare, count, peaks, short


def plot_name(file: Path, cell: str) -> Path:
    """FILE-cell.suffix."""
    return file.with_name(f"{file.stem}-{cell}{file.suffix}")


def write_plots(report: Mapping[str, Any], file: Path, force: bool) -> None:
    """Write a picture for each cell."""
    for cell, figure in draw(report).items():
        write_picture("bench", "--plot", plot_name(file, cell), figure, "figure", force)


def draw(report: Mapping[str, Any]) -> dict[str, Any]:
    """A figure for each cell: speeds relative to torch, or to the first other library.

    There is a panel for each pass and number of threads, with a group of bars for each point.
    """
    figure_module = importlib.import_module("matplotlib.figure")
    names = list(report["versions"])
    base = "torch" if "torch" in names else names[min(1, len(names) - 1)]
    best = peaks(report["results"])
    groups: dict[str, dict[tuple[str, int], dict[str, dict[str, float]]]] = {}
    for result in report["results"]:
        panels = groups.setdefault(result["cell"], {})
        group = panels.setdefault((result["pass"], result["threads"]), {})
        group[result["point"]] = _speeds(result["peers"], base, best[result["threads"]])

    pictures = {}
    for cell, panels in groups.items():
        figure = figure_module.Figure((13, 3.4 * len(panels) + 0.7), dpi=120, layout="constrained")
        axes = figure.subplots(len(panels), squeeze=False)[:, 0]
        for panel, ((mode, threads), group) in zip(axes, panels.items()):
            panel.set_title(f"{cell.upper()}, {mode}, {count(threads, 'thread')}")
            panel.set_ylabel(f"speed, {base} = 1")
            _draw_bars(panel, group, base, names)
        machine = report["machine"]
        labelled = {label: h for p in axes for h, label in zip(*p.get_legend_handles_labels())}
        figure.legend(
            labelled.values(),
            labelled,
            loc="outside upper center",
            ncols=max(1, len(labelled)),
            frameon=False,
            title=f"{machine['architecture']}, {machine['isa']}, {report['date'][:10]}",
        )
        pictures[cell] = figure
    return pictures


def _speeds(peers: Mapping[str, Any], base: str, best: float) -> dict[str, float]:
    """The speed of each library relative to one of them."""
    if base not in peers:
        return {}
    return {name: compare(peers[base], peer, best).ratio for name, peer in peers.items()}


def _draw_bars(panel: Any, group: dict[str, dict[str, float]], base: str, names: list[str]) -> None:
    """Draw a group of bars for each point, from 1 up or down, with numbers on the bars of bptt."""
    ticker = importlib.import_module("matplotlib.ticker")
    shown = [n for n in names if n != base and any(n in speeds for speeds in group.values())]
    colours = importlib.import_module("matplotlib").colormaps["tab20"]
    width = 0.86 / max(1, len(shown))
    for k, name in enumerate(shown):
        has = {x: speeds[name] for x, speeds in enumerate(group.values()) if name in speeds}
        bars = panel.bar(
            [x + (k - (len(shown) - 1) / 2) * width for x in has],
            [speed - 1 for speed in has.values()],
            width,
            bottom=1,
            label=name,
            color=colours(names.index(name)),
        )
        if name == "bptt":
            panel.bar_label(bars, list(map(short, has.values())), fontsize=8, padding=1)
    panel.axhline(1, color="black", linewidth=0.8)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}x")
    panel.yaxis.set_minor_formatter("")
    panel.grid(axis="y", alpha=0.4)
    panel.set_axisbelow(True)
    panel.margins(x=0.01, y=0.15)
    panel.set_xticks(range(len(group)), list(group))
