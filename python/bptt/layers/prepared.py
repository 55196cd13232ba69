# SPDX-License-Identifier: MIT
"""A recurrent layer whose weights are packed once, for many calls."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import _core
from .._binding.call import uses_bf16
from .._guesses import answering
from .._types import Array, State
from .._validate import as_lengths_within, prepare
from .sequences import (
    as_resets,
    join_state,
    resets_of_reverse,
    split_state,
    state_shape,
    time_major,
)

__all__ = ["Prepared"]


class Prepared:
    """A recurrent layer for inference, with weights packed as the kernels read them.

    Made by `LSTM.prepare` and its like. A call gives the bits of a call of the layer, for any T and
    B, and saves packing the weights.

    The weights are a copy: after `load`, a step of an optimiser or any other change of the layer's
    parameters, calls still compute with the packed ones until `refresh`. `stale` tells whether the
    parameters have changed since.

    One object may serve many threads at once; a call that runs during `refresh` ends with the
    weights that it began with. The instruction set stays as it was when the weights were packed.
    Pickles and copies hold the layer and pack its parameters anew.

    Attributes
    ----------
    layer : Recurrent
        The layer, whose parameters `refresh` packs.
    isa : str
        The instruction set that the weights are packed for.
    nbytes : int
        The bytes of the packed weights.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> lstm = bptt.LSTM(3, 4, 2, bidirectional=True, seed=0)
    >>> x = np.ones((6, 1, 3), np.float32)
    >>> infer = lstm.prepare()
    >>> y, (h, c) = infer(x)
    >>> bool((y == lstm(x)[0]).all())
    True
    >>> lstm.parameters["bias_ih_l0"] = np.ones(16)
    >>> infer.stale
    True
    >>> infer.refresh()
    >>> infer.stale
    False
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.refresh()

    def refresh(self) -> None:
        """Pack the current parameters of the layer, for the instruction set in use now."""
        s, layer = self.layer.structure, self.layer
        caller, cells = f"{s.caller}.prepare", layer._cells
        marks = self._marks()
        bf16 = uses_bf16(caller, s.kind, s.compute, s.dtype, cells[0].checked)
        sizes = np.repeat(
            [s.input_size, *[s.width * s.directions] * (s.num_layers - 1)], s.directions
        )
        given = [
            (np.empty((0, 1, size), s.dtype), (bf16, *c.weights(), c.checked))
            for size, c in zip(sizes, cells)
        ]
        added = [s.adds_input(k) for k in range(s.num_layers)]
        self._core = _core.prepare(caller, s.kind, given, added)  # of which calls read one alone
        self._packed, self._bf16 = marks, bf16
        self._as_given = not s.batch_first and (max(s.dilations) == 1 or len(set(s.dilations)) > 1)

    def _marks(self) -> list[int]:
        return [_core.digest(array) for array in self.layer.parameters.values()]

    @property
    def stale(self) -> bool:
        """Have parameters of the layer changed since they were packed?

        Reads every parameter, which takes about as long as one step of one sequence.
        """
        return self._marks() != self._packed

    @property
    def isa(self) -> str:
        return self._core.isa

    @property
    def nbytes(self) -> int:
        return self._core.nbytes

    @answering
    def __call__(
        self,
        x: ArrayLike,
        state: State = None,
        lengths: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[Array, State]:
        """Run the layer for inference, with the packed weights.

        Parameters
        ----------
        x, state, lengths, resets
            As in a call of the layer.

        Returns
        -------
        y, state
            As of a call of the layer.

        Raises
        ------
        ValueError, TypeError
            As a call of the layer.
        """
        core = self._core
        if resets is None and self._as_given:
            # A call of a small layer takes less time than a look at its arguments here.
            result = core(x, state, lengths, None)
            if result is not None:
                return result
        return self._run(core, x, state, lengths, resets)

    def _run(
        self,
        core: _core.Prepared,
        x: ArrayLike,
        state: State,
        given_lengths: ArrayLike | None,
        given_resets: ArrayLike | None,
    ) -> tuple[Array, State]:
        """The same for arguments that are to be converted, or refused."""
        s = self.layer.structure
        x = time_major(s, "x", x, s.input_size, "input_size")
        T, B, _ = x.shape
        lengths = as_lengths_within(s.caller, given_lengths, T, B)
        if state is not None:
            parts = join_state(s, split_state(s, "state", state, B), B)
            rows = s.directions * sum(s.dilations)
            arrays = [
                prepare(p.reshape(rows, B, p.shape[-1]), s.dtype)
                for p in (parts if s.states > 1 else [parts])
            ]
            state = tuple(arrays) if s.states > 1 else arrays[0]
        resets = None
        if given_resets is not None:
            mask = as_resets(s, given_resets, T, B)
            both = (mask, resets_of_reverse(mask, lengths))
            resets = tuple(prepare(m, np.dtype(bool)) for m in both)
        if lengths is not None:
            lengths = prepare(lengths, np.dtype(np.int64))
        result = core(prepare(x, s.dtype), state, lengths, resets)
        assert result is not None
        y, final = result
        finals = [
            part.reshape(state_shape(s, B, q)[1])
            for q, part in enumerate(final if s.states > 1 else [final])
        ]
        y = y.swapaxes(0, 1) if s.batch_first else y
        return y, tuple(finals) if s.states > 1 else finals[0]

    def __repr__(self) -> str:
        name = repr(self.layer).partition("\n")[0]
        weights = "bf16" if self._bf16 else self.layer.dtype.name
        stale = ", stale: refresh() packs the changed parameters" if self.stale else ""
        return f"Prepared({name}, {weights} for {self.isa}, {self.nbytes / 1024:,.1f} KiB{stale})"

    def __reduce__(self) -> Any:
        return type(self), (self.layer,)
