# SPDX-License-Identifier: MIT
"""Arguments of `fit` that depend on each other: the model and its data, and how to train."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._types import Array
from .._validate import as_between, as_bound, as_choice, as_count, as_number
from .._words import shown
from ..clip import AutoClip
from ..optim import Adam, Optimizer
from ..schedules import CosineAnnealing, ReduceLROnPlateau, Schedule, WarmUp
from .loop import Model
from .samples import Layout, Samples, as_samples, split

__all__ = [
    "as_clip",
    "as_optimizer",
    "as_schedule",
    "check_model",
    "check_monitors",
    "held_out_of",
    "layout_of",
]

NEEDS = ("parameters", "loss_and_grads", "state_dict", "load_state_dict", "__call__")

# --- the model and its data -----------------------------------------------------------------------


def check_model(model: Any) -> None:
    missing = [name for name in NEEDS if not hasattr(model, name)]
    if missing or isinstance(model, type):
        lacks = f", which has no {missing[0]}" if missing else ""
        raise TypeError(
            f"fit: model is {shown(model)}{lacks}, expected a model such as "
            "bptt.Sequential(layer, bptt.Last(), bptt.Linear(...))"
        )


def check_monitors(model: Any, monitors: Sequence[Any]) -> None:
    """Raise if there is a monitor of gradients and the model has no traces for it."""
    missing = [name for name in ("forward", "backward") if not hasattr(model, name)]
    if monitors and missing:
        raise TypeError(
            f"fit: model has no {missing[0]}, which a FlowMonitor needs, expected a bptt.Sequential"
        )


def held_out_of(
    samples: Samples, validation: Any, groups: Any, patience: Any, metric: Any, seed: int
) -> tuple[Samples, Samples | None]:
    """The sequences to train on, and those to validate on."""
    fraction = not isinstance(validation, (tuple, list, type(None)))
    if groups is not None and not fraction:
        raise ValueError("fit: groups is given, expected it with a fraction as validation")
    if validation is None:
        for name, value in {"patience": patience, "metric": metric}.items():
            if value is not None:
                raise ValueError(f"fit: {name} is given, expected validation with it")
        return samples, None
    if not fraction:
        return samples, as_samples("validation", validation)
    part = as_number("fit", "validation", validation)
    if not 0 < part < 1:
        raise ValueError(f"fit: validation is {part:g}, expected a fraction between 0 and 1")
    rng = np.random.default_rng(as_count("fit", "seed", seed, 0))
    learn, held = split(len(samples), part, groups, rng)
    return samples.some(learn), samples.some(held)


def layout_of(model: Any, samples: Samples) -> Layout:
    """Run the model on one step and on two: does its output have a row for each?"""
    dtype = next((np.asarray(p).dtype for p in model.parameters.values()), np.dtype(np.float32))
    layout = Layout(bool(getattr(model, "batch_first", False)), False, dtype)
    first = next((one for one in samples.x if len(one)), None)
    if first is None:
        raise ValueError("fit: data[0] has only sequences without steps, expected some with steps")
    one, two = (_output(model, np.array([first[:1]] * 1).repeat(n, 1), layout) for n in (1, 2))
    return layout._replace(per_step=one.shape != two.shape)


def _output(model: Any, x: Array, layout: Layout) -> Array:
    y = model(Samples(x, np.zeros(len(x)), None).batch(np.zeros(1, int), layout).x, lengths=None)
    if not isinstance(y, np.ndarray):
        raise TypeError(
            f"fit: model returns {shown(y)}, expected one array: bptt.Sequential(layer) returns "
            "the outputs of a layer without its state"
        )
    return y


# --- how to train ---------------------------------------------------------------------------------


def as_clip(clip: Any) -> float | AutoClip:
    if isinstance(clip, AutoClip):
        return clip
    bound = as_bound("fit", "clip", clip)
    return math.inf if bound is None else bound


def as_optimizer(optimizer: Any, lr: Any, model: Model) -> Optimizer:
    if optimizer is None:
        rate = 1e-3 if lr is None else as_between("fit", "lr", lr, 0)
        return Adam(model.parameters, lr=rate)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"fit: optimizer is {shown(optimizer)}, expected one such as "
            "bptt.AdamW(model.parameters)"
        )
    if lr is not None:
        raise ValueError("fit: lr is given beside optimizer, expected one of them: it has its lr")
    own, its = model.parameters, optimizer.params
    if own.keys() != its.keys() or any(own[name] is not its[name] for name in own):
        raise ValueError("fit: optimizer has other parameters, expected those of model.parameters")
    return optimizer


def as_schedule(schedule: Any, optimizer: Optimizer, steps: int) -> Schedule | None:
    if schedule is None:
        return None
    if isinstance(schedule, str):
        as_choice("fit", "schedule", schedule, ("cosine",))
        return CosineAnnealing(optimizer, t_max=steps)
    if not callable(schedule):
        raise TypeError(
            f"fit: schedule is {shown(schedule)}, expected 'cosine' or a function of the optimiser "
            "and the number of updates, such as lambda opt, steps: bptt.StepLR(opt, 1000)"
        )
    made = schedule(optimizer, steps)
    if not isinstance(made, Schedule) or made.optimizer is not optimizer:
        raise TypeError(
            f"fit: schedule returns {shown(made)}, expected a schedule of the given optimiser"
        )
    if isinstance(made, WarmUp) and isinstance(made.after, ReduceLROnPlateau):
        raise ValueError(
            "fit: schedule has ReduceLROnPlateau after a warm-up, expected another one there: it "
            "takes steps by epoch, and a warm-up by update"
        )
    return made
