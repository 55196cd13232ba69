# SPDX-License-Identifier: MIT
"""The pictures of `bptt bench --plot`: one for each cell."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._files.pictures import write_picture
from .report import Figures, figures, short


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
    groups: dict[str, dict[tuple[str, int], dict[str, dict[str, Figures]]]] = {}
    for result, by_peer in zip(report["results"], figures(report["results"])):
        panels = groups.setdefault(result["cell"], {})
        panels.setdefault((result["pass"], result["threads"]), {})[result["point"]] = by_peer

    pictures = {}
    for cell, panels in groups.items():
        figure = figure_module.Figure((13, 3.4 * len(panels) + 0.7), dpi=120, layout="constrained")
        axes = figure.subplots(len(panels), squeeze=False)[:, 0]
        for panel, ((mode, threads), group) in zip(axes, panels.items()):
            panel.set_title(f"{cell.upper()}, {mode}, {threads} thread{'s' * (threads > 1)}")
            panel.set_ylabel(f"speed, {base} = 1")
            _draw_bars(panel, group, base, names)
        labelled = {label: h for p in axes for h, label in zip(*p.get_legend_handles_labels())}
        figure.legend(
            labelled.values(),
            labelled,
            loc="outside upper center",
            ncols=max(1, len(labelled)),
            frameon=False,
        )
        pictures[cell] = figure
    return pictures


def _draw_bars(
    panel: Any, group: dict[str, dict[str, Figures]], base: str, names: list[str]
) -> None:
    """Draw a group of bars for each point, from 1 up or down, with numbers on the bars of bptt."""
    ticker = importlib.import_module("matplotlib.ticker")
    shown = [n for n in names if n != base and any(n in by_peer for by_peer in group.values())]
    width = 0.86 / max(1, len(shown))
    for k, name in enumerate(shown):
        has = [(x, by) for x, by in enumerate(group.values()) if name in by and base in by]
        speeds = [by[base].ratio / by[name].ratio for _, by in has]
        bars = panel.bar(
            [x + (k - (len(shown) - 1) / 2) * width for x, _ in has],
            [speed - 1 for speed in speeds],
            width,
            bottom=1,
            label=name,
            color=f"C{names.index(name)}",
        )
        if name == "bptt":
            panel.bar_label(bars, [short(speed) for speed in speeds], fontsize=8, padding=1)
    panel.axhline(1, color="black", linewidth=0.8)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}x")
    panel.yaxis.set_minor_formatter("")
    panel.grid(axis="y", alpha=0.4)
    panel.set_axisbelow(True)
    panel.margins(x=0.01, y=0.15)
    panel.set_xticks(range(len(group)), list(group))
