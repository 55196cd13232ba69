# SPDX-License-Identifier: MIT
"""The cells of a recurrent layer, bound to its parameters and options: the way into the core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import _core
from .._binding.call import forward, pull_back
from .._binding.heads import block_diagonal
from .._binding.options import as_options
from .._cells import LAYER_NORM
from .._grads import Grads, bits_of
from .._types import Array, BackwardHow, Inputs, State
from .._validate import prepare
from .initial import Initial
from .masks import Rates
from .structure import Structure


class BoundCell:
    """One layer and direction of a recurrent layer.

    Holds the arrays of the parameters, not copies: every call computes with their values then.
    """

    def __init__(
        self, structure: Structure, rates: Rates, parameters: Mapping[str, Array], k: int
    ) -> None:
        layer = k // structure.directions
        arrays = structure.weights(parameters, k)
        self.kind, self.compute = structure.kind, structure.compute
        self.number, self.names = k, structure.names(k)
        self.caller = f"{self.kind}_backward"
        self.reverse = structure.is_reverse(k)
        self.initial = Initial(
            {name: parameters[name] for name in structure.initial_shapes(k)},
            structure.dilations[layer],
        )
        self.arrays = [arrays.pop(name, None) for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
        self.dtype = self.arrays[0].dtype
        self.heads = structure.options.get("heads", 1)
        options = {**structure.options, **arrays}
        if structure.dilations[layer] > 1:
            options["dilation"] = structure.dilations[layer]
        if structure.skip:
            options["skip"] = structure.skip
        if rates.has_zoneout:  # the mean of the masks
            options["zoneout"] = rates.zoneout
        self.options = options
        # The options as the core takes them, for a call that adds none.
        self.checked = as_options(f"{self.kind}_forward", self.kind, options or None, self.dtype)

    def weights(self) -> Sequence[Any]:
        """w_ih, w_hh, b_ih and b_hh as the core takes them; None for a missing bias."""
        if self.heads == 1:
            return self.arrays
        w_ih, w_hh, *biases = self.arrays
        return [w_ih, block_diagonal(self.caller, w_hh, self.heads), *biases]

    def forward(
        self,
        x: Array,
        state: State,
        lengths: Array | None,
        keep_tape: bool,
        more: dict[str, Any],
        checkpoint: str | int | None,
    ) -> tuple[Array, State, _core.Tape | None]:
        """The function of the cell; `more` has the options of this call alone."""
        if checkpoint is None and self.compute is None and not more:
            inputs: Inputs = (x, *self.weights(), state, lengths, self.reverse)
            result = _core.forward(self.kind, inputs, self.checked, keep_tape, None)
            if result is not None:
                return result
        # Something is to be converted or checked first.
        inputs = (x, *self.arrays, state, lengths, self.reverse)
        options = {**self.options, **more} or None
        return forward(self.kind, inputs, options, keep_tape, (None, checkpoint, self.compute))

    def bits(self, wanted: frozenset[str], passes: bool) -> int:
        """The gradients to compute, as the core takes them; `passes`: of x too."""
        arguments = {a for a, name in self.names.items() if name in wanted}
        of = {"layer_norm" if a in LAYER_NORM else a for a in arguments} | (wanted & {"state"})
        of |= {"state"} if wanted & self.initial.arrays.keys() else set()
        return bits_of(of | {"x"} if passes else of)

    def backward(
        self, tape: _core.Tape, dy: Array | None, dstate: State, how: BackwardHow
    ) -> Grads:
        """The gradients of one cell; `how` as from `as_backward_how`."""
        parts = dstate if isinstance(dstate, tuple) else (dstate, None)
        final = tuple([d if d is None else prepare(d, self.dtype) for d in parts])
        dy = dy if dy is None else prepare(dy, self.dtype)
        return pull_back(self.caller, tape, dy, final, how)
