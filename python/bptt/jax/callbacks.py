# SPDX-License-Identifier: MIT
"""The callbacks of a compiled JAX program, on memory of JAX that NumPy views.

A callback runs on a thread of JAX. If it called JAX, it could wait for its own thread, so
nothing here uses JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .. import _core
from .._binding.call import backward, forward
from .._cells import CELLS
from .._grads import Grads
from .._types import Array, How, State, StepClip
from .axes import SEQUENCES, Given, fold, leading, leaves, pick, shared, tree_map, unfold

# For each argument its arrays' shapes and dtypes, as objects that can be keys of a dict.
Shapes = tuple[tuple[str, Any], ...]
COTANGENTS = ("dy", "dstate")


class Call(NamedTuple):
    """Everything of a call except its arrays."""

    cell: str
    options: tuple[tuple[str, Any], ...]
    reverse: bool
    how: How
    step_clip: StepClip | None
    cut: int | None

    def forward(self, given: Given, keep_tape: bool) -> tuple[Array, State, _core.Tape | None]:
        x, w_ih, w_hh, b_ih, b_hh, state, lengths = (
            given[name] for name in ("x", "w_ih", "w_hh", "b_ih", "b_hh", "state", "lengths")
        )
        inputs = (x, w_ih, w_hh, b_ih, b_hh, state, lengths, self.reverse)
        arrays = {name: given[name] for name in CELLS[self.cell].options if name in given}
        options = dict(self.options) | arrays
        return forward(self.cell, inputs, options or None, keep_tape, self.how)

    def backward(
        self, tape: _core.Tape | None, dy: Array | None, dstate: State, wanted: tuple[str, ...]
    ) -> Given:
        """The gradients of these names."""
        control = (self.step_clip, self.cut, None, self.how[0], wanted)
        grads = backward(self.cell, tape, dy, dstate, control)
        return {name: getattr(grads, name) for name in wanted}


# --- shapes of results ----------------------------------------------------------------------------


def blank(shape: tuple[int, ...], dtype: DTypeLike, number: int = 0) -> Array:
    """An array of one number, which takes no memory."""
    return np.broadcast_to(np.array(number, dtype), shape)


def blanks_like(value: Any, number: int = 0) -> Any:
    return tree_map(lambda a: blank(a.shape, a.dtype, number), value)


@lru_cache(maxsize=256)
def results_of(call: Call, given: Shapes) -> Given:
    """Blanks of all results, gradients under "grads"; or the core's error about the shapes.

    The core gets blanks and lengths of 0: it checks all arguments, and computes no step.
    """
    # A leak of 0 is out of its range.
    blanks: Given = {name: blanks_like(value, int(name == "leak")) for name, value in given}
    if blanks["lengths"] is None and blanks["x"].ndim == 3:
        blanks["lengths"] = blank(blanks["x"].shape[1:2], np.int64)
    y, state, tape = call.forward(blanks, keep_tape=True)
    names = [n for n in Grads._fields if n in blanks]
    grads = call.backward(tape, None, None, tuple(names))
    found = {"y": y, "state": state, "grads": grads}
    results: Given = blanks_like(found)
    return results


# --- callbacks ------------------------------------------------------------------------------------


class Forward(NamedTuple):
    """y and the final state."""

    call: Call

    def results(self, shapes: Shapes) -> Given:
        found = results_of(self.call, shapes)
        return {"y": found["y"], "state": found["state"]}

    def __call__(self, context: Any, out: Given, given: Given) -> None:
        def one(given: Given) -> Given:
            y, state, _ = self.call.forward(given, keep_tape=False)
            return {"y": y, "state": state}

        write(out, over_leading_axes(one, tree_map(np.asarray, given), folds=True))


class Backward(NamedTuple):
    """Computes the gradients of `names` from the arrays of the forward call, dy and dstate.

    A tape cannot pass through JAX: the forward pass is computed again.
    """

    call: Call
    wanted: tuple[str, ...]

    def results(self, shapes: Shapes) -> Given:
        inputs = tuple((name, value) for name, value in shapes if name not in COTANGENTS)
        grads = results_of(self.call, inputs)["grads"]
        return {name: grads[name] for name in self.wanted}

    def __call__(self, context: Any, out: Given, given: Given) -> None:
        given = tree_map(np.asarray, given)
        inputs = {name: value for name, value in given.items() if name not in COTANGENTS}
        axes = given["x"].ndim - 3
        same = np.prod(leading(inputs, axes)) == 1  # one tape serves all cotangents
        tape = None

        def one(given: Given) -> Given:
            nonlocal tape
            if tape is None or not same:
                tape = self.call.forward(given, keep_tape=True)[2]
            return self.call.backward(tape, given["dy"], given["dstate"], self.wanted)

        write(out, over_leading_axes(one, given, folds=SEQUENCES.keys() >= set(self.wanted)))


def write(out: Given, results: Given) -> None:
    """Copy the results into memory of JAX."""
    for name in results:
        for to, result in zip(leaves(out[name]), leaves(results[name])):
            np.asarray(to)[...] = result


def over_leading_axes(one: Callable[[Given], Given], given: Given, folds: bool) -> Given:
    """The results of one call, or of a call for each index of the axes that `vmap` has added.

    With `folds`, all results have an axis of sequences: then a single call computes them, unless
    weights are mapped.
    """
    axes = given["x"].ndim - 3
    if axes == 0:
        return one(given)
    sizes = leading(given, axes)
    if 0 in sizes or (folds and np.prod(leading(shared(given), axes)) == 1):
        return unfold(one(fold(given, sizes)), sizes)
    results: Given = stacked([one(pick(given, index)) for index in np.ndindex(sizes)], sizes)
    return results


def stacked(results: list[Any], sizes: tuple[int, ...]) -> Any:
    """Trees of arrays as one tree, with `sizes` as leading axes."""
    first = results[0]
    if isinstance(first, dict):
        return {name: stacked([r[name] for r in results], sizes) for name in first}
    if isinstance(first, tuple):
        return tuple(stacked(list(parts), sizes) for parts in zip(*results))
    return np.stack(results).reshape(*sizes, *first.shape)
