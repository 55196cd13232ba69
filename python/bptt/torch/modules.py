# SPDX-License-Identifier: MIT
"""The recurrent modules: PyTorch's, whose `forward` goes to the core where that can."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.rnn import RNNBase
from torch.nn.utils.rnn import PackedSequence

from .._binding.call import as_backward_how, as_bf16
from .._cells import CELLS
from .._types import Array, StepClip
from .._validate import as_lengths_within, own
from ..layers.sequences import as_resets
from ..layers.structure import Structure
from ..trace.trace import LayerTrace
from .backend import BPTT, Backend, reason
from .eager import Call, Recurrence, infer
from .layout import Layout, packed_layout
from .stack import PLAIN, Sequences, Stack

CELLS_OF_MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "RNN_TANH": ("rnn", {}),
    "RNN_RELU": ("rnn", {"activation": "relu"}),
    "LSTM": ("lstm", {}),
    "GRU": ("gru", {}),
}
DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64),
}  # fmt: skip


class Recurrent(RNNBase):
    """What `RNN`, `LSTM` and `GRU` share; comes before PyTorch's class among their bases.

    Attributes
    ----------
    backend : Backend
        Who computed the last call: "bptt", or "torch" with a `reason`.
    trace : LayerTrace or None
        How the gradient flowed in the last backward call that was traced.
    """

    # Of the class, so that an instance of PyTorch's class may become one of this.
    compute: str | None = None
    step_clip: StepClip | None = None
    cut: int | None = None
    tracing: bool | str | None = None
    trace: LayerTrace | None = None
    backend: Backend = BPTT

    def __init__(
        self,
        *args: Any,
        compute: str | None = None,
        step_clip: StepClip | None = None,
        cut: int | None = None,
        trace: bool | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        caller = type(self).__name__
        as_bf16(caller, compute, np.float32)
        as_backward_how(caller, step_clip, cut, trace)
        clip = tuple(step_clip) if isinstance(step_clip, list) else step_clip
        self.compute, self.step_clip, self.cut, self.tracing = compute, clip, cut, trace

    def extra_repr(self) -> str:
        own = {
            "compute": self.compute, "step_clip": self.step_clip, "cut": self.cut,
            "trace": self.tracing,
        }  # fmt: skip
        given = [f"{name}={value!r}" for name, value in own.items() if value is not None]
        return ", ".join([super().extra_repr(), *given])

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        for name in ("_stacks", "trace", "backend"):  # made again; of one call
            state.pop(name, None)
        return state

    def forward(
        self,
        input: Any,
        hx: Any = None,
        *,
        lengths: Any = None,
        resets: Any = None,
        trace: bool | str | None = None,
    ) -> Any:
        """Run the module as PyTorch's does, with a few arguments more.

        Parameters
        ----------
        input, hx
            As of `torch.nn.LSTM`.
        lengths : Tensor or sequence of int, shape (B,), optional
            The number of steps of each sequence, 0..T, in any order. Later steps of `input` are not
            read and are 0 in the result; the final state is the state after the last step of each
            sequence.
        resets : Tensor of bool, shape (T, B), or (B, T) with `batch_first`, optional
            True at a step where another sequence begins, such as an episode: no state passes from
            the steps before it to this step, nor any gradient back.
        trace : bool or "full", optional
            Record how the gradient flows in the backward call, in ``module.trace``. None: as the
            module was made.

        Returns
        -------
        output, hx
            As of `torch.nn.LSTM`.

        Raises
        ------
        ValueError, TypeError
            If `lengths`, `resets` or `trace` is wrong.
        NotImplementedError
            If only PyTorch can compute this call, and it has no such argument.
        """
        trace = self.tracing if trace is None else trace
        packed = isinstance(input, PackedSequence)
        data = input.data if packed else input
        states = CELLS[CELLS_OF_MODES[self.mode][0]].states
        initial = self._states(hx, len(states))
        weights = self._weights()
        why = reason(data, initial, weights)
        if why is None and torch.is_autocast_enabled("cpu"):
            why = "autocast"
        layout, own_lengths = None, None
        if why is None:
            stack = self._stack(data.dtype, trace)
            if packed:
                layout, own_lengths = packed_layout(input.batch_sizes)
                initial = self._permuted(initial, input.sorted_indices)
            else:
                layout = self._layout(data)
            why = self._misfit(data, initial, layout)
        if why is not None or layout is None:
            return self._by_torch(why, input, hx, lengths, resets, trace)
        if self.backend is not BPTT:
            self.__dict__["backend"] = BPTT
        sequences = self._sequences(stack.structure, data, layout, own_lengths, lengths, resets)
        call = Call(stack, layout, sequences, self._take_trace)
        if torch.is_grad_enabled():
            y, *finals = Recurrence.apply(call, data, *initial, *weights)
        else:
            y, *finals = infer(call, data, initial, weights)
        if packed:
            finals = self._permuted(finals, input.unsorted_indices)
            y = PackedSequence(y, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
        return y, tuple(finals) if len(finals) > 1 else finals[0]

    # --- arguments

    def _states(self, hx: Any, count: int) -> list[Any]:
        if hx is None:
            return [None] * count
        return [hx] if count == 1 else list(hx)

    def _weights(self) -> list[Any]:
        parameters, names = self._parameters, self._flat_weights_names
        try:
            return [parameters[name] for name in names]
        except KeyError:  # computed from others, as by a parametrization
            return [getattr(self, name) for name in names]

    def _permuted(self, states: list[Any], indices: Tensor | None) -> list[Any]:
        if indices is None:
            return states
        return [s if s is None else s.index_select(1, indices) for s in states]

    def _layout(self, data: Tensor) -> Layout | None:
        shape = data.shape
        if len(shape) == 3:
            if self.batch_first:
                return Layout("batch", shape[1], shape[0])
            return Layout("time", shape[0], shape[1])
        return Layout("single", shape[0], 1) if len(shape) == 2 else None

    def _misfit(self, data: Tensor, states: list[Any], layout: Layout | None) -> str | None:
        """Why PyTorch, which has its own words for it, should refuse these shapes."""
        if layout is None or data.shape[-1] != self.input_size or layout.steps == 0:
            return f"input has the shape {tuple(data.shape)}"
        rows = self.num_layers * (1 + self.bidirectional)
        for state, width in zip(states, (self.proj_size or self.hidden_size, self.hidden_size)):
            shape = (rows, width) if layout.kind == "single" else (rows, layout.batch, width)
            if state is not None and state.shape != shape:
                return f"hx has the shape {tuple(state.shape)}"
        return None

    def _sequences(
        self,
        structure: Structure,
        data: Tensor,
        layout: Layout,
        own_lengths: Array | None,
        lengths: Any,
        resets: Any,
    ) -> Sequences:
        dropout = self.training and self.dropout > 0 and self.num_layers > 1
        if own_lengths is None and lengths is None and resets is None and not dropout:
            return PLAIN
        caller, T, B = structure.caller, layout.steps, layout.batch
        for name, value in (("lengths", lengths), ("resets", resets)):
            if value is not None and layout.kind in ("single", "packed"):
                kind = "unbatched" if layout.kind == "single" else "a PackedSequence"
                raise ValueError(f"{caller}: {name} are given and input is {kind}, expected none")
        if lengths is not None:
            own_lengths = as_lengths_within(caller, lengths, T, B)
        if resets is not None:
            resets = own(as_resets(structure, resets, T, B), np.bool_)
        masks = self._masks(structure, data, layout) if dropout else ()
        return Sequences(own_lengths, resets, masks)

    def _masks(self, s: Structure, data: Tensor, layout: Layout) -> list[Array]:
        """The masks that PyTorch would draw."""
        rows = tuple(data.shape[:1]) if layout.kind == "packed" else (layout.steps, layout.batch)
        keep, masks = 1 - self.dropout, []
        for _ in range(self.num_layers - 1):
            mask = data.new_empty(*rows, s.directions * s.width)
            mask = mask.bernoulli_(keep).div_(keep) if keep else mask.zero_()
            masks.append(layout.inward(mask) if layout.kind == "packed" else mask.numpy())
        return masks

    def _stack(self, dtype: torch.dtype, trace: Any) -> Stack:
        key = dtype, self.batch_first, self.compute, self.step_clip, self.cut, trace
        stacks: dict[Any, Stack] = self.__dict__.setdefault("_stacks", {})
        if key not in stacks:
            stacks[key] = self._new_stack(*key)
        return stacks[key]

    def _new_stack(
        self, dtype: torch.dtype, batch_first: bool, compute: str | None, *backward: Any
    ) -> Stack:
        caller = type(self).__name__
        kind, options = CELLS_OF_MODES[self.mode]
        structure = Structure(
            caller=caller, kind=kind, input_size=self.input_size, hidden_size=self.hidden_size,
            width=self.proj_size or self.hidden_size, num_layers=self.num_layers,
            directions=1 + self.bidirectional, bias=self.bias, batch_first=batch_first,
            dilations=(1,) * self.num_layers, skip=0, residual=False, dtype=DTYPES[dtype],
            compute=compute, options=options, learnt=("w_hr",) if self.proj_size else (),
        )  # fmt: skip
        return Stack(structure, as_backward_how(caller, *backward))

    # --- results

    def _take_trace(self, trace: LayerTrace) -> None:
        self.__dict__["trace"] = trace

    def _by_torch(
        self, why: str | None, input: Any, hx: Any, lengths: Any, resets: Any, trace: Any
    ) -> Any:
        extras = {
            "lengths": lengths, "resets": resets, "trace": trace or None,
            "step_clip": self.step_clip, "cut": self.cut,
        }  # fmt: skip
        result = super().forward(input, hx)
        for name, value in extras.items():
            if value is not None:
                raise NotImplementedError(
                    f"{type(self).__name__}: {name} is given and PyTorch has to compute, as {why}; "
                    "expected None"
                )
        self.__dict__["backend"] = Backend("torch", why or "")
        return result


class RNN(Recurrent, torch.nn.RNN):
    """`torch.nn.RNN` computed by bptt."""


class LSTM(Recurrent, torch.nn.LSTM):
    """`torch.nn.LSTM` computed by bptt."""


class GRU(Recurrent, torch.nn.GRU):
    """`torch.nn.GRU` computed by bptt."""
