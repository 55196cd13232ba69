# SPDX-License-Identifier: MIT
"""All layers and directions of one call, from arrays to arrays, without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from .._binding.call import as_backward_how, forward, pull_back, uses_bf16
from .._grads import BITS, Grads
from .._types import Array, BackwardHow
from ..layers.sequences import resets_of_reverse
from ..layers.structure import Structure
from ..trace.trace import LayerTrace

# By the modes of PyTorch's modules: their names, the cells, and their options.
CELLS_OF_MODES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "RNN_TANH": ("RNN", "rnn", {}),
    "RNN_RELU": ("RNN", "rnn", {"activation": "relu"}),
    "LSTM": ("LSTM", "lstm", {}),
    "GRU": ("GRU", "gru", {}),
}
# w_ih, w_hh and the biases or None, and the options with w_hr, of each cell.
CellArrays = list[tuple[tuple[Any, ...], dict[str, Any] | None]]


@dataclass(frozen=True, eq=False)
class Stack:
    """The settings of all calls of a module: sizes, options, and arguments of the backward pass."""

    structure: Structure
    how: BackwardHow

    @cached_property
    def states(self) -> int:
        return self.structure.states

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """The parameters of one cell in PyTorch's order, by the names of the core."""
        return tuple(self.structure.shapes(0))

    @cached_property
    def bf16(self) -> bool:
        s = self.structure
        options = dict.fromkeys((*s.options, *s.learnt))
        return uses_bf16(s.caller, s.kind, s.compute, s.dtype, options)

    def cells(self, weights: Sequence[Any]) -> CellArrays:
        """The arrays of all parameters by cell."""
        s, n = self.structure, len(self.arguments)
        found: CellArrays = []
        for k in range(0, n * s.cells, n):
            own = dict(zip(self.arguments, weights[k : k + n]))
            options = {**s.options, "w_hr": own["w_hr"]} if s.learnt else s.options
            arrays = own["w_ih"], own["w_hh"], own.get("b_ih"), own.get("b_hh")
            found.append((arrays, options or None))
        return found


@lru_cache(maxsize=256)
def stack_of(
    mode: str,
    sizes: tuple[int, int, int],
    num_layers: int,
    bidirectional: bool,
    bias: bool,
    batch_first: bool,
    dtype: str,
    compute: str | None = None,
    *backward: Any,
) -> Stack:
    """The stack of a module; sizes: I, H, and P or 0; backward: step_clip, cut and trace."""
    caller, kind, options = CELLS_OF_MODES[mode]
    I, H, P = sizes
    structure = Structure(
        caller=caller, kind=kind, input_size=I, hidden_size=H, width=P or H,
        num_layers=num_layers, directions=1 + bidirectional, bias=bias, batch_first=batch_first,
        dilations=(1,) * num_layers, skip=0, residual=False, reverse=False,
        learn_state=False, dtype=np.dtype(dtype), compute=compute, options=options,
        learnt=("w_hr",) if P else (),
    )  # fmt: skip
    return Stack(structure, as_backward_how(caller, *backward))


class Sequences(NamedTuple):
    """The lengths, resets and masks of one call.

    Attributes
    ----------
    lengths : ndarray, shape (B,), or None
        The number of steps of each sequence; None: all T.
    resets : ndarray of bool, shape (T, B), or None
        Where another sequence begins.
    masks : list of ndarray, shape (T, B, directions * H)
        The masks of dropout; mask k multiplies the input of layer k + 1.
    """

    lengths: Array | None = None
    resets: Array | None = None
    masks: Sequence[Array] = ()


PLAIN = Sequences()


# --- forward --------------------------------------------------------------------------------------


