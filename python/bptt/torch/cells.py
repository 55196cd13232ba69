# SPDX-License-Identifier: MIT
"""The modules of one step: `torch.nn.RNNCell`, `LSTMCell` and `GRUCell` computed by the core."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.rnn import RNNCellBase

from .backend import BPTT, Backend, reason
from .call import Call
from .eager import Recurrence, wants_graph
from .layout import Layout
from .stack import PLAIN, stack_of
from .traced import in_transform
from .weights import DTYPES, WeightArrays, known, remembered


class Cell(RNNCellBase):
    """The part that the cells share; it precedes PyTorch's class among their bases.

    Attributes
    ----------
    backend : Backend
        Who computed the last call: "bptt", or "torch" with a `reason`.
    """

    backend: Backend = BPTT
    _states = 1

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in self.__dict__.items() if n not in ("backend", "_arrays")}

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Compute one step, as PyTorch's cell does."""
        if torch.compiler.is_compiling():
            return super().forward(input, hx)
        initial = [hx] if self._states == 1 else [None, None] if hx is None else list(hx)
        weights = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        weights = [weight for weight in weights if weight is not None]
        arrays = known(self, weights)
        why: str | None = "the call is autocast" if torch.is_autocast_enabled("cpu") else None
        if in_transform():
            why = "a transform or tracer sees the call"
        why = why or reason(input, initial if arrays else (*initial, *weights), False)
        if why is None:
            why = self._misfit(input, initial)
        if why is None and arrays is not None and arrays.dtype is not input.dtype:
            why = f"tensors have the dtypes {input.dtype} and {arrays.dtype}"
        if why is not None:
            result = super().forward(input, hx)
            self.__dict__["backend"] = Backend("torch", why)
            return result
        if self.backend is not BPTT:
            self.__dict__["backend"] = BPTT
        return self._by_core(input, initial, weights, arrays)

    @torch.compiler.disable
    def _by_core(
        self, input: Tensor, initial: list[Any], weights: list[Any], arrays: WeightArrays | None
    ) -> Any:
        batch = input.shape[0] if input.dim() == 2 else 1
        layout = Layout("step" if input.dim() == 2 else "vector", 1, batch)
        stack = stack_of(
            self._mode(), (self.input_size, self.hidden_size, 0), 1, False, len(weights) == 4,
            False, DTYPES[input.dtype],
        )  # fmt: skip
        arrays = arrays or remembered(self, weights, stack)
        call = Call(stack, layout, PLAIN, arrays.cells)
        if wants_graph((*weights, input, *initial)):
            _, *final = Recurrence.apply(call, input, *initial, *weights)
        else:
            _, *final = call.forward((input, *initial), False)[0]
        return tuple(final) if len(final) > 1 else final[0]

    def _misfit(self, input: Tensor, initial: list[Any]) -> str | None:
        """Why PyTorch, which has its own words for it, should refuse these shapes."""
        shape = input.shape
        if len(shape) not in (1, 2) or shape[-1] != self.input_size:
            return f"input has the shape {tuple(shape)}"
        if len(initial) != self._states:
            return f"hx has {len(initial)} states"
        for state in initial:
            if state is not None and state.shape != (*shape[:-1], self.hidden_size):
                return f"hx has the shape {tuple(state.shape)}"
        return None

    def _mode(self) -> str:
        raise NotImplementedError


class RNNCell(Cell, torch.nn.RNNCell):
    """`torch.nn.RNNCell` computed by bptt."""

    def _mode(self) -> str:
        return f"RNN_{self.nonlinearity.upper()}"


class LSTMCell(Cell, torch.nn.LSTMCell):
    """`torch.nn.LSTMCell` computed by bptt."""

    _states = 2

    def _mode(self) -> str:
        return "LSTM"


class GRUCell(Cell, torch.nn.GRUCell):
    """`torch.nn.GRUCell` computed by bptt."""

    def _mode(self) -> str:
        return "GRU"
