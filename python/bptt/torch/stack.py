# SPDX-License-Identifier: MIT
"""The layers and directions of one call, from arrays to arrays: PyTorch is not seen here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from .. import _core
from .._binding.call import as_backward_how, forward, pull_back, uses_bf16
from .._grads import BITS, Grads
from .._types import Array, BackwardHow, Inputs
from ..layers.sequences import resets_of_reverse
from ..layers.structure import Structure
from ..trace.trace import LayerTrace


@dataclass(frozen=True)
class Stack:
    """What all calls of a module share: sizes and options, and how the gradient goes back."""

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


CELLS_OF_MODES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "RNN_TANH": ("RNN", "rnn", {}),
    "RNN_RELU": ("RNN", "rnn", {"activation": "relu"}),
    "LSTM": ("LSTM", "lstm", {}),
    "GRU": ("GRU", "gru", {}),
}


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
        dilations=(1,) * num_layers, skip=0, residual=False, dtype=np.dtype(dtype),
        compute=compute, options=options, learnt=("w_hr",) if P else (),
    )  # fmt: skip
    return Stack(structure, as_backward_how(caller, *backward))


@dataclass(frozen=True)
class Sequences:
    """What one call knows of its sequences.

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


def run(
    stack: Stack,
    given: Sequences,
    x: Array,
    state: Sequence[Array | None],
    weights: Sequence[Array],
    keep_tape: bool,
    threads: int,
) -> tuple[Array, list[Array], list[Any]]:
    """Run all layers; x (T, B, I), each state (cells, B, width) or None.

    Returns y (T, B, directions * width), the final states, and the tape of each cell.
    """
    s, n = stack.structure, len(stack.arguments)
    how = (threads, None, stack.bf16)
    resets = given.resets
    both = () if resets is None else (resets, resets_of_reverse(resets, given.lengths))
    lasts, tapes = list[Any](), list[Any]()
    for layer in range(s.num_layers):
        if layer and given.masks:
            x = x * given.masks[layer - 1]
        outputs = []
        for direction in range(s.directions):
            k = layer * s.directions + direction
            own = dict(zip(stack.arguments, weights[k * n : k * n + n]))
            options = s.options
            if s.learnt:
                options = {**options, "w_hr": own["w_hr"]}
            if both:
                options = {**options, "resets": both[direction]}
            parts = tuple(part if part is None else part[k] for part in state)
            initial = None if parts[0] is None else parts if len(parts) > 1 else parts[0]
            inputs: Inputs = (
                x, own["w_ih"], own["w_hh"], own.get("b_ih"), own.get("b_hh"), initial,
                given.lengths, direction == 1,
            )  # fmt: skip
            y, last, tape = _forward(s, inputs, options or None, keep_tape, how)
            outputs.append(y)
            lasts.append(last)
            tapes.append(tape)
        x = y if s.directions == 1 else np.concatenate(outputs, axis=-1)
    return x, _joined(lasts), tapes


def _forward(s: Structure, inputs: Inputs, options: Any, keep_tape: bool, how: Any) -> Any:
    result = _core.forward(s.kind, inputs, options, keep_tape, how)
    if result is not None:
        return result
    # An array that the core cannot use as it is, such as a misaligned one.
    compute = "bf16" if how[2] else None
    return forward(s.kind, inputs, options, keep_tape, (how[0], None, compute))


def _joined(parts: list[Any]) -> list[Array]:
    """The states of all cells, as one array for each state."""
    by_state = list(zip(*parts)) if isinstance(parts[0], tuple) else [parts]
    return [p[0][None] if len(p) == 1 else np.array(p) for p in by_state]


def pull(
    stack: Stack,
    given: Sequences,
    tapes: Sequence[Any],
    dy: Array | None,
    dstate: Sequence[Array | None],
    wanted: tuple[bool, bool, Sequence[bool]],
    threads: int,
) -> tuple[Array | None, list[Array | None], list[Array | None], LayerTrace | None]:
    """The gradients of `run`; `wanted`: of x, of the state, and of each weight.

    Goes down to the lowest layer that they need, or that a trace shows.
    """
    s, n = stack.structure, len(stack.arguments)
    D, P, caller = s.directions, s.width, s.caller
    of_x, of_state, of_weights = wanted
    bits = [
        sum(BITS[a] for a, w in zip(stack.arguments, of_weights[k * n : k * n + n]) if w)
        for k in range(s.cells)
    ]
    how = (*stack.how[:5], threads)
    traced = how[4] > 0
    lowest = 0
    if not (of_x or of_state or traced):
        lowest = next((k // D for k in range(s.cells) if bits[k]), s.num_layers)
    dweights: list[Any] = [None] * (n * s.cells)
    initial: list[Any] = [None] * s.cells
    traces: list[Any] = [None] * s.cells
    d: Any = dy
    for layer in reversed(range(lowest, s.num_layers)):
        passes = of_x or layer > lowest
        below: Any = None
        for direction in range(D):
            k = layer * D + direction
            part = d
            if d is not None and D > 1:
                part = np.ascontiguousarray(d[..., direction * P : (direction + 1) * P])
            final = tuple(p if p is None else p[k] for p in dstate)
            some = bits[k] | BITS["x"] * passes | BITS["state"] * of_state
            call = (*how, some)
            grads: Any
            if traced:
                grads = pull_back(caller, tapes[k], part, final, call)
                traces[k] = grads.trace
            else:
                grads = _core.backward(caller, tapes[k], part, final, call)
            for i, name in enumerate(stack.arguments):
                dweights[k * n + i] = grads[FIELD[name]]
            initial[k] = grads[FIELD["state"]]
            if passes:
                below = grads[0] if below is None else below + grads[0]
        d = below
        if d is not None and layer and given.masks:
            d = d * given.masks[layer - 1]
    dinitial: list[Any] = _joined(initial) if of_state else [None] * len(dstate)
    trace = LayerTrace(traces) if traced else None
    return d if of_x else None, dinitial, dweights, trace


FIELD = {name: k for k, name in enumerate(Grads._fields)}