def run(
    stack: Stack,
    given: Sequences,
    x: Array,
    state: Sequence[Any],
    cells: CellArrays,
    keep_tape: bool,
    threads: int,
) -> tuple[list[Array], list[Any]]:
    """Run all layers; x (T, B, I), each state (cells, B, width), or all are None.

    Returns y (T, B, directions * width) with the final states, and the tape of each cell.
    """
    s, how = stack.structure, (threads, None, stack.bf16)
    lengths, resets, masks = given
    both = () if resets is None else (resets, resets_of_reverse(resets, lengths))
    lasts, tapes = [], []
    for layer in range(s.num_layers):
        if layer and masks:
            x = x * masks[layer - 1]
        outputs = []
        for direction in range(s.directions):
            k = layer * s.directions + direction
            weights, options = cells[k]
            if both:
                options = {**(options or {}), "resets": both[direction]}
            initial: Any = None
            if state[0] is not None:
                initial = state[0][k] if len(state) == 1 else tuple([part[k] for part in state])
            inputs = (x, *weights, initial, lengths, direction == 1)
            result = _core.forward(s.kind, inputs, options, keep_tape, how)
            if result is None:  # an array is not as the core needs it, such as a misaligned one
                compute = "bf16" if stack.bf16 else None
                result = forward(s.kind, inputs, options, keep_tape, (threads, None, compute))
            outputs.append(result[0])
            lasts.append(result[1])
            tapes.append(result[2])
        x = outputs[0] if s.directions == 1 else np.concatenate(outputs, axis=-1)
    return [x, *_joined(lasts)], tapes


def _joined(parts: list[Any]) -> list[Array]:
    """The states of all cells, as one array for each state."""
    by_state = zip(*parts) if isinstance(parts[0], tuple) else [parts]
    if len(parts) == 1:
        return [part[None] for (part,) in by_state]
    return [np.array(part) for part in by_state]


# --- backward -------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """The gradients to compute: the lowest layer to reach, and the gradients of each cell."""

    lowest: int  # layer
    of_x: bool
    of_state: bool
    bits: tuple[int, ...]


@lru_cache(maxsize=256)
def plan_of(stack: Stack, needs: tuple[bool, ...]) -> Plan:
    """needs: of x, of each state, and of each weight."""
    s, n = stack.structure, len(stack.arguments)
    of_x, of_state, of_weights = needs[0], any(needs[1 : 1 + s.states]), needs[1 + s.states :]
    own = [
        sum(BITS[a] for a, w in zip(stack.arguments, of_weights[k * n : k * n + n]) if w)
        for k in range(s.cells)
    ]
    lowest = 0
    if not (of_x or of_state or stack.how[4]):  # a trace shows all layers
        lowest = next((k // s.directions for k in range(s.cells) if own[k]), s.num_layers)
    shared = BITS["state"] * of_state
    passes = [of_x or k // s.directions > lowest for k in range(s.cells)]
    bits = (b | shared | BITS["x"] * p for b, p in zip(own, passes))
    return Plan(lowest, of_x, of_state, tuple(bits))


FIELD = {name: k for k, name in enumerate(Grads._fields)}


@lru_cache(maxsize=8)
def picked(arguments: tuple[str, ...]) -> Any:
    """Takes the gradients of a cell's parameters from the fields of `Grads`."""
    return itemgetter(*[FIELD[name] for name in arguments])


def pull(
    stack: Stack,
    given: Sequences,
    tapes: Sequence[Any],
    dy: Array | None,
    dstate: Sequence[Array | None],
    needs: tuple[bool, ...],
    threads: int,
) -> tuple[list[Array | None], LayerTrace | None]:
    """The gradients of `run`, None where they are not needed: of x, the states and the weights."""
    s, plan = stack.structure, plan_of(stack, needs)
    D, P, traced, pick = s.directions, s.width, stack.how[4] > 0, picked(stack.arguments)
    how = (*stack.how[:5], threads)
    none = (None,) * len(dstate)
    no_state = all(part is None for part in dstate)
    initial: list[Any] = [none] * s.cells
    traces: list[Any] = [None] * s.cells
    dweights: list[Any] = [(None,) * len(stack.arguments)] * s.cells
    d: Any = dy
    for layer in reversed(range(plan.lowest, s.num_layers)):
        below: Any = None
        for direction in range(D):
            k = layer * D + direction
            part = d
            if d is not None and D > 1:
                part = np.ascontiguousarray(d[..., direction * P : (direction + 1) * P])
            final = none if no_state else tuple([p if p is None else p[k] for p in dstate])
            call = (*how, plan.bits[k])
            if traced:
                grads: Any = pull_back(s.caller, tapes[k], part, final, call)
                traces[k] = grads[9]
            else:
                grads = _core.backward(s.caller, tapes[k], part, final, call)
            dweights[k], initial[k] = pick(grads), grads[5]
            if grads[0] is not None:
                below = grads[0] if below is None else below + grads[0]
        d = below
        if layer and given.masks and d is not None:
            d = d * given.masks[layer - 1]
    found = [d if plan.of_x else None, *(_joined(initial) if plan.of_state else none)]
    for group in dweights:
        found += group
    return found, LayerTrace(traces) if traced else None
