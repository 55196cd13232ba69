# SPDX-License-Identifier: MIT
"""Verdicts: the numbers of a report in words."""

from __future__ import annotations

import math

import numpy as np

from ..trace.nonfinite import NonFinite, described
from .curves import Curve
from .measure import CellFlow

__all__ = [
    "KINDS",
    "counted",
    "gate_name",
    "judge",
    "kind_of",
    "number",
    "percent",
    "place",
    "trend",
]

KINDS = ("non-finite", "exploding", "dead", "vanishing", "healthy", "too short")  # worst first
EXPLODED = 100.0  # times the norm at lag 1; the horizon is where 1/100 of that norm is left
SHORTEST = 4  # norms by lag


def number(value: float | None) -> str:
    """Three digits, without needless zeros or exponents; "-" for None, NaN and infinity."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    return f"{value:,.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:.3g}"


def counted(n: float, thing: str) -> str:
    """A number and its unit, as "1 step" and "2.5 steps"."""
    text = number(n)
    return f"{text} {thing}{'s' * (text != '1')}"


def percent(share: float) -> str:
    if not math.isfinite(share):
        return "-"
    return "< 0.01 %" if 0 < abs(share) < 1e-4 else f"{100 * share:.3g} %"


def gate_name(gate: str) -> str:
    """The name of a gate in words; "h" is the one activation of an RNN, which has no gates."""
    return gate if gate == "h" else f"gate {gate}"


def place(nonfinite: NonFinite, cell: CellFlow) -> str:
    """The place in words, with its layer and pass."""
    return f"{cell.name}, {described(nonfinite, tuple(cell.curves))} ({nonfinite.phase})"


def judge(cell: CellFlow, needs: int | None = None) -> tuple[str, str]:
    """Return one of `KINDS` and a sentence that begins with it, for a task of `needs` inputs."""
    curve = cell.curve
    if cell.nonfinite is not None:
        return "non-finite", f"non-finite: first at {place(cell.nonfinite, cell)}"
    if not np.isfinite(curve.norms).all():
        return (
            "non-finite",
            "non-finite: a gradient that enters at the end overflows on its way back",
        )
    if not cell.dh.any():
        return "dead", "dead: the gradient of the loss is exactly zero at every step"
    kind = kind_of(curve, needs)
    if kind == "too short":
        skip = f" with a skip of {curve.period * curve.every}" if curve.period > 1 else ""
        steps = f"{counted(curve.reach + 1, 'step')}{skip}"
        return "too short", f"too short: over {steps} no decay can be measured"
    if kind == "dead":
        assert curve.zero_from is not None
        steps = _before(cell, curve.zero_from - 1)
        return kind, f"dead: the gradient is exactly zero {steps}, without fading first"
    if kind == "exploding":
        size = f"to {number(curve.growth)} times its size at lag {curve.lag}"
        return kind, f"exploding: {_speed(curve)}, {size}"
    if kind == "vanishing":
        details = f"{_speed(curve)}{_underflow(cell)}{_share(cell)}"
        return kind, f"vanishing: {details}; {_fault(curve, needs)}"
    return kind, f"healthy: {_kept(curve)}{_beyond(curve, needs)}"


def trend(curve: Curve, needs: int | None = None) -> str:
    """Exploding, vanishing or healthy: does the norm stay within a factor of 100 of its `level`?

    If `needs` is given, only that many last inputs count.
    """
    if curve.growth > EXPLODED:
        return "exploding"
    faded = curve.horizon < curve.reach and not reaches(curve.horizon, needs)
    return "vanishing" if faded else "healthy"


def reaches(lag: float, needs: int | None) -> bool:
    """Does a gradient that reaches this lag reach all inputs that the task needs?

    The first of n inputs has the lag n - 1.
    """
    return needs is not None and lag >= needs - 1


def _fault(curve: Curve, needs: int | None) -> str:
    if needs is not None:
        return f"the task needs {needs}"
    return f"a fault if the task needs more than {number(math.floor(curve.horizon) + 1)} steps"


def _kept(curve: Curve) -> str:
    if curve.horizon < curve.reach:
        return _speed(curve)
    kept = curve.tops[1:] / curve.level
    least, most = number(float(kept.min())), number(float(kept.max()))
    return (
        f"over {counted(curve.reach + 1, 'step')} the gradient stays between {least} and "
        f"{most} of its size at lag {curve.lag}"
    )


def _beyond(curve: Curve, needs: int | None) -> str:
    """What the task needs, if the curve alone does not decide."""
    if needs is None:
        return ""
    if needs > curve.reach + 1:
        return f"; the task needs {needs}; use a batch of longer sequences to see that"
    return f"; the task needs {needs}" if curve.horizon < curve.reach else ""


def died(curve: Curve) -> bool:
    """Does the norm drop to zero at once, from a value too large to underflow?"""
    if not curve.zero_from:
        return curve.zero_from == 0
    end = curve.zero_from // curve.every
    return bool(curve.norms[max(end - curve.period, 0) : end].max() > curve.safe)


def kind_of(curve: Curve, needs: int | None = None) -> str:
    """One of `KINDS` for a curve, for a task that needs `needs` inputs."""
    if not np.isfinite(curve.norms).all():
        return "non-finite"
    if len(curve.tops) < SHORTEST:
        return "too short"
    if died(curve) and not reaches((curve.zero_from or 0) - 1, needs):
        return "dead"
    return trend(curve, needs)


def _speed(curve: Curve) -> str:
    """Give the rate of growth or decay if it explains the change, else the change alone."""
    if trend(curve) == "exploding":
        steps = float(curve.peak)
        happened = math.log10(curve.growth)
        words = f"the gradient grows for {counted(steps, 'step')}"
    else:
        steps, happened = curve.horizon, -2.0
        words = f"the gradient is down to 1 % after {counted(steps, 'step')}"
    explained = steps * math.log10(curve.factor) if curve.factor > 0 else math.nan
    if not 0.5 < explained / happened < 2:
        return words
    moves = "grows" if happened > 0 else "shrinks"
    return f"the gradient {moves} 10x every {counted(curve.tenfold, 'step')}"


def _before(cell: CellFlow, lag: float) -> str:
    """Name the steps that lie more than `lag` steps before the end."""
    if not cell.at_end:
        return f"at lags above {number(math.floor(lag))}"
    if cell.ragged:
        return f"more than {counted(math.floor(lag), 'step')} before the end of a sequence"
    if cell.reverse:
        return f"after t = {math.floor(lag)}"
    return f"before t = {len(cell.dh) - 1 - math.floor(lag)}"


def _share(cell: CellFlow) -> str:
    if math.isnan(cell.far):
        return ""
    horizon = cell.curve.horizon
    by_lag = cell.ragged or not cell.at_end
    steps = f"lags above {math.floor(horizon)}" if by_lag else f"steps {_before(cell, horizon)}"
    return f"; {steps} contribute {percent(cell.far)} of dL/dW_hh"


def _underflow(cell: CellFlow) -> str:
    curve = cell.curve
    if curve.zero_from is None:
        return ""
    steps = _before(cell, curve.zero_from - 1)
    return f", to exactly zero {steps} ({curve.dtype} underflow)"
