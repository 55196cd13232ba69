# SPDX-License-Identifier: MIT
"""Any layer of bptt as a module of PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from .. import layers
from .._binding.call import as_backward_how
from .._types import StepClip
from .._words import shown
from ..layers.masks import is_random
from ..layers.parameters import Parameters
from ..trace.trace import LayerTrace
from .backend import reason
from .layer_calls import CALLS, LayerCall, RecurrentCall
from .layout import array_of
from .tapes import held, hold
from .traced import in_transform


class Layer(torch.nn.Module):
    """A layer of bptt as a module of PyTorch, trained by autograd.

    So PyTorch can train layers that `torch.nn` lacks, such as an LSTM with layer normalisation,
    peepholes or zoneout, an `MGU`, an `SLSTM`, a dilated `RNN`, or `Attention`.

    Parameters
    ----------
    layer : layer of bptt
        `RNN`, `LSTM`, `GRU`, `MGU`, `SLSTM`, `LSTM1997`, `Attention`, `Linear` or `Embedding`.
        The module's parameters have the layer's names and **share the memory** of its arrays: an
        optimiser of PyTorch trains the layer, and loading into the layer changes the module.
        Parameters that are frozen in the layer have ``requires_grad=False``.
    step_clip, cut, trace : optional
        Arguments of the layer's `backward` in each backward call; only for recurrent layers.

    Attributes
    ----------
    layer : layer of bptt
        The layer in the memory of the module's parameters: the one given, until `deepcopy`,
        ``double()`` or ``share_memory()`` move the parameters; then a new one in their memory.
    trace : LayerTrace or None
        How the gradient flowed in the last backward call that was traced.

    Raises
    ------
    TypeError
        If `layer` is no layer of bptt, or has no `step_clip`, `cut` or `trace`.
    ValueError
        If `step_clip`, `cut` or `trace` is wrong.

    Notes
    -----
    Results and shapes of states are the layer's. In training PyTorch's generator draws the random
    masks, so that `torch.manual_seed` repeats them. In evaluation nothing is random, and zoneout
    takes the mean.

    If PyTorch changes the input, a parameter or a result in place between the forward and the
    backward call, the backward call raises PyTorch's error. PyTorch does not see changes by NumPy.

    Second derivatives, forward mode and the transforms of `torch.func` raise an error.
    `torch.compile` raises one with ``fullgraph=True``; without it, the layer runs outside of the
    compiled graphs. `bptt.set_num_threads` sets the number of threads.

    Examples
    --------
    >>> import torch
    >>> import bptt, bptt.torch
    >>> module = bptt.torch.Layer(bptt.LSTM(3, 4, layer_norm=True, zoneout=0.1, seed=0))
    >>> module
    Layer(LSTM(3, 4, layer_norm=True, zoneout=0.1))
    >>> y, (h, c) = module(torch.ones(10, 2, 3))
    >>> y.square().sum().backward()
    >>> module.gain_hh_l0.grad.shape
    torch.Size([16])
    """

    trace: LayerTrace | None = None
    _key: Any = None  # of the memory that the layer is bound to

    def __init__(
        self,
        layer: Any,
        *,
        step_clip: StepClip | None = None,
        cut: int | None = None,
        trace: bool | str | None = None,
    ) -> None:
        super().__init__()
        kind = next((k for k in CALLS if isinstance(layer, k)), None)
        if kind is None:
            raise TypeError(
                f"Layer: layer is {shown(layer)}, expected a layer of bptt, such as bptt.LSTM(3, 4)"
            )
        for name, value in (("step_clip", step_clip), ("cut", cut), ("trace", trace)):
            if value is not None and kind is not layers.Recurrent:
                raise TypeError(
                    f"Layer: {name} is {shown(value)} with {type(layer).__name__}, expected None"
                )
        as_backward_how("Layer", step_clip, cut, trace)
        self.step_clip, self.cut, self.tracing = step_clip, cut, trace
        self._call, self._layer = CALLS[kind], layer
        for name, array in layer.parameters.items():
            tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
            learns = name not in layer.frozen
            self.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=learns))

    def extra_repr(self) -> str:
        own = {"step_clip": self.step_clip, "cut": self.cut, "trace": self.tracing}
        given = [f"{name}={value!r}" for name, value in own.items() if value is not None]
        return ", ".join([repr(self._layer).split("\n")[0], *given])

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        for name in ("trace", "_key"):  # a copy has memory of its own
            state.pop(name, None)
        return state

    @property
    def layer(self) -> Any:
        return self._bound(self._weights())

    @torch.compiler.disable
    def forward(
        self,
        x: Tensor | PackedSequence,
        state: Any = None,
        *,
        lengths: Any = None,
        resets: Any = None,
        trace: bool | str | None = None,
    ) -> Any:
        """Run the layer.

        Parameters
        ----------
        x : Tensor
            The input of the layer; for a recurrent layer also a PackedSequence. Real numbers of
            another type than the parameters' are converted.
        state : Tensor or tuple of Tensor, optional
            The initial state of a recurrent layer; the query of `Attention`.
        lengths, resets : optional
            As in the layer's `forward`.
        trace : bool or "full", optional
            Record how the gradient flows in the backward call, in ``module.trace``. None: the
            argument `trace` of the module.

        Returns
        -------
        y, state
            For a recurrent layer, y as a PackedSequence if x is one. `Attention` returns context
            and weights, `Linear` and `Embedding` return y alone.

        Raises
        ------
        ValueError
            If a shape or value is wrong.
        TypeError
            If a tensor is not on the CPU or has a type that the layer does not compute with, or if
            an argument is one that the layer does not have.
        NotImplementedError
            Inside a transform of `torch.func`.
        """
        given = {"state": state, "lengths": lengths, "resets": resets, "trace": trace}
        self._refuse_unknown(x, given)
        if isinstance(x, PackedSequence):
            return self._run_packed(x, state, trace)
        states = [None] * (len(self._call.names(self._layer)) - 1)
        if state is not None:
            states = list(state) if isinstance(state, (tuple, list)) else [state]
        weights = self._weights()
        tensors = self._converted([x, *states], weights)
        self._refuse_others(tensors, weights)
        trace = self.tracing if trace is None else trace
        as_backward_how("Layer", self.step_clip, self.cut, trace)
        layer = self._bound(weights)
        call = self._call(
            layer, _own(lengths), _own(resets), self._seed(layer),
            {"step_clip": self.step_clip, "cut": self.cut, "trace": trace}, self._take_trace,
        )  # fmt: skip
        if torch.is_grad_enabled() or forward_ad._current_level >= 0:
            results = LayerNode.apply(call, *tensors, *weights)
        else:
            results = call.forward(tensors, False)[0]
        y, *others = results
        if self._call is not RecurrentCall:
            return (y, *others) if others else y
        return y, tuple(others) if len(others) > 1 else others[0]

    def _run_packed(self, x: PackedSequence, state: Any, trace: bool | str | None) -> Any:
        """In the order of the packed sequence, longest first."""
        sizes, order, back = x.batch_sizes, x.sorted_indices, x.unsorted_indices
        axis = self._layer.batch_first
        padded, lengths = pad_packed_sequence(PackedSequence(x.data, sizes), axis)
        y, final = self(padded, _taken(state, order), lengths=lengths, trace=trace)
        data = pack_padded_sequence(y, lengths, axis).data
        return PackedSequence(data, sizes, order, back), _taken(final, back)

    # --- arguments

    def _refuse_unknown(self, x: Any, given: dict[str, Any]) -> None:
        packed, name = isinstance(x, PackedSequence), type(self._layer).__name__
        if not isinstance(x, Tensor) and not (packed and self._call is RecurrentCall):
            raise TypeError(f"Layer: x is {shown(x)} with {name}, expected a tensor")
        for argument, value in given.items():
            known = argument in self._call.knows
            if value is not None and (not known or (packed and argument in ("lengths", "resets"))):
                kind = "a PackedSequence" if known else name
                raise TypeError(f"Layer: {argument} is {shown(value)} with {kind}, expected None")

    def _converted(self, tensors: list[Any], weights: list[Tensor]) -> list[Any]:
        if self._call.indices:
            return tensors
        own = weights[0].dtype if weights else getattr(torch, self._layer.dtype.name)
        return [t.to(own) if isinstance(t, Tensor) else t for t in tensors]

    def _refuse_others(self, tensors: list[Any], weights: list[Tensor]) -> None:
        if in_transform():
            raise NotImplementedError(
                "Layer: a transform of torch.func runs it, expected eager mode; "
                "bptt.torch.RNN, LSTM and GRU have such transforms"
            )
        floats = [*weights] if self._call.indices else [*weights, *tensors]
        why = reason(floats[0], floats[1:], False)
        if why is not None:
            raise TypeError(f"Layer: {why}, expected tensors of float32 or float64 on the CPU")

    def _seed(self, layer: Any) -> int | None:
        if self._call is not RecurrentCall or not self.training:
            return None
        if not is_random(layer.structure, layer.rates):
            return None
        return int(torch.randint(2**63 - 1, ()))

    # --- memory

    def _weights(self) -> list[Tensor]:
        own = self._parameters
        names = self._layer.parameters
        return [own[n] if n in own else getattr(self, n) for n in names]  # type: ignore[misc]

    def _bound(self, weights: list[Tensor]) -> Any:
        """The layer in the memory of these weights."""
        key = [(w.data_ptr() if w.is_contiguous() else -1, w.dtype, w.shape) for w in weights]
        if key == self._key and all(pointer != -1 for pointer, *_ in key):
            return self._layer
        arrays = [array_of(w) for w in weights]
        mine = self._layer.parameters
        if not all(_same(a, b) for a, b in zip(arrays, mine.values())):
            self._layer = _with_arrays(self._layer, dict(zip(mine, arrays)))
        self._key = key
        return self._layer

    def _take_trace(self, trace: LayerTrace) -> None:
        self.trace = trace


class LayerNode(torch.autograd.Function):
    """(call, *inputs, *weights) -> results."""

    @staticmethod
    def forward(ctx: Any, call: LayerCall, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        count = len(tensors) - len(call.layer.parameters)
        results, tape = call.forward(tensors[:count], True)
        ctx.call, ctx.count = call, count
        ctx.set_materialize_grads(False)
        # The tape refers to them. PyTorch refuses to go on where one has changed, or a weight.
        ctx.save_for_backward(hold(tape), *[results[k] for k in call.shared], *tensors)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
        call = ctx.call
        holder, *saved = ctx.saved_tensors
        tape = held(holder)
        if tape is None:  # hooks of saved tensors have made copies
            tensors = saved[len(call.shared) :]
            tape = call.forward(tensors[: ctx.count], True)[1]
        return None, *call.backward(tape, cotangents, ctx.needs_input_grad[1:])


def _own(value: Any) -> Any:
    """A copy that the caller cannot change."""
    return None if value is None else np.asarray(value).copy()


def _taken(state: Any, indices: Tensor | None) -> Any:
    """The state of these sequences, which are the last axis but one."""
    if state is None or indices is None:
        return state
    if isinstance(state, (tuple, list)):
        return tuple([_taken(part, indices) for part in state])
    return state.index_select(-2, indices)


def _same(a: Any, b: Any) -> bool:
    """Are they the same array?"""
    found: bool = a.__array_interface__ == b.__array_interface__
    return found


def _with_arrays(layer: Any, arrays: dict[str, Any]) -> Any:
    """A layer of the same structure in the memory of other arrays."""
    twin = copy.copy(layer)
    twin._parameters = Parameters(type(layer).__name__, arrays)
    dtype = next(iter(arrays.values())).dtype
    if dtype != layer.dtype:
        twin.__dict__["dtype"] = dtype
        if isinstance(layer, layers.Recurrent):
            twin.__dict__["structure"] = layer.structure._replace(dtype=dtype)
    if isinstance(layer, layers.Recurrent):
        twin._bind()
    return twin
