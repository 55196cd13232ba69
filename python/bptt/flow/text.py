# SPDX-License-Identifier: MIT
"""A report as text, and the table of numbers that text and pages share."""

from __future__ import annotations

import importlib
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._cells import CELLS
from .curves import Curve
from .measure import CellFlow
from .report_data import ReportData
from .verdict import counted, gate_name, number, percent

__all__ = ["COLOURS", "as_rich", "as_text", "loss_of", "summary", "table"]

# Colours of Okabe & Ito (2008), which colour-blind readers can distinguish, darkened for text.
COLOURS = {
    "non-finite": "#a33c00",
    "exploding": "#a33c00",
    "dead": "#a33c00",
    "vanishing": "#8a6100",
    "healthy": "#00694d",
    "too short": "#555555",
}
WIDTH = 98
SHORT = {"weight_ih": "W_ih", "weight_hh": "W_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}


def summary(report: ReportData) -> str:
    lengths = report.lengths
    least, most = int(lengths.min()), int(lengths.max())
    steps = f"T = {counted(most, 'step')}"
    if least != most:
        steps = f"{number(least)} to {counted(most, 'step')}"
    return f"{report.model}, {report.dtype}; {steps}, B = {counted(len(lengths), 'sequence')}"


def loss_of(report: ReportData) -> str:
    """The loss in words, and its value if it is known."""
    value = "" if report.value is None else f", L = {number(report.value)}"
    return f"Loss: {report.loss}{value}"


def reading(report: ReportData) -> list[str]:
    return [report.reading] if report.reading else []


def table(report: ReportData) -> list[tuple[str, list[str]]]:
    """Rows of numbers: a name, and a value for each layer and direction."""
    cells = report.cells
    rows = [
        ("horizon (gradient down to 1 % of lag 1), steps", [_horizon(c.curve) for c in cells]),
        ("one step back multiplies the gradient by", [number(c.curve.factor) for c in cells]),
        ("steps for a factor of 10", [number(c.curve.tenfold) for c in cells]),
        ("||dL/dh|| at the first step", [number(c.first) for c in cells]),
        *_norms(report),
        ("share of dL/dW_hh, first tenth of the steps", [percent(c.tenth(False)) for c in cells]),
        ("share of dL/dW_hh, last tenth of the steps", [percent(c.tenth(True)) for c in cells]),
    ]
    if any(c.state != "h" for c in cells):
        rows.insert(1, ("horizon of dL/dh alone, steps", [_horizon(c.curves["h"]) for c in cells]))
    for gate in dict.fromkeys(g for c in cells for g in c.saturated):
        name, first = f"saturated units of {gate_name(gate)}", _first(cells, gate)
        if first.turns_off(gate):
            name = "units that are off" + f" of gate {gate}" * (len(first.saturated) > 1)
        shares = [c.saturation(gate) if gate in c.saturated else math.nan for c in cells]
        rows.append((name, list(map(percent, shares))))
    if any(c.retained is not None for c in cells):
        gates = dict.fromkeys(CELLS[c.cell].retains for c in cells if c.retained is not None)
        name = f"mean of gate {' or '.join(map(str, gates))}, which keeps the state"
        rows.append((name, [number(c.retained) for c in cells]))
    if any(c.radius is not None for c in cells):
        rows.append(("spectral radius of W_hh", [number(c.radius) for c in cells]))
        rows.append(("upper bound of one step's factor", [number(c.bound) for c in cells]))
    return rows


def _first(cells: Sequence[CellFlow], gate: str) -> CellFlow:
    """The first layer that has the gate."""
    return next(c for c in cells if gate in c.saturated)


def _horizon(curve: Curve) -> str:
    if not len(curve.tops) > 1 or not np.isfinite(curve.norms).all():
        return "-"
    return number(curve.horizon) if curve.horizon < curve.reach else f"over {number(curve.reach)}"


def _cell_names(report: ReportData) -> list[str]:
    return [c.name for c in report.cells]


def _sentences(report: ReportData) -> list[str]:
    return [f"{c.name}: {v}" for c, v in zip(report.cells, report.verdicts)]


def _norms(report: ReportData) -> list[tuple[str, list[str]]]:
    kinds = dict.fromkeys(name.rpartition(".")[2].split("_l")[0] for name in report.norms)
    return [
        (
            f"||dL/d{SHORT.get(kind, kind)}||",
            [number(report.norms.get(f"{c.place}{c.parameter(kind)}")) for c in report.cells],
        )
        for kind in kinds
    ]


def as_text(report: ReportData) -> str:
    rows = [("", _cell_names(report)), *table(report)]
    first = max(len(name) for name, _ in rows)
    widths = [max(map(len, column)) for column in zip(*(values for _, values in rows))]
    head = ["Gradient flow of " + summary(report), *reading(report), loss_of(report)]
    lines = [*(line for text in head for line in _wrapped(text)), ""]
    for sentence in _sentences(report):
        lines += _wrapped(sentence)
    lines.append("")
    for name, values in rows:
        cells = "  ".join(f"{v:>{w}}" for v, w in zip(values, widths))
        lines.append(f"{name:<{first}}  {cells}")
    if report.advice:
        lines += ["", "Advice"]
    for i, a in enumerate(report.advice, 1):
        lines += [*_wrapped(f"{i}. {a.text}"), *_wrapped(f"   Why: {a.reason}")]
    return "\n".join(lines)


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(
        line, WIDTH, subsequent_indent="   ", break_on_hyphens=False, break_long_words=False
    )


def as_rich(report: ReportData) -> Any:
    """The same as an object of rich."""
    text = importlib.import_module("rich.text").Text
    panel = importlib.import_module("rich.panel").Panel
    group = importlib.import_module("rich.console").Group
    grid = importlib.import_module("rich.table").Table("", *_cell_names(report), box=None)
    for column in grid.columns[1:]:
        column.justify = "right"
    for name, values in table(report):
        grid.add_row(text(name), *map(text, values))
    sentences = [
        text(s, style=f"bold {COLOURS[v.split(':')[0]]}")
        for s, v in zip(_sentences(report), report.verdicts)
    ]
    advice = [
        text.assemble(f"{i}. {a.text}\n   Why: ", (a.reason, "dim"))
        for i, a in enumerate(report.advice, 1)
    ]
    heading = [text("\nAdvice", style="bold")] if advice else []
    head = text("\n".join([summary(report), *reading(report), f"{loss_of(report)}\n"]))
    return panel(group(head, *sentences, text(), grid, *heading, *advice), title="Gradient flow")
