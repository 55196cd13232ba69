# SPDX-License-Identifier: MIT
"""The pictures of a report and of a monitor."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from .curves import Curve
from .measure import CellFlow
from .report_data import ReportData
from .verdict import number

__all__ = ["draw", "draw_records"]

# Colours of Okabe & Ito (2008), which colour-blind readers can distinguish.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
FONT = {"font.size": 11, "axes.titlesize": 12, "legend.fontsize": 10}
GATES = ("-", "--", "-.", ":")


def new_figure(caller: str, width: float, height: float) -> Any:
    """An empty matplotlib figure without a window."""
    try:
        figure = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise ImportError(
            f'{caller}: matplotlib is not installed: pip install "bptt[plot]"'
        ) from error
    return figure.Figure((width, height), dpi=100, layout="constrained")


def style() -> Any:
    """A context in which figures have readable fonts, whatever the user's settings."""
    return importlib.import_module("matplotlib").rc_context({**FONT, "axes.grid": True})


def colour(cell: CellFlow, report: ReportData) -> str:
    """One for each layer, of both directions."""
    layers = [*dict.fromkeys((c.place, c.layer) for c in report.cells)]
    return COLOURS[layers.index((cell.place, cell.layer)) % len(COLOURS)]


def draw(report: ReportData) -> Any:
    """Norms by lag, cumulative shares, saturation."""
    figure = new_figure("plot", 11, 8.4)
    with style():
        axes = figure.subplot_mosaic([["lag", "lag"], ["share", "gates"]])
        _draw_lags(axes["lag"], report)
        _draw_shares(axes["share"], report)
        _draw_gates(axes["gates"], report)
    for panel in axes.values():
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_lags(axes: Any, report: ReportData) -> None:
    reach = max(c.curve.reach for c in report.cells)
    lowest = float(np.finfo(report.dtype).tiny)
    rows = 0
    for cell in report.cells:
        for state, curve in cell.curves.items():
            main = state == cell.state
            label = f"{cell.name}, $\\|dL/d{state}\\|$" + (_label(curve) if main else "")
            axes.plot(
                np.arange(len(curve.norms)) * curve.every,
                np.where(curve.norms > 0, curve.norms, np.nan), "--" if cell.reverse else "-",
                color=colour(cell, report), lw=2.2 if main else 1, alpha=1 if main else 0.6,
                label=label,
            )  # fmt: skip
        curve = cell.curve
        if curve.horizon < curve.reach and curve.level > 0:
            axes.plot(
                curve.horizon, 0.01 * curve.level, "o", color=colour(cell, report), mec="white"
            )
        if curve.zero_from is not None:
            rows += 1
            axes.plot(
                [curve.zero_from, curve.reach], [lowest / 10 ** (2 * rows)] * 2,
                "--" if cell.reverse else "-", color=colour(cell, report), lw=4, alpha=0.6,
            )  # fmt: skip
    axes.set_yscale("log")
    bottom, top = axes.get_ylim()
    if bottom < lowest * 1e6:
        axes.axhline(lowest, color="0.35", ls=":", lw=1.2)
        zeros = "; thick: exactly 0" if rows else ""
        axes.annotate(
            f"smallest normal {report.dtype} number, {lowest:.1e}{zeros}", (0, lowest), (6, 4),
            textcoords="offset points", color="0.35", fontsize=10,
        )  # fmt: skip
        axes.set_ylim(lowest / 10 ** (2 * rows + 2), top)
    axes.set_xlim(0, max(reach, 1))
    axes.set(
        title="A gradient of norm 1 that enters at the last step, on its way back",
        xlabel="lag: steps before the end of a sequence",
        ylabel="norm of the gradient (root mean square)",
    )
    axes.legend(loc="best")


def _label(curve: Curve) -> str:
    inside = curve.horizon < curve.reach
    horizon = f", horizon {number(curve.horizon)} (dot)" if inside else ""
    return horizon + (f", 0 from lag {curve.zero_from}" if curve.zero_from is not None else "")


def _draw_shares(axes: Any, report: ReportData) -> None:
    steps = max(len(c.share) for c in report.cells)
    for cell in report.cells:
        total = 100 * np.cumsum(cell.share)
        axes.plot(
            total,
            "--" if cell.reverse else "-",
            color=colour(cell, report),
            lw=2.2,
            label=cell.name,
        )
    axes.axhline(100, color="0.35", ls=":", lw=1.2)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlim(0, max(steps - 1, 1))
    axes.set(
        title="Where $dL/dW_{hh}$ of the loss comes from",
        xlabel="lag: steps before the end of a sequence",
        ylabel="share of all lags up to here (%)",
    )
    axes.legend(loc="best")


def _draw_gates(axes: Any, report: ReportData) -> None:
    off = {cell.turns_off(gate) for cell in report.cells for gate in cell.saturated}
    both = "Saturated units (within 0.01 of an end; for relu, off)"
    saturated = both if True in off else "Saturated units (within 0.01 of an end)"
    for cell in report.cells:
        several = len(cell.saturated) > 1
        for gate, line in zip(cell.saturated, GATES):
            axes.plot(
                100 * cell.saturated[gate], line if several or not cell.reverse else "--",
                color=colour(cell, report), lw=0.9 if cell.reverse else 1.6,
                label=cell.name + (f", {gate}" if several else ""),
            )  # fmt: skip
    axes.set_ylim(-3, 103)
    axes.set_xlim(0, max(len(report.cells[0].dh) - 1, 1))
    axes.set(
        title="Units that are off" if off == {True} else saturated,
        xlabel="time step $t$",
        ylabel="units (%)",
    )
    axes.legend(loc="best", ncols=2, fontsize=9)


# --- records of a monitor -------------------------------------------------------------------------


def draw_records(records: Sequence[dict[str, Any]]) -> Any:
    """The horizon, and the norms at the last and first step, over the updates."""
    figure = new_figure("plot", 9, 6)
    names = list(dict.fromkeys(cell["name"] for record in records for cell in record["cells"]))
    steps = [record["step"] for record in records]
    with style():
        above, below = figure.subplots(2, sharex=True)
        for k, name in enumerate(names):
            cells = [{c["name"]: c for c in record["cells"]}.get(name, {}) for record in records]

            def values(key: str, cells: list[dict[str, Any]] = cells) -> Any:
                return np.array([c.get(key) for c in cells], np.float64)  # None becomes NaN

            line = {"color": COLOURS[k % len(COLOURS)], "marker": ".", "lw": 1.6}
            above.plot(steps, values("horizon"), label=name, **line)
            below.plot(steps, _positive(values("last")), label=f"{name}, last step", **line)
            below.plot(steps, _positive(values("first")), "--", label=f"{name}, first step", **line)
        above.set(title="Memory horizon (a gap: beyond the sequence)", ylabel="steps")
        above.set_ylim(bottom=0)
        below.set(title="Norm of the gradient of the state", xlabel="update", ylabel="norm")
        below.set_yscale("log")
    for panel in (above, below):
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        if names:
            panel.legend(loc="best")
    return figure


def _positive(values: Any) -> Any:
    return np.where(values > 0, values, np.nan)
