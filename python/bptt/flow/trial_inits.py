# SPDX-License-Identifier: MIT
"""Other initialisations of the same model, tried on the same batch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from .. import init
from .._types import Array
from ..layers.cells import GRU, LSTM, RNN
from ..layers.new import make_new
from ..layers.recurrent import Recurrent
from ..trace.full import FullTrace
from .curves import Curve
from .measure import CellFlow, probe
from .verdict import trend

__all__ = ["Change", "Study", "Trial", "is_new", "try_inits"]

Change = Callable[[Recurrent], None]


@dataclass(frozen=True, eq=False)
class Study:
    """The model, its batch and the measurements, from which advice is derived."""

    layer: Recurrent
    x: Array
    lengths: Array
    seed: int
    needs: int | None  # inputs that the task depends on
    cells: Sequence[CellFlow]
    kinds: Sequence[str]  # verdicts on them
    verdicts: Sequence[str]  # in a sentence
    full: Sequence[FullTrace]  # of each layer and direction
    params: dict[str, Array]  # gradients of the loss
    own_loss: bool  # else one of the built-in losses
    entering: float  # 95th percentile of the nonzero ||dL/dy|| over steps and sequences
    place: str = ""  # of the layer in a row that has several: "4."

    def operands(self, k: int) -> tuple[Array, Array]:
        """The operands of W_ih and W_hh of layer and direction number k, (steps, n)."""
        inside = np.arange(len(self.full[k].x))[:, None] < self.lengths
        return self.full[k].x[inside], self.full[k].operand[inside]

    def of(self, kind: str) -> list[CellFlow]:
        return [c for c, k in zip(self.cells, self.kinds) if k == kind]


@dataclass(frozen=True, eq=False)
class Trial:
    name: str
    change: Change
    curves: Sequence[Curve]  # of each layer and direction

    def helps(self, before: Curve, kind: str, k: int, needs: int | None) -> bool:
        """Is layer and direction number k healthy now, or its horizon longer by a fifth?"""
        if kind not in ("vanishing", "exploding"):
            return False
        after = trend(self.curves[k], needs)
        longer = self.curves[k].horizon > 1.2 * before.horizon
        return after == "healthy" or (kind == after == "vanishing" and longer)


def is_new(layer: Recurrent) -> bool:
    """Could the weights be untrained: are all within +-1/sqrt(H), where constructors draw them?"""
    bound = (1 + 1e-6) / math.sqrt(layer.hidden_size)
    weights = [a for name, a in layer.parameters.items() if name.startswith(("weight", "bias"))]
    return all(float(np.abs(a).max(initial=0)) <= bound for a in weights)


def try_inits(study: Study) -> list[Trial]:
    """Try the known initialisations for the kind of cell, and drop those that overflow.

    If the layer was trained, new weights are drawn first.
    """
    trials, new = [], is_new(study.layer)
    for name, change in _candidates(study).items():
        with np.errstate(all="ignore"):
            layer = copy.deepcopy(study.layer)
            if not new:
                make_new(layer, np.random.default_rng(study.seed))
            change(layer)
            tape = layer.forward(study.x, lengths=study.lengths)[2]
            curves = [
                probe(layer, tape, study.lengths, k, study.seed)[c.state]
                for k, c in enumerate(study.cells)
            ]
        if all(np.isfinite(c.norms).all() for c in curves):
            trials.append(Trial(name, change, curves))
    return trials


def _candidates(study: Study) -> dict[str, Change]:
    """Initialisations by the calls that make them."""
    layer, steps = study.layer, study.needs or int(study.lengths.max())
    if isinstance(layer, RNN):
        found: dict[str, Change] = {
            "bptt.init.orthogonal(w) for each weight_hh": partial(_orthogonal, seed=study.seed)
        }
        if layer.activation == "relu":
            found["bptt.init.irnn(layer)"] = init.irnn
        return found
    own_gates = getattr(layer, "forget_gate", "own") == "own"
    if not isinstance(layer, (LSTM, GRU)) or not layer.bias or not own_gates or steps < 2:
        return {}
    chrono = partial(init.chrono, t_max=steps, rng=study.seed)
    found = {f"bptt.init.chrono(layer, t_max={steps})": chrono}
    if isinstance(layer, LSTM):
        f = 0.01 ** (1 / steps)  # f^steps = 1 %: a horizon of `steps`
        bias = round(math.log(f / (1 - f)), 1)
        found[f"bptt.init.forget_bias(layer, {bias})"] = partial(init.forget_bias, value=bias)
    return found


def _orthogonal(layer: Recurrent, seed: int) -> None:
    for name, w in layer.parameters.items():
        if name.startswith("weight_hh"):
            init.orthogonal(w, seed)
