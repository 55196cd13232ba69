# SPDX-License-Identifier: MIT
"""One call of a layer of bptt, forward and backward, on tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .._types import Array
from ..layers import Attention, Embedding, Linear, Recurrent
from ..trace.trace import LayerTrace
from .layout import writable


@dataclass
class LayerCall:
    """A call of a layer with one input and one result; others are its subclasses.

    Attributes
    ----------
    layer : Layer
        The layer of bptt; its parameters share memory with the module's.
    seed : int or None
        The seed of the random masks; None if nothing is random.
    how : dict
        The options of the layer's `backward`.
    on_trace : callable
        Called with the trace, if there is one.
    """

    layer: Any
    lengths: Array | None
    resets: Array | None
    seed: int | None
    how: dict[str, Any]
    on_trace: Callable[[LayerTrace], None]

    knows: ClassVar[tuple[str, ...]] = ()  # the optional arguments of the module's call
    indices: ClassVar[bool] = False  # are the input?

    @staticmethod
    def names(layer: Any) -> tuple[str, ...]:
        """The names of the gradients of the inputs."""
        return ("x",)

    @property
    def shared(self) -> tuple[int, ...]:
        """The results that the tape refers to."""
        return ()

    def forward(self, inputs: Sequence[Tensor | None], keep_tape: bool) -> tuple[list[Any], Any]:
        """The results as tensors, and the tape."""
        results, tape = self._forward([_array(t) for t in inputs], keep_tape)
        return [torch.from_numpy(writable(r)) for r in results], tape

    def backward(
        self, tape: Any, cotangents: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> list[Tensor | None]:
        """The gradients of the inputs and the parameters, None where `needs` has False."""
        if all(d is None for d in cotangents):
            return [None] * len(needs)
        names = (*self.names(self.layer), *self.layer.parameters)
        wanted = {name for name, need in zip(names, needs) if need}
        found = self._backward(tape, [_array(d) for d in cotangents], wanted)
        found = [d if need else None for d, need in zip(found, needs)]
        return [None if d is None else torch.from_numpy(writable(d)) for d in found]

    def _forward(self, inputs: list[Any], keep_tape: bool) -> tuple[list[Array], Any]:
        y, tape = self.layer.forward(inputs[0])
        return [y], tape

    def _backward(self, tape: Any, d: list[Any], wanted: set[str]) -> list[Any]:
        grads = self.layer.backward(tape, d[0], grads=wanted)
        return [grads.x, *map(grads.params.get, self.layer.parameters)]


class LinearCall(LayerCall):
    @property
    def shared(self) -> tuple[int, ...]:
        return () if self.layer.activation == "identity" else (0,)


class EmbeddingCall(LayerCall):
    indices = True


class AttentionCall(LayerCall):
    knows = "state", "lengths"

    @staticmethod
    def names(layer: Any) -> tuple[str, ...]:
        return "x", "query"

    @property
    def shared(self) -> tuple[int, ...]:
        return (1,)

    def _forward(self, inputs: list[Any], keep_tape: bool) -> tuple[list[Array], Any]:
        *results, tape = self.layer.forward(*inputs, self.lengths)
        return results, tape

    def _backward(self, tape: Any, d: list[Any], wanted: set[str]) -> list[Any]:
        grads = self.layer.backward(tape, *d, grads=wanted)
        return [grads.x, grads.query, *map(grads.params.get, self.layer.parameters)]


class RecurrentCall(LayerCall):
    knows = "state", "lengths", "resets", "trace"

    @staticmethod
    def names(layer: Any) -> tuple[str, ...]:
        return "x", *["state"] * layer.structure.states

    @property
    def shared(self) -> tuple[int, ...]:
        s = self.layer.structure
        return (0,) if s.directions == 1 and not s.adds_input(s.num_layers - 1) else ()

    def _forward(self, inputs: list[Any], keep_tape: bool) -> tuple[list[Array], Any]:
        x, *parts = inputs
        state = None if all(p is None for p in parts) else _one_or_tuple(parts)
        rng = None if self.seed is None else np.random.default_rng(self.seed)
        y, final, tape = self.layer._run(x, state, self.lengths, self.resets, keep_tape, rng)
        return [y, *(final if isinstance(final, tuple) else [final])], tape

    def _backward(self, tape: Any, d: list[Any], wanted: set[str]) -> list[Any]:
        dy, *parts = d
        dstate = None if all(p is None for p in parts) else _one_or_tuple(parts)
        grads = self.layer.backward(tape, dy, dstate, **self.how, grads=wanted)
        if grads.trace is not None:
            self.on_trace(grads.trace)
        initial = grads.state
        if not isinstance(initial, tuple):
            initial = (initial,) * len(parts)
        return [grads.x, *initial, *map(grads.params.get, self.layer.parameters)]


CALLS: dict[type, type[LayerCall]] = {
    Recurrent: RecurrentCall, Attention: AttentionCall, Linear: LinearCall,
    Embedding: EmbeddingCall,
}  # fmt: skip


def _array(tensor: Tensor | None) -> Array | None:
    return None if tensor is None else tensor.detach().numpy()


def _one_or_tuple(parts: list[Any]) -> Any:
    return tuple(parts) if len(parts) > 1 else parts[0]
