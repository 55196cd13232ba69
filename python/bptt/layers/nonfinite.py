# SPDX-License-Identifier: MIT
"""Finds the first value of a forward pass that is not finite."""

from __future__ import annotations

import numpy as np

from .. import _core
from .._types import Array
from .._words import shown
from ..trace.nonfinite import NonFinite
from .sequences import without_padding
from .tape import RecurrentTape

__all__ = ["find_nonfinite"]


def find_nonfinite(tape: _core.Tape | RecurrentTape | None) -> NonFinite | None:
    """Find the first value of a forward pass that is NaN or infinite.

    The search goes through the parameters and the initial state, then through the steps in the
    order of their processing. Within a step it looks at x, then at the gates and states in the
    order of ``tape.names``, but at o (which may see c) and h last; for each of them at the
    sequences, then at the units. Lower layers come before higher layers.

    Parameters
    ----------
    tape : Tape or RecurrentTape
        The tape of a function such as `lstm_forward`, or of a layer's `forward`. With a checkpoint
        it has no gates, and only h is searched.

    Returns
    -------
    NonFinite or None
        None if everything is finite. The ``gate`` may also be the name of an argument of the
        function, such as "x" or "w_hh"; an initial state is called "state", the second of several
        "state[1]".

    Raises
    ------
    TypeError
        If `tape` is not such a tape.

    Notes
    -----
    The tape holds values after their activations. It does not hold a gate's sum that overflows to
    infinity, which tanh and sigmoid make finite. It refers to x and to the parameters as they are
    now: search before an optimiser writes values into them that are not finite.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> rnn = bptt.RNN(2, 3, activation="relu", seed=0)
    >>> bptt.init.identity(rnn.parameters["weight_hh_l0"], 10.0)    # grows tenfold every step
    >>> y, h, tape = rnn.forward(np.ones((50, 4, 2)))
    >>> bptt.find_nonfinite(tape)
    NonFinite(phase='forward', layer=0, step=39, sequence=0, gate='h', unit=2)
    """
    if isinstance(tape, RecurrentTape):
        places = (_first_place(cell, k) for k, cell in enumerate(tape.cells))
        return next((place for place in places if place), None)
    if not isinstance(tape, _core.Tape):
        raise TypeError(f"find_nonfinite: tape is {shown(tape)}, expected that of a forward call")
    return _first_place(tape, 0)


def _first_place(tape: _core.Tape, layer: int) -> NonFinite | None:
    given, options = tape.arguments, tape.options or {}
    names = ("w_ih", "w_hh", "b_ih", "b_hh", "peepholes", "w_hr")
    parameters = {name: options.get(name, given.get(name)) for name in names}
    norms = options.get("layer_norm") or ()
    parameters |= {f"layer_norm[{k}]": gain for k, gain in enumerate(norms)}
    for name, value in parameters.items():
        if value is not None and (at := _first(value)):
            return NonFinite("forward", layer, None, None, name, at[0])
    state = given["state"]
    several = isinstance(state, tuple)
    for q, part in enumerate(state if several else (state,)):
        if part is not None and (at := _first(part)):
            name = f"state[{q}]" if several else "state"
            return NonFinite("forward", layer, None, at[-2], name, at[-1])
    sign = -1 if given["reverse"] else 1
    best: tuple[int, str, Array] | None = None
    for name, values in _series(tape):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))[::sign]
        if bad.size and (best is None or sign * bad[0] < sign * best[0]):
            best = int(bad[0]), name, values[bad[0]]
    if best is None:
        return None
    t, name, values = best
    b, unit = _first(values)
    return NonFinite("forward", layer, t, b, name, unit)


def _series(tape: _core.Tape) -> list[tuple[str, Array]]:
    """The names and values that every step has."""
    series = [("x", without_padding(tape.arguments["x"], tape.lengths))]
    for name in sorted(tape.names, key=lambda name: name in ("o", "h")):
        try:
            series.append((name, getattr(tape, name)))
        except ValueError:
            continue  # a checkpoint keeps h alone for all steps
    return series


def _first(array: Array) -> tuple[int, ...]:
    """Index of the first value that is not finite; empty if there is none."""
    bad = ~np.isfinite(array)
    return tuple(int(i) for i in np.argwhere(bad)[0]) if bad.any() else ()
