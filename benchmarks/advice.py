# SPDX-License-Identifier: MIT
"""Does the advice of `gradient_flow` help? Twelve tasks, trained as they are and as advised.

    python benchmarks/advice.py                   # half an hour on a free core; writes the page
    python benchmarks/advice.py adding "next character"      # some tasks, kept with the others
    python benchmarks/advice.py --quick           # a few updates of each, printed only
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import bptt
from bptt import tasks

ROOT = Path(__file__).parents[1]
Layer = Any
Array = Any


class Batch(NamedTuple):
    x: Array  # (T, B, I)
    target: Array  # (B, ...), or (T, B, ...) of a loss at every step
    lengths: Array | None = None


@dataclass(frozen=True)
class Problem:
    name: str
    layer: Callable[[int], Layer]
    outputs: int
    draw: Callable[[np.random.Generator], Batch]
    held_out: Callable[[], Batch]
    updates: int
    lr: float
    every: bool = False  # step
    needs: int | None = None  # steps; None: measured
    solved: Callable[[Any, Any], bool] | None = None
    noise: float = 0.0


class Model:
    def __init__(self, problem, layer, seed):
        self.every, self.layer = problem.every, layer
        self.readout = bptt.Linear(layer.hidden_size, problem.outputs, seed=seed + 1)
        self.parameters = bptt.optim.join(layer=layer.parameters, readout=self.readout.parameters)

    def read(self, y, state):
        return y if self.every else (state[0] if isinstance(state, tuple) else state)[-1]

    def __call__(self, x, lengths=None):
        return self.readout(self.read(*self.layer(x, lengths=lengths)))

    def gradients(self, batch):
        y, state, tape = self.layer.forward(batch.x, lengths=batch.lengths)
        prediction, readout_tape = self.readout.forward(self.read(y, state))
        value, slope = loss_of(prediction, batch.target)
        top = self.readout.backward(readout_tape, slope)
        if self.every:
            grads = self.layer.backward(tape, top.x)
        else:
            dh = top.x[None]
            grads = self.layer.backward(tape, dstate=(dh, None) if isinstance(state, tuple) else dh)
        return value, bptt.optim.join(layer=grads.params, readout=top.params)


def loss_of(prediction, target):
    loss = bptt.cross_entropy if target.dtype.kind == "i" else bptt.mse
    return loss(prediction, target)


def train(problem, layer, seed, updates):
    rng = np.random.default_rng((seed, 7))
    model = Model(problem, layer, seed)
    adam = bptt.Adam(model.parameters, lr=problem.lr)
    schedule = bptt.schedules.CosineAnnealing(adam, t_max=updates)
    for n in range(updates):
        _, grads = model.gradients(problem.draw(rng))
        bptt.clip_grad_norm(grads, 1.0)
        adam.step(grads)
        schedule.step()
    return model


def score(model, batch):
    p = model(batch.x, batch.lengths)
    loss = loss_of(p, batch.target)[0]
    acc = None
    if batch.target.dtype.kind == "i":
        counts = batch.target >= 0
        acc = float((p.argmax(-1) == batch.target)[counts].mean())
    return loss, acc
