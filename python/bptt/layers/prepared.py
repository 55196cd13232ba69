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
from .._validate import as_choice, as_lengths_within, prepare
from .initial import Initial
from .out import check_out, finished, for_core
from .sequences import (
    as_resets,
    resets_of_reverse,
    split_state,
    state_shape,
    time_major,
)

__all__ = ["Prepared"]


class Prepared:
    """A recurrent layer for inference, with weights packed as the kernels read them.

    Made by `LSTM.prepare` and its like. A call takes any T and B, saves packing the weights, and
    gives the bits of a call of the layer, or, with weights in 8 bits, results near them.

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
    weights : "int8" or None
        As given to `LSTM.prepare`.
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

    def __init__(self, layer: Any, weights: str | None = None) -> None:
        caller = f"{layer.structure.caller}.prepare"
        if weights is not None:
            weights = as_choice(caller, "weights", weights, ("int8",))
        self.layer, self.weights = layer, weights
        self.refresh()

    def refresh(self) -> None:
        """Pack the current parameters of the layer, for the instruction set in use now."""
        s, cells = self.layer.structure, self.layer._cells
        caller, marks = f"{s.caller}.prepare", self._marks()
        if self.weights == "int8":
            self._check_weights(caller)
            products = "int8"
        else:
            bf16 = uses_bf16(caller, s.kind, s.compute, s.dtype, cells[0].checked)
            products = "bf16" if bf16 else ""
        below = [s.input_size, *[s.width * s.directions] * (s.num_layers - 1)]
        given = [
            (
                np.empty((0, 1, below[k // s.directions]), s.dtype),
                (products, *c.weights(), c.checked),
            )
            for k, c in enumerate(cells)
        ]
        added = [s.adds_input(k) for k in range(s.num_layers)]
        initial = [cell.initial.copy() for cell in cells]
        # Assigned at once: a running call keeps its own.
        self._kept = _core.prepare(caller, s.kind, given, added, s.reverse), initial
        self._packed, self._products = marks, products or s.dtype.name
        self._as_given = not (s.batch_first or s.learn_state) and (
            max(s.dilations) == 1 or len(set(s.dilations)) > 1
        )

    def _check_weights(self, caller: str) -> None:
        """Raise if the parameters cannot be rounded to 8 bits."""
        if self.layer.dtype != np.float32:
            raise ValueError(
                f"{caller}: weights is 'int8' with {self.layer.dtype} parameters, expected float32"
            )
        for name, array in self.layer.parameters.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{caller}: {name} has numbers that are not finite, expected none")

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
        return self._kept[0].isa

    @property
    def nbytes(self) -> int:
        return self._kept[0].nbytes

    @answering
    def __call__(
        self,
        x: ArrayLike,
        state: State = None,
        lengths: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        out: Array | None = None,
    ) -> tuple[Array, State]:
        """Run the layer for inference, with the packed weights.

        Parameters
        ----------
        x, state, lengths, resets
            As in a call of the layer.
        out : ndarray, optional
            An array for `y`, of its shape. It is written to without a copy if it is C-contiguous,
            (T, B, H) in memory, of the layer's dtype, and shares no memory with the arguments.

        Returns
        -------
        y, state
            As of a call of the layer. `y` is `out` if it is given.

        Raises
        ------
        ValueError, TypeError
            As a call of the layer, or if `out` has another shape than `y`, is read-only or cannot
            hold the numbers.
        """
        core, initial = self._kept
        if resets is None and out is None and self._as_given:
            # A call of a small layer takes less time than a look at its arguments here.
            result = core(x, state, lengths, None, None)
            if result is not None:
                return result
        return self._run(core, initial, x, state, lengths, resets, out)

    def _run(
        self,
        core: _core.Prepared,
        initial: list[Initial],
        x: ArrayLike,
        state: State,
        given_lengths: ArrayLike | None,
        given_resets: ArrayLike | None,
        out: Array | None,
    ) -> tuple[Array, State]:
        """The same for arguments that are to be converted, or refused."""
        s = self.layer.structure
        x = time_major(s, "x", x, s.input_size, "input_size")
        T, B, _ = x.shape
        lengths = as_lengths_within(s.caller, given_lengths, T, B)
        by_cell = [
            own.state(one, B, given_resets is not None)
            for own, one in zip(initial, split_state(s, "state", state, B))
        ]
        if by_cell[0] is not None:
            by_state = zip(*by_cell) if s.states > 1 else [by_cell]
            arrays = [
                prepare(np.concatenate([p if p.ndim > 2 else p[None] for p in parts]), s.dtype)
                for parts in by_state
            ]
            state = tuple(arrays) if s.states > 1 else arrays[0]
        resets = None
        if given_resets is not None:
            mask = as_resets(s, given_resets, T, B)
            both = (mask, resets_of_reverse(mask, lengths))
            resets = tuple(
                prepare(both[s.is_reverse(k)], np.dtype(bool)) for k in range(s.directions)
            )
        if lengths is not None:
            lengths = prepare(lengths, np.dtype(np.int64))
        x = prepare(x, s.dtype)
        if out is not None:
            symbols = "(B, T, H)" if s.batch_first else "(T, B, H)"
            shape = (*((B, T) if s.batch_first else (T, B)), s.width * s.directions)
            check_out(s.caller, out, symbols, shape, s.dtype)
        rows = out.swapaxes(0, 1) if out is not None and s.batch_first else out
        parts = state if isinstance(state, tuple) else (state,)
        target = for_core(rows, s.dtype, x, lengths, *parts, *(resets or ()))
        result = core(x, state, lengths, resets, target)
        assert result is not None
        y, final = result
        finals = [
            part.reshape(state_shape(s, B, q)[1])
            for q, part in enumerate(final if s.states > 1 else [final])
        ]
        y = finished(out, target, y.swapaxes(0, 1) if s.batch_first else y)
        return y, tuple(finals) if s.states > 1 else finals[0]

    def __repr__(self) -> str:
        name = repr(self.layer).partition("\n")[0]
        stale = ", stale: refresh() packs the changed parameters" if self.stale else ""
        size = f"{self.nbytes / 1024:,.1f} KiB"
        return f"Prepared({name}, {self._products} for {self.isa}, {size}{stale})"

    def __reduce__(self) -> Any:
        return type(self), (self.layer, self.weights)
