# SPDX-License-Identifier: MIT
"""A report as text, and the table that text and pages share."""

from __future__ import annotations

import importlib
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from .measure import RETAINS, Curve
from .verdict import counted, number, percent

if TYPE_CHECKING:
    from .report import FlowReport

__all__ = ["COLOURS", "as_rich", "as_text", "loss_of", "summary", "table"]

# Of Okabe & Ito (2008), told apart by colour-blind readers too; darker, as text on white.
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


def summary(report: FlowReport) -> str:
    lengths = report.lengths
    least, most = int(lengths.min()), int(lengths.max())
    steps = f"T = {counted(most, 'step')}"
    if least != most:
        steps = f"{number(least)} to {counted(most, 'step')}"
    return f"{report.model}, {report.dtype}; {steps}, B = {counted(len(lengths), 'sequence')}"


def loss_of(report: FlowReport) -> str:
    """What the loss is, and its value if it is known."""
    value = "" if report.value is None else f", L = {number(report.value)}"
    return f"Loss: {report.loss}{value}"


def reading(report: FlowReport) -> list[str]:
    return [report.reading] if report.reading else []


def table(report: FlowReport) -> list[tuple[str, list[str]]]:
    """Rows of numbers: what it is, and its value for each layer and direction."""
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
    if cells[0].state != "h":
        rows.insert(1, ("horizon of dL/dh alone, steps", [_horizon(c.curves["h"]) for c in cells]))
    for gate in dict.fromkeys(g for c in cells for g in c.saturated):
        name = f"saturated units of gate {gate}"
        if cells[0].turns_off(gate):
            name = "units that are off" + f" of gate {gate}" * (len(cells[0].saturated) > 1)
        rows.append((name, [percent(c.saturation(gate)) for c in cells]))
    if any(c.retained is not None for c in cells):
        name = f"mean of gate {RETAINS[cells[0].cell]}, which keeps the state"
        rows.append((name, [number(c.retained) for c in cells]))
    if any(c.radius is not None for c in cells):
        rows.append(("spectral radius of W_hh", [number(c.radius) for c in cells]))
        rows.append(("most that a step can multiply by", [number(c.bound) for c in cells]))
    return rows


def _horizon(curve: Curve) -> str:
    if not len(curve.tops) > 1 or not np.isfinite(curve.norms).all():
        return "-"
    return number(curve.horizon) if curve.horizon < curve.reach else f"over {number(curve.reach)}"


def _cell_names(report: FlowReport) -> list[str]:
    return [c.name for c in report.cells]


def _sentences(report: FlowReport) -> list[str]:
    return [f"{c.name}: {v}" for c, v in zip(report.cells, report.verdicts)]


def _norms(report: FlowReport) -> list[tuple[str, list[str]]]:
    kinds = dict.fromkeys(name.split("_l")[0] for name in report.norms)
    return [
        (
            f"||dL/d{SHORT.get(kind, kind)}||",
            [number(report.norms[c.parameter(kind)]) for c in report.cells],
        )
        for kind in kinds
    ]


def as_text(report: FlowReport) -> str:
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


def as_rich(report: FlowReport) -> Any:
    """The same for rich, which imported this."""
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
