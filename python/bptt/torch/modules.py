# SPDX-License-Identifier: MIT
"""The recurrent modules: subclasses of PyTorch's whose `forward` calls the core if it can."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import dropout
from torch.nn.modules.rnn import RNNBase
from torch.nn.utils.rnn import PackedSequence

from .._binding.call import as_backward_how, as_bf16
from .._types import Array, StepClip
from .._validate import as_lengths_within, own
from ..layers.sequences import as_resets
from ..layers.structure import Structure
from ..trace.trace import LayerTrace
from . import traced
from .backend import BPTT, Backend, reason
from .call import Call
from .compiler import let_trace
from .eager import Recurrence, wants_graph
from .layout import Layout, layout_of, packed_layout
from .stack import PLAIN, Sequences, stack_of
from .traced import in_transform
from .weights import DTYPES, WeightArrays, known, remembered

Extras = tuple[Any, Any, Any]  # lengths, resets, trace


class Recurrent(RNNBase):
    """The part that `RNN`, `LSTM` and `GRU` share; it precedes PyTorch's class among their bases.

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
        for name in ("trace", "backend", "_arrays"):  # of one call
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
        """Run the module as PyTorch does, with three more arguments.

        Parameters
        ----------
        input, hx
            As in `torch.nn.LSTM`.
        lengths : Tensor or sequence of int, shape (B,), optional
            The number of steps of each sequence, 0..T, in any order. Later steps of `input` are not
            read and are 0 in the result; the final state is the state after the last step of each
            sequence.
        resets : Tensor of bool, shape (T, B), or (B, T) with `batch_first`, optional
            True at a step where another sequence begins, such as an episode: no state passes from
            the steps before it to this step, nor any gradient back.
        trace : bool or "full", optional
            Record how the gradient flows in the backward call, in ``module.trace``. None: the
            argument `trace` of the module.

        Returns
        -------
        output, hx
            As in `torch.nn.LSTM`.

        Raises
        ------
        ValueError, TypeError
            If `lengths`, `resets` or `trace` is wrong.
        NotImplementedError
            If one of these arguments is given and only PyTorch can compute the call.
        """
        trace = self.tracing if trace is None else trace
        extras = lengths, resets, trace
        if torch.is_autocast_enabled("cpu"):
            return self._in_autocast(input, hx, extras)
        return self._run(input, hx, extras, self.compute)

    def _run(self, input: Any, hx: Any, extras: Extras, compute: str | None) -> Any:
        compiling = torch.compiler.is_compiling()
        in_trace = compiling or in_transform()
        packed = isinstance(input, PackedSequence)
        data = input.data if packed else input
        initial = self._states(hx)
        weights = self._weights()
        arrays = None if in_trace else known(self, weights)
        why = reason(data, (*initial, *weights) if arrays is None else initial, in_trace)
        if why is None:
            # Mostly there is nothing to see: this shape has come before, without a state.
            usual = hx is None and not packed and not in_trace and self._layout(data) is not None
            if arrays is not None and arrays.dtype is not data.dtype:
                why = f"tensors have the dtypes {data.dtype} and {arrays.dtype}"
            elif not usual:
                why = self._misfit(data, initial, input.batch_sizes if packed else None)
        if why is not None:
            return self._by_torch(why, input, hx, extras)
        if packed:
            initial = self._permuted(initial, input.sorted_indices)
        if not compiling and self.backend is not BPTT:
            self.__dict__["backend"] = BPTT
        if in_trace:
            y, *finals = self._traced(input, data, initial, weights, extras, compute)
        else:
            y, *finals = self._eager(input, data, initial, weights, arrays, extras, compute)
        if packed:
            finals = self._permuted(finals, input.unsorted_indices)
            y = PackedSequence(y, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
        return y, tuple(finals) if len(finals) > 1 else finals[0]

    @torch.compiler.disable  # where it cannot trace a call, it would compile each function below
    def _eager(
        self, input: Any, data: Tensor, initial: list[Any], weights: list[Any],
        arrays: WeightArrays | None, extras: Extras, compute: str | None,
    ) -> Any:  # fmt: skip
        """By one node of the autograd graph, from memory to memory."""
        lengths, resets, trace = extras
        stack = stack_of(
            self.mode, (self.input_size, self.hidden_size, self.proj_size), self.num_layers,
            self.bidirectional, self.bias, self.batch_first, DTYPES[data.dtype], compute,
            self.step_clip, self.cut, trace,
        )  # fmt: skip
        layout, own_lengths = self._layout(data), None
        if data is not input:
            layout, own_lengths = packed_layout(input.batch_sizes)
        assert layout is not None  # as the shapes have been looked at
        sequences = self._sequences(stack.structure, data, layout, own_lengths, lengths, resets)
        arrays = arrays or remembered(self, weights, stack)
        call = Call(stack, layout, sequences, arrays.cells, self._take_trace if trace else None)
        if wants_graph((*weights, data, *initial)):
            return Recurrence.apply(call, data, *initial, *weights)
        return call.forward((data, *initial), False)[0]

    def _traced(
        self, input: Any, data: Tensor, initial: list[Any], weights: list[Any], extras: Extras,
        compute: str | None,
    ) -> Any:  # fmt: skip
        """By operators that tracers and transforms know."""
        lengths, resets, trace = extras
        packed, single = data is not input, data.dim() == 2
        if trace:
            raise NotImplementedError(
                f"{self._caller()}: trace is {trace!r} inside torch.compile or a transform, "
                "expected None"
            )
        if lengths is not None or resets is not None:
            self._refuse(lengths, resets, "packed" if packed else "single" if single else "time")
            lengths = None if lengths is None else torch.as_tensor(lengths)
            resets = None if resets is None else torch.as_tensor(resets)
        batch_sizes, rows = (input.batch_sizes, data.shape[:1]) if packed else (None, None)
        if not packed and single:
            data = data.unsqueeze(1)
            initial = [part if part is None else part.unsqueeze(1) for part in initial]
        elif not packed and self.batch_first:
            data = data.transpose(0, 1)
            resets = resets if resets is None else resets.transpose(0, 1)
        B: Any = data.shape[1]
        if batch_sizes is not None and initial[0] is None:
            B = int(batch_sizes[0])  # a tracer does not know it
        cells = self.num_layers * (1 + self.bidirectional)
        widths = self._widths()[: len(initial)]
        initial = [
            data.new_zeros(cells, B, width) if part is None else part
            for part, width in zip(initial, widths)
        ]
        masks = self._masks(data, rows or data.shape[:2])
        clip = self.step_clip or ("none", 0.0)
        call = traced.Call(
            (len(initial), len(weights), len(masks)),
            (self.mode, self.num_layers, self.bidirectional, compute),
            (*clip, "h")[:3] + (self.cut,),
        )
        results = traced.recurrence(
            call, data, *initial, *weights, *masks, lengths, resets, batch_sizes
        )
        y, *finals = results[: 1 + len(initial)]
        if not packed and single:
            return [part.squeeze(1) for part in (y, *finals)]
        return [y.transpose(0, 1) if self.batch_first and not packed else y, *finals]

    def _in_autocast(self, input: Any, hx: Any, extras: Extras) -> Any:
        """The products in bfloat16, as autocast asks, and the results in the types of PyTorch's."""
        packed = isinstance(input, PackedSequence)
        data = input.data if packed else input
        target = torch.get_autocast_dtype("cpu")
        kinds = (torch.float32, torch.bfloat16)
        if getattr(data, "dtype", None) not in kinds or target is not torch.bfloat16:
            if getattr(data, "dtype", None) is torch.float64:  # which autocast leaves alone
                return self._run(input, hx, extras, self.compute)
            return self._by_torch(f"autocast is to {target}", input, hx, extras)

        def whole(tensor: Any) -> Any:
            return tensor.float() if isinstance(tensor, (Tensor, PackedSequence)) else tensor

        states = [whole(state) for state in self._states(hx)]
        given = None if hx is None else tuple(states) if len(states) > 1 else states[0]
        y, final = self._run(whole(input), given, extras, self.compute or "bf16_if_available")
        by_onednn = self.mode == "LSTM" and not packed and not self.proj_size
        lower = by_onednn or self.mode.startswith("RNN")
        of_h = target if lower or self.proj_size else data.dtype
        of_c = target if lower else data.dtype
        if isinstance(final, tuple):
            return y.to(of_h), (final[0].to(of_h), final[1].to(of_c))
        return y.to(of_h), final.to(of_h)

    # --- arguments

    def _caller(self) -> str:
        return type(self).__name__

    def _widths(self) -> tuple[int, int]:
        return self.proj_size or self.hidden_size, self.hidden_size

    def _states(self, hx: Any) -> list[Any]:
        if self.mode == "LSTM":
            return [None, None] if hx is None else list(hx)
        return [hx]

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
        return layout_of(data.shape, self.batch_first, self.input_size)

    def _misfit(self, data: Tensor, states: list[Any], batch_sizes: Tensor | None) -> str | None:
        """Why PyTorch, which has its own words for it, should refuse these shapes."""
        packed, shape = batch_sizes is not None, data.shape
        if len(shape) not in ((2,) if packed else (2, 3)) or shape[-1] != self.input_size:
            return f"input has the shape {tuple(shape)}"
        if self.mode == "LSTM" and len(states) != 2:
            return f"hx has {len(states)} states"
        batched = len(shape) == 3
        if not packed and shape[1 if self.batch_first and batched else 0] == 0:
            return "input has no steps"
        batch = tuple(shape[0:1] if self.batch_first else shape[1:2]) if batched else ()
        rows = self.num_layers * (1 + self.bidirectional)
        for state, width in zip(states, self._widths()):
            if state is None:
                continue
            if batch_sizes is not None:  # whose first number no compiler knows
                compiling = torch.compiler.is_compiling()
                batch = tuple(state.shape[1:2]) if compiling else (int(batch_sizes[0]),)
            if state.shape != (rows, *batch, width):
                return f"hx has the shape {tuple(state.shape)}"
        return None

    def _sequences(
        self, structure: Structure, data: Tensor, layout: Layout, own_lengths: Array | None,
        lengths: Any, resets: Any,
    ) -> Sequences:  # fmt: skip
        dropout = self.training and self.dropout > 0 and self.num_layers > 1
        if own_lengths is None and lengths is None and resets is None and not dropout:
            return PLAIN
        caller, T, B = structure.caller, layout.steps, layout.batch
        packed = layout.kind == "packed"
        self._refuse(lengths, resets, layout.kind)
        if lengths is not None:
            own_lengths = as_lengths_within(caller, lengths, T, B)
        if resets is not None:
            resets = own(as_resets(structure, resets, T, B), np.bool_)
        masks = self._masks(data, data.shape[:1] if packed else (T, B))
        arrays = [layout.inward(m) if packed else m.numpy() for m in masks]
        return Sequences(own_lengths, resets, arrays)

    def _refuse(self, lengths: Any, resets: Any, kind: str) -> None:
        what = {"packed": "a PackedSequence", "single": "unbatched"}.get(kind)
        for name, value in (("lengths", lengths), ("resets", resets)):
            if value is not None and what is not None:
                raise ValueError(
                    f"{self._caller()}: {name} are given and input is {what}, expected None"
                )

    def _masks(self, data: Tensor, rows: Any) -> list[Tensor]:
        """The masks of the layers above the first: what PyTorch's dropout makes of ones."""
        above = self.num_layers - 1
        if not (self.training and self.dropout > 0 and above):
            return []
        shape = *rows, (1 + self.bidirectional) * self._widths()[0]
        return [dropout(data.new_ones(shape), self.dropout) for _ in range(above)]

    # --- results

    def _take_trace(self, trace: LayerTrace) -> None:
        self.__dict__["trace"] = trace

    def _by_torch(self, why: str, input: Any, hx: Any, extras: Extras) -> Any:
        result = super().forward(input, hx)
        names = ("lengths", "resets", "trace", "step_clip", "cut")
        for name, value in zip(names, (*extras, self.step_clip, self.cut)):
            if value is not None and value is not False:
                raise NotImplementedError(
                    f"{self._caller()}: {name} is given and PyTorch has to compute, as {why}; "
                    "expected None"
                )
        if not torch.compiler.is_compiling():
            self.__dict__["backend"] = Backend("torch", why)
        return result


let_trace(Recurrent)


class RNN(Recurrent, torch.nn.RNN):
    """`torch.nn.RNN` computed by bptt."""


class LSTM(Recurrent, torch.nn.LSTM):
    """`torch.nn.LSTM` computed by bptt."""


class GRU(Recurrent, torch.nn.GRU):
    """`torch.nn.GRU` computed by bptt."""
