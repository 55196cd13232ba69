# SPDX-License-Identifier: MIT
"""Advice: changes to the model, each with the measurement that calls for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .._activations import turns_off
from .._cells import CELLS
from .._types import Array
from ..layers.cells import RNN
from .curves import Curve
from .measure import RETAINING, CellFlow
from .trial_inits import Change, Study, Trial, is_new, try_inits
from .verdict import gate_name, number, percent, trend

__all__ = ["Advice", "advise"]

SATURATED = 0.2  # fraction of saturated units above which they count as a reason
NORMAL = 1.5  # root mean square above which x does not count as normalised


@dataclass(frozen=True)
class Advice:
    """One proposed change.

    Attributes
    ----------
    text : str
        The change.
    reason : str
        The measurement that calls for it.
    start : callable or None
        If the change is another initialisation, a function that applies it to a layer in place.
    """

    text: str
    reason: str
    start: Change | None = None

    def __str__(self) -> str:
        return f"{self.text} ({self.reason})"


def advise(study: Study) -> tuple[Advice, ...]:
    """Derive advice from the measurements; none if they call for no change."""
    if "non-finite" in study.kinds:
        return tuple(_nonfinite(study))
    ill = {"vanishing", "exploding"} & set(study.kinds)
    trials = try_inits(study) if ill else []
    inits = _inits(study, trials)
    return (
        *_dead(study),
        *_saturation(study),
        *inits,
        *_explosion(study, bool(inits)),
        *_reach(study, trials, bool(inits)),
    )


# --- values that are not finite, units that are off -----------------------------------------------


def _nonfinite(study: Study) -> list[Advice]:
    advice = []
    for name, array in {"x": study.x, **study.layer.parameters}.items():
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            index = ", ".join(map(str, bad[0]))
            reason = (
                f"{name}[{index}] is {array[tuple(bad[0])]}; not finite: {len(bad)} of "
                f"{array.size} values"
            )
            what = "Clean the data" if name == "x" else "Go back to parameters that were finite"
            advice.append(Advice(what, reason))
    if advice:
        return advice
    largest = max(float(np.abs(a).max()) for a in study.layer.parameters.values())
    overflow = f"x and all parameters are finite; the largest parameter is {largest:.3g}"
    radii = [f"{c.name}: {number(c.radius)}" for c in study.cells if c.radius and c.radius > 1]
    if radii:
        overflow += f"; the spectral radius of W_hh is above 1 ({', '.join(radii)})"
    if any(c.nonfinite is not None and c.nonfinite.phase == "forward" for c in study.cells):
        return [Advice("Scale W_hh or x down: the states overflow in the forward pass", overflow)]
    clip = 'Clip inside BPTT, step_clip=("norm", bound): clipping afterwards is too late'
    return [Advice(clip, f"the gradient overflows in the backward pass; {overflow}")]


def _dead(study: Study) -> list[Advice]:
    advice = []
    for c in study.of("dead"):
        off = c.saturation("h") if "h" in c.saturated else 0.0
        if isinstance(study.layer, RNN) and study.layer.activation == "relu" and off > 0:
            change = "replace relu by leaky_relu, or raise the biases and lower the learning rate"
            worst = float(np.nanmax(c.saturated["h"]))
            reason = f"{percent(off)} of the units are off, {percent(worst)} at the worst step"
            advice.append(Advice(f"{c.name}: {change}", reason))
        elif c.curve.norms.any():
            text = f"{c.name}: check the path from this layer to the loss"
            reason = "it passes gradients back, but the gradient of the loss does not reach it"
            advice.append(Advice(text, reason))
    return advice


def _saturation(study: Study) -> list[Advice]:
    advice: list[Advice] = []
    if any(a == "exp" or turns_off(a) for a in study.cells[0].ranges.values()):
        return advice  # exponentials have no end, and units that are off are not saturated
    for k, c in enumerate(study.cells):
        if study.kinds[k] != "vanishing":
            continue
        means = {g: c.saturation(g) for g in c.saturated if g not in RETAINING}
        gate = max(means, key=means.__getitem__, default="")
        if gate and means[gate] > SATURATED:
            what, size = _largest_sum(study, k)
            reason = (
                f"{gate_name(gate)} is within 0.01 of an end of its range in "
                f"{percent(means[gate])} of units and steps, where its slope is below 0.02; {size}"
            )
            advice.append(Advice(f"{c.name}: {what}", reason))
    return advice


def _largest_sum(study: Study, k: int) -> tuple[str, str]:
    """Name the largest term of the pre-activations, which to scale down, and its size."""
    c, (x, h) = study.cells[k], study.operands(k)
    weights = study.layer.structure.weights(study.layer.parameters, k)
    if getattr(study.layer, "layer_norm", False):  # which cancels the scale of x and the weights
        gains = (c.parameter("gain_ih"), c.parameter("gain_hh"))
        sizes = [number(_rms(study.layer.parameters[name])) for name in gains]
        return f"scale {' and '.join(gains)} down", f"they are {' and '.join(sizes)} rms"
    of_x, of_h = c.parameter("weight_ih"), c.parameter("weight_hh")
    sums = {of_x: _rms(x @ weights["w_ih"].T), of_h: _rms(h @ weights["w_hh"].T)}
    if study.layer.bias:
        both = f"{c.parameter('bias_ih')} and {c.parameter('bias_hh')}"
        sums[both] = _rms(weights["b_ih"] + weights["b_hh"])
    name, rms = max(sums, key=sums.__getitem__), _rms(x)
    reason = f"most of the pre-activations come from {name}: {number(sums[name])} rms"
    if name == of_x and c.layer == 0 and rms > NORMAL:
        return f"scale x or {name} down", f"{reason}; x is {number(rms)} rms"
    return f"scale {name} down", reason


def _rms(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0


# --- vanishing and exploding ----------------------------------------------------------------------


def _inits(study: Study, trials: Sequence[Trial]) -> list[Advice]:
    """List the initialisations that help; those after the first are alternatives."""
    advice: list[Advice] = []
    new = is_new(study.layer)
    first = "start with" if new else "train again, starting with"
    tried = "tried on this batch" if new else "tried on this batch with new weights"
    for trial in trials:
        better = [
            k
            for k, c in enumerate(study.cells)
            if trial.helps(c.curve, study.kinds[k], k, study.needs)
        ]
        if better:
            effects = "; ".join(_effect(study.cells[k], trial.curves[k]) for k in better)
            why = _why(min((study.cells[k] for k in better), key=lambda c: c.curve.horizon))
            what = f"{_if_needed(study, better)}{first}" if not advice else "or start with"
            text = f"{what} {trial.name}"
            reason = f"{why}{tried}: {effects}"
            advice.append(Advice(text[0].upper() + text[1:], reason, trial.change))
    return advice


def _if_needed(study: Study, which: Sequence[int]) -> str:
    """State the condition for advice against vanishing if the need of the task is unknown."""
    horizons = [study.cells[k].curve.horizon for k in which if study.kinds[k] == "vanishing"]
    if study.needs is not None or len(horizons) < len(which):
        return ""
    return f"if the task needs more than {number(math.floor(min(horizons)) + 1)} steps, "


def _effect(cell: CellFlow, after: Curve) -> str:
    before = cell.curve
    if trend(before) == "exploding":
        change = f"from {number(before.growth)} to {number(after.growth)}"
        return f"the growth factor of {cell.name} falls {change}"
    far = number(after.horizon) if after.horizon < after.reach else f"over {after.reach}"
    return f"the horizon of {cell.name} grows from {number(before.horizon)} to {far} steps"


def _why(cell: CellFlow) -> str:
    """Explain the decay by the weights."""
    if cell.radius is not None and cell.bound is not None:
        return (
            f"{cell.name}: the spectral radius of W_hh is {number(cell.radius)}, and one step "
            f"multiplies a gradient by at most {number(cell.bound)}; "
        )
    if cell.retained is not None:
        gate = CELLS[cell.cell].retains
        alone = number(math.log(10) / -math.log(cell.retained)) if 0 < cell.retained < 1 else "inf"
        return (
            f"{cell.name}: {gate} is {number(cell.retained)} on average; through the kept state "
            f"alone the gradient shrinks 10x every {alone} steps; "
        )
    return ""


def _reach(study: Study, trials: Sequence[Trial], others: bool) -> list[Advice]:
    """Advise if no initialisation extends the gradient as far as needed, and on truncation."""
    advice = []
    for k, c in enumerate(study.cells):
        if study.kinds[k] != "vanishing":
            continue
        reach = min(c.curve.reach, (study.needs or math.inf) - 1)
        best = max([c.curve.horizon, *(t.curves[k].horizon for t in trials)])
        if best < reach:
            steps = f"{number(best)} of {number(reach)} steps"
            reason = (
                f"the longest horizon of the starts tried is {steps}"
                if trials
                else f"the horizon is {steps}"
            )
            aim = f"{'Or, to' if others else 'To'} reach all {number(reach + 1)} steps in {c.name}"
            gated = "use an LSTM or GRU started with bptt.init.chrono, or "
            text = f"{aim}, {gated * (len(c.ranges) == 1)}read all steps (bptt.Attention)"
            advice.append(Advice(text, reason))
        far, horizon = c.far, math.ceil(c.curve.horizon)
        alone = len(study.cells) == 1 and not study.place
        near = study.needs is None and alone and abs(far) < 0.01
        if near and 2 * horizon < c.curve.reach:
            same = f"bptt.tbptt with k2={horizon} gives nearly the same dL/dW_hh"
            text = f"Or leave it as it is: {same}"
            advice.append(Advice(text, f"lags above {horizon} make up {percent(far)} of dL/dW_hh"))
    return advice


def _explosion(study: Study, others: bool) -> list[Advice]:
    exploding = study.of("exploding")
    if not exploding:
        return []
    worst = max(exploding, key=lambda c: c.curve.growth)
    bound, unit = (
        f"{study.entering:.3g}",
        "" if study.own_loss else ", times the norm of your dL/dh",
    )
    clip = "Or keep the weights, and clip" if others else "Clip"
    advice = [
        Advice(
            f'{clip} inside BPTT: step_clip=("norm", {bound}){unit}',
            f"{bound} is the 95th percentile of ||dL/dh|| per sequence, where the loss enters; "
            f"on the way back through {worst.name} the gradient grows "
            f"{number(worst.curve.growth)} times",
        )
    ]
    if study.own_loss:
        for c in exploding:
            name = c.parameter("weight_hh")
            weight, gradient = study.layer.parameters[name], study.params[name]
            ratio = float(np.linalg.norm(weight) / np.linalg.norm(gradient))
            text = f"Or, without clipping, use a learning rate of SGD below {0.01 * ratio:.3g}"
            reason = f"||W|| / ||dL/dW|| of {name} is {number(ratio)}"
            advice.append(Advice(text, f"{reason}: a higher rate changes W by over 1 % per step"))
    return advice
