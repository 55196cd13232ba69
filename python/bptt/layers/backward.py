# SPDX-License-Identifier: MIT
"""The backward pass through the cells of a recurrent layer."""

from __future__ import annotations

from typing import Any

from .._types import Array, BackwardHow, State
from ..trace.trace import LayerTrace
from .base import LayerGrads
from .bound import BoundCell
from .sequences import join_state, without_padding
from .structure import Structure, by_parameter
from .tape import RecurrentTape


def through_layers(
    s: Structure,
    cells: list[BoundCell],
    tape: RecurrentTape,
    d: Any,
    final: list[State],
    how: BackwardHow,
    wanted: frozenset[str] | None,
) -> LayerGrads:
    """The gradients that are wanted, None: all; from those of y, as (T, B, ...), and of the state.

    Ends at the lowest layer that they or a trace need.
    """
    D, P, traces = s.directions, s.width, how[4] > 0
    lowest = 0 if wanted is None or traces else _lowest(s, cells, wanted)
    found: list[Any] = [None] * s.cells
    for layer in reversed(range(lowest, s.num_layers)):
        above, first = d, layer * D
        passes = layer > lowest or wanted is None or "x" in wanted
        for k in range(first, first + D):
            part = d if d is None or D == 1 else d[..., (k - first) * P : (k - first + 1) * P]
            some = how if wanted is None else (*how[:6], cells[k].bits(wanted, passes))
            found[k] = cells[k].backward(tape.cells[k], part, final[k], some)
        if not passes:
            break
        d = found[first].x if D == 1 else found[first].x + found[first + 1].x
        if layer and tape.masks:
            d = d * tape.masks[layer - 1]
        if above is not None and s.adds_input(layer):
            d = d + without_padding(above, tape.lengths)
    params: dict[str, Array] = {}
    for k, (cell, g) in enumerate(zip(cells, found)):
        if g is None:
            continue
        params |= by_parameter(g, cell.names, wanted)
        if cell.initial.arrays and g.state is not None:
            states = cell.initial.gradients(g.state, tape.shape[1], tape.given_state)
            params |= {n: d for n, d in states.items() if wanted is None or n in wanted}
            found[k] = g._replace(state=cell.initial.without_resets(g.state, tape.shape[1]))
    dx = initial = None
    if wanted is None or "x" in wanted:
        dx = d.swapaxes(0, 1) if s.batch_first else d
    if wanted is None or "state" in wanted:
        initial = join_state(s, [g.state for g in found], tape.shape[1])
    seen = LayerTrace([g.trace for g in found]) if traces else None
    return LayerGrads(params, dx, initial, seen)


def _lowest(s: Structure, cells: list[BoundCell], wanted: frozenset[str]) -> int:
    """The lowest layer that the gradient has to reach."""
    if wanted & {"x", "state"}:
        return 0
    layers = (
        c.number // s.directions for c in cells if wanted & {*c.names.values(), *c.initial.arrays}
    )
    return min(layers, default=s.num_layers)
