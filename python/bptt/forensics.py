# SPDX-License-Identifier: MIT
"""Finds where a forward pass first left the finite numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core
from ._sequences import split_state, time_major, without_padding
from ._tape import RecurrentTape
from .grads import Array, State
from .nonfinite import NonFinite

__all__ = ["find_nonfinite"]

WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh", "peepholes", "w_hr")


def find_nonfinite(tape: _core.Tape | RecurrentTape | None, **arguments: Any) -> NonFinite | None:
    """The first value of a forward pass that is NaN or infinite.

    First are parameters and the initial state, then the steps in the order of their processing; in
    a step x, then the gates and states in the order of ``tape.names``, but o, which may see c, and
    h last; then sequences and units. Lower layers come before higher ones.

    Parameters
    ----------
    tape : Tape or RecurrentTape
        Of a function, as `lstm_forward`, or of a layer's `forward`. With a checkpoint it has no
        gates: h alone is searched.
    **arguments
        Of the forward call by name, to be searched too, as a tape does not have them: ``x`` and
        ``state``; for the tape of a function also ``w_ih``, ``w_hh``, ``b_ih``, ``b_hh``,
        ``peepholes`` and ``w_hr``, and ``lengths`` and ``reverse``, where it had these. A layer's
        parameters are known.

    Returns
    -------
    NonFinite or None
        None if all is finite. The ``gate`` of an initial state is "state", or "state[1]" for the
        second of several.

    Raises
    ------
    TypeError
        If `tape` is none of these, or an argument has another name.
    ValueError
        If a shape disagrees with that of the tape.

    Notes
    -----
    The tape holds values after their activations. A gate's sum that overflows to infinity is not
    among them: tanh and sigmoid make finite values of it.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> rnn = bptt.RNN(2, 3, activation="relu", seed=0)
    >>> bptt.init.identity(rnn.parameters["weight_hh_l0"], 10.0)    # grows tenfold every step
    >>> y, h, tape = rnn.forward(np.ones((50, 4, 2)))
    >>> bptt.find_nonfinite(tape)
    NonFinite(phase='forward', layer=0, step=39, sequence=0, gate='h', unit=2)
    """
    if not isinstance(tape, (RecurrentTape, _core.Tape)):
        raise TypeError(f"find_nonfinite: tape is {tape!r}, expected that of a forward call")
    of_layer = isinstance(tape, RecurrentTape)
    expected = ("x", "state") if of_layer else ("x", "state", *WEIGHTS, "lengths", "reverse")
    for name in arguments:
        if name not in expected:
            raise TypeError(f"find_nonfinite: {name} is given, expected one of {expected}")
    if isinstance(tape, RecurrentTape):
        return _in_layers(tape, **arguments)
    return _in_cell(tape, 0, **arguments)


def _in_layers(tape: RecurrentTape, x: Any = None, state: State = None) -> NonFinite | None:
    layer, (_, B) = tape.layer, tape.shape
    if x is not None:
        x = time_major(layer, "x", x, layer.input_size, "input_size", tape.shape)
    states = split_state(layer, "state", state, B)
    directions = 1 + layer.bidirectional
    for k, cell in enumerate(tape.cells):
        found = _in_cell(
            cell,
            k,
            x if k < directions else None,
            states[k],
            tape.lengths,
            k % directions == 1,
            **layer._weights(k),
        )
        if found:
            return found
    return None


def _in_cell(
    tape: _core.Tape,
    layer: int,
    x: Any = None,
    state: State = None,
    lengths: Any = None,
    reverse: bool = False,
    **weights: Any,
) -> NonFinite | None:
    several = isinstance(state, (tuple, list))
    parts = {f"state[{q}]": part for q, part in enumerate(state)} if several else {"state": state}
    for name, value in {**weights, **parts}.items():
        at = () if value is None else _first(np.asarray(value))
        if at and name in parts:
            return NonFinite("forward", layer, None, at[-2], name, at[-1])
        if at:
            return NonFinite("forward", layer, None, None, name, at[0])
    best: tuple[int, str, Array] | None = None
    for name, steps in _series(tape, x, lengths):
        bad = np.flatnonzero(~np.isfinite(steps).all(axis=(1, 2)))
        if bad.size:
            t = int(bad[-1 if reverse else 0])
            if best is None or (t > best[0] if reverse else t < best[0]):
                best = t, name, steps[t]
    if best is None:
        return None
    t, name, values = best
    b, unit = _first(values)
    return NonFinite("forward", layer, t, b, name, unit)


def _series(tape: _core.Tape, x: Any, lengths: Any) -> list[tuple[str, Array]]:
    """What has a value at each step."""
    series = []
    if x is not None:
        x = np.asarray(x)
        if x.shape != tape.dims[:3]:
            raise ValueError(
                f"find_nonfinite: x has shape {x.shape}, expected (T, B, I) = {tape.dims[:3]}"
            )
        series.append(("x", without_padding(x, None if lengths is None else np.asarray(lengths))))
    for name in sorted(tape.names, key=lambda name: name in ("o", "h")):
        try:
            series.append((name, getattr(tape, name)))
        except ValueError:
            continue  # kept in segments by a checkpoint: only h is whole
    return series


def _first(array: Array) -> tuple[int, ...]:
    """Index of the first value that is not finite; empty if there is none."""
    bad = ~np.isfinite(array)
    return tuple(int(i) for i in np.argwhere(bad)[0]) if bad.any() else ()
