# SPDX-License-Identifier: MIT
"""What to change, and why: each piece of advice with the number that led to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..layers import RNN, SLSTM
from .measure import RETAINS, CellFlow, Curve
from .starts import Study, Trial, try_starts
from .verdict import course, number, percent

__all__ = ["Advice", "advise"]

SATURATED = 0.2  # of the units, from which on it is named as a reason


@dataclass(frozen=True)
class Advice:
    """One thing to change.

    Attributes
    ----------
    text : str
        What to do.
    reason : str
        What was measured.
    """

    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.text} ({self.reason})"


def advise(study: Study) -> tuple[Advice, ...]:
    """Advice on what was measured; none where nothing asks for it."""
    if "non-finite" in study.kinds:
        return tuple(_nonfinite(study))
    ill = {"vanishing", "exploding"} & set(study.kinds)
    trials = try_starts(study) if ill else []
    return (
        *_dead(study),
        *_saturation(study),
        *_starts(study, trials),
        *_explosion(study),
        *_reach(study, trials),
    )


# --- values that are not finite, units that are off -----------------------------------------------


def _nonfinite(study: Study) -> list[Advice]:
    advice = []
    for name, array in {"x": study.x, **study.layer.parameters}.items():
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            where = ", ".join(map(str, bad[0]))
            reason = f"{name}[{where}] is {array[tuple(bad[0])]}, {len(bad)} of {array.size} values"
            what = "Clean the data" if name == "x" else "Go back to parameters that were finite"
            advice.append(Advice(what, reason))
    if advice:
        return advice
    largest = max(float(np.abs(a).max()) for a in study.layer.parameters.values())
    overflow = f"all of x and of the parameters is finite, the largest parameter {largest:.3g}"
    radii = [f"{c.name}: {number(c.radius)}" for c in study.cells if c.radius and c.radius > 1]
    if radii:
        overflow += f", spectral radius of W_hh above 1 ({', '.join(radii)})"
    if any(c.nonfinite is not None and c.nonfinite.phase == "forward" for c in study.cells):
        return [Advice("Scale W_hh or x down: the states overflow on the way forward", overflow)]
    clip = 'Clip inside BPTT, step_clip=("norm", bound): clipping after it comes too late'
    return [Advice(clip, f"the gradient overflows on the way back; {overflow}")]


def _dead(study: Study) -> list[Advice]:
    advice = []
    for c in study.of("dead"):
        off = c.saturation("h") if "h" in c.saturated else 0.0
        if isinstance(study.layer, RNN) and study.layer.activation == "relu" and off > 0:
            text = f"{c.name}: leaky_relu for relu, or higher biases and a lower learning rate"
            worst = float(np.nanmax(c.saturated["h"]))
            reason = f"{percent(off)} of the units are off, {percent(worst)} at the worst step"
            advice.append(Advice(text, reason))
        elif c.curve.norms.any():
            text = f"{c.name}: look at what lies between it and the loss"
            reason = "it passes gradients back, but none of the loss arrives"
            advice.append(Advice(text, reason))
    return advice


def _saturation(study: Study) -> list[Advice]:
    advice: list[Advice] = []
    layer = study.layer
    if isinstance(layer, SLSTM) or getattr(layer, "activation", "") in ("relu", "leaky_relu"):
        return advice  # exponentials have no end, and units that are off are another thing
    for c in study.of("vanishing"):
        means = {g: c.saturation(g) for g in c.saturated if g not in RETAINS.values()}
        gate = max(means, key=means.__getitem__, default="")
        if gate and means[gate] > SATURATED:
            text = f"{c.name}: scale x or W_ih down, or normalise x"
            reason = (
                f"gate {gate} is within 0.01 of an end of its range in {percent(means[gate])} of "
                "units and steps, where its slope is below 0.02"
            )
            advice.append(Advice(text, reason))
    return advice


# --- vanishing and exploding ----------------------------------------------------------------------


def _starts(study: Study, trials: Sequence[Trial]) -> list[Advice]:
    advice = []
    for trial in trials:
        better = [k for k, c in enumerate(study.cells) if trial.helps(c.curve, study.kinds[k], k)]
        if better:
            effects = "; ".join(_effect(study.cells[k], trial.curves[k]) for k in better)
            why = _why(min((study.cells[k] for k in better), key=lambda c: c.curve.horizon))
            reason = f"{why}tried on this batch: {effects}"
            advice.append(Advice(f"Start with {trial.name}", reason))
    return advice


def _effect(cell: CellFlow, after: Curve) -> str:
    before = cell.curve
    if course(before) == "exploding":
        return f"growth of {cell.name} from {number(before.growth)} to {number(after.growth)} times"
    far = number(after.horizon) if after.horizon < after.reach else f"over {after.reach}"
    return f"horizon of {cell.name} from {number(before.horizon)} to {far} steps"


def _why(cell: CellFlow) -> str:
    """What of the weights explains the decay."""
    if cell.radius is not None and cell.bound is not None:
        return (
            f"{cell.name}: spectral radius of W_hh {number(cell.radius)}, and no gradient is "
            f"multiplied by more than {number(cell.bound)} a step; "
        )
    if cell.retained is not None:
        gate = RETAINS[cell.cell]
        alone = number(math.log(10) / -math.log(cell.retained)) if 0 < cell.retained < 1 else "inf"
        return (
            f"{cell.name}: {gate} is {number(cell.retained)} on average; by way of the kept state "
            f"alone the gradient loses 10x every {alone} steps; "
        )
    return ""


def _reach(study: Study, trials: Sequence[Trial]) -> list[Advice]:
    """Where no start brings the gradient over the whole sequence; and what truncation costs."""
    advice = []
    for k, c in enumerate(study.cells):
        if study.kinds[k] != "vanishing":
            continue
        best = max([c.curve.horizon, *(t.curves[k].horizon for t in trials)])
        if best < c.curve.reach:
            steps = f"{number(best)} of {c.curve.reach} steps"
            reason = (
                f"of the starts tried the longest horizon is {steps}"
                if trials
                else f"the horizon is {steps}"
            )
            gated = "an LSTM or GRU started with bptt.init.chrono, or "
            cell = gated if c.cell == "rnn" else ""
            text = f"{c.name}: {cell}a readout of all steps (bptt.Attention)"
            advice.append(Advice(text, reason))
        far, horizon = c.far, math.ceil(c.curve.horizon)
        if len(study.cells) == 1 and abs(far) < 0.01 and 2 * horizon < c.curve.reach:
            text = f"As it is, bptt.tbptt with k2={horizon} gives nearly the same dL/dW_hh"
            advice.append(Advice(text, f"lags above {horizon} make {percent(far)} of dL/dW_hh"))
    return advice


def _explosion(study: Study) -> list[Advice]:
    exploding = study.of("exploding")
    if not exploding:
        return []
    worst = max(exploding, key=lambda c: c.curve.growth)
    bound, unit = (
        f"{study.entering:.3g}",
        "" if study.own_loss else ", times the norm of your dL/dh",
    )
    advice = [
        Advice(
            f'Clip inside BPTT: step_clip=("norm", {bound}){unit}',
            f"{bound} is the 95 % quantile of ||dL/dh|| of a sequence where the loss enters; "
            f"on its way back through {worst.name} it grows {number(worst.curve.growth)} times",
        )
    ]
    if study.own_loss:
        for c in exploding:
            name = c.parameter("weight_hh")
            weight, gradient = study.layer.parameters[name], study.params[name]
            ratio = float(np.linalg.norm(weight) / np.linalg.norm(gradient))
            text = f"Without clipping, a learning rate of SGD below {0.01 * ratio:.3g}"
            reason = f"||W|| / ||dL/dW|| of {name} is {number(ratio)}"
            advice.append(Advice(text, f"{reason}: a higher one changes it by over 1 % at once"))
    return advice
