# SPDX-License-Identifier: MIT
"""A call of `fit` in words, by which a checkpoint knows the training it belongs to."""

from __future__ import annotations

from typing import Any

from ..schedules import Schedule
from .loop import Training

__all__ = ["call_of"]

SETTINGS = ("loss", "metric", "epochs", "batch_size", "clip", "nonfinite", "patience", "seed")


def call_of(training: Training, rate: float) -> dict[str, str]:
    """The model, the data and each argument in words; equal for two calls that train the same."""
    settings, model = training.settings, training.model
    held = training.held_out
    sizes = f"{len(training.samples)} sequences, {0 if held is None else len(held)} held out"
    checksum = (
        training.samples.checksum() if held is None else held.checksum(training.samples.checksum())
    )
    text = type(model).__name__ if type(model).__repr__ is object.__repr__ else repr(model)
    shapes = {name: array.shape for name, array in model.parameters.items()}
    return {
        "model": " ".join(text.split()),
        "parameters": " ".join(f"{name} {shape}" for name, shape in shapes.items()),
        "data": f"{sizes}, CRC-32 {checksum:08x}",
        **{name: _described(getattr(settings, name)) for name in SETTINGS},
        "optimizer": f"{_described(training.optimizer)} from {rate!r}",
        "schedule": _described(training.schedule),
    }


def _described(value: Any) -> str:
    """A name and the public attributes that training does not change."""
    if value is None or isinstance(value, (int, float, str, tuple, list)):
        return repr(value)
    if callable(value):
        return getattr(value, "__qualname__", type(value).__name__)
    changing = {"steps", "best", "bad_steps", "cooldown_left"}
    kinds = (int, float, str, tuple, list, Schedule, type(None))
    plain = {n: v for n, v in vars(value).items() if n[0] != "_" and isinstance(v, kinds)}
    kept = sorted(f"{n}={_described(v)}" for n, v in plain.items() if n not in changing)
    return f"{type(value).__name__}({', '.join(kept)})"
