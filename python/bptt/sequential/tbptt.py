# SPDX-License-Identifier: MIT
"""Truncated backpropagation through time: long sequences in chunks, gradients over a window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._types import Array, State, StepClip, Wanted
from .._validate import as_array, as_count, as_float, as_indices, as_lengths_within, check_shape
from ..layers.base import LayerGrads
from ..layers.embedding import Embedding
from ..layers.recurrent import Recurrent
from ..layers.sequences import as_resets, split_state, time_major
from .model import Sequential
from .places import titled

__all__ = ["Chunk", "tbptt"]


class Chunk(NamedTuple):
    """The newest k1 steps of `tbptt`, and the way back over k2 steps.

    Attributes
    ----------
    steps : slice
        The newest steps in time, at most k1.
    window : slice
        The steps in time that the gradient reaches, at most k2; the last of them are `steps`.
    y : ndarray, shape (k1, B, H), or (B, k1, H) with `batch_first`
        The output of the layer or model at `steps`, read-only.
    state : ndarray or tuple of ndarray; for a `Sequential` a list of them
        The state after `steps`: the next chunk starts from it.
    tapes : list of RecurrentTape or SequentialTape
        The tapes of the pieces of `window`, oldest first; emptied when the next chunk is drawn.
    """

    steps: slice
    window: slice
    y: Array
    state: State
    tapes: list[Any]

    def __repr__(self) -> str:
        steps, window = (f"{s.start}:{s.stop}" for s in (self.steps, self.window))
        return f"Chunk(steps {steps}, window {window})"

    def backward(
        self,
        dy: ArrayLike | None = None,
        dstate: State = None,
        *,
        step_clip: StepClip | None = None,
        grads: Wanted = None,
    ) -> LayerGrads:
        """Backpropagate from `steps` through `window`.

        The result is the exact gradient of a loss of `y` and `state` with the state before `window`
        as a constant. If parameters have changed since, each step counts with the parameters that
        it was run with.

        Parameters
        ----------
        dy : array_like, shape of `y`, optional
            Gradient of the loss with respect to `y`; zeros if omitted. Padding is not read.
        dstate : array_like, shape of `state`, optional
            Gradient of the loss with respect to `state`; zeros if omitted. For `LSTM` a tuple
            (dh, dc), for a `Sequential` a list.
        step_clip : (kind, bound) or (kind, bound, target), optional
            As in the layer's `backward`.
        grads : collection of str, optional
            The gradients to compute, as in the layer's `backward`.

        Returns
        -------
        LayerGrads
            ``params``; ``x`` for all steps of `window`; ``state`` for the state before `window`.

        Raises
        ------
        ValueError
            If the next chunk was drawn (which frees the tapes of this one), a shape is wrong, or
            `x` has changed since and the change is seen (see `lstm_forward`).
        TypeError
            If a gradient does not hold real numbers.
        """
        caller = "Chunk.backward"
        if not self.tapes:
            raise ValueError(f"{caller}: the next chunk was drawn, expected a call before that")
        layer, end = self.tapes[-1].layer, self.steps.stop - self.steps.start
        if dy is not None:
            dy = as_float(caller, "dy", dy, layer.dtype)
            check_shape(caller, "dy", dy, "the shape of y", self.y.shape)
        wanted = layer._wanted(grads, ("x", "state"))
        params: dict[str, Array] = {}
        dxs = []
        for tape in reversed(self.tapes):
            begin = end - tape.shape[0]
            # A piece ends where `steps` begin: each piece has all of its dy or none.
            d = None if dy is None or begin < 0 else _cut(layer, dy, slice(begin, end))
            some = wanted if tape is self.tapes[0] else wanted | {"state"}
            g = layer.backward(tape, d, dstate, step_clip=step_clip, grads=some)
            params = {k: params[k] + v for k, v in g.params.items()} if params else g.params
            dxs.append(g.x)
            end, dstate = begin, g.state
        dx = None if dxs[0] is None else _join(layer, dxs[::-1])  # ids have no gradient
        return LayerGrads(params, dx, dstate)


def _cut(layer: Recurrent | Sequential, array: Array, steps: slice) -> Array:
    return array[:, steps] if layer.batch_first else array[steps]


def _join(layer: Recurrent | Sequential, pieces: list[Array]) -> Array:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=int(layer.batch_first))


def tbptt(
    layer: Recurrent | Sequential,
    x: ArrayLike,
    k1: int,
    k2: int,
    state: State = None,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
) -> Iterator[Chunk]:
    """Truncated backpropagation through time: every k1 steps, a gradient over the last k2.

    Runs `layer` over `x` in chunks of k1 steps and carries the state from chunk to chunk. No step
    runs twice, and only the tapes of the last k2 steps are kept. The loss of a chunk depends on its
    own outputs; its gradient goes back k2 steps from the end of the chunk and stops there. If k1
    and k2 are T or more, there is one chunk, with the exact gradient to the last bit.

    Parameters
    ----------
    layer : RNN, LSTM, GRU, MGU, SLSTM, LSTM1997 or Sequential
        A layer of one direction, or a model whose recurrent layers have one and whose other layers
        work step by step. Its parameters may change between chunks; see Notes.
    x : array_like, shape (T, B, I), or (B, T, I) with `batch_first`
        Ids (T, B) for a model with an `Embedding` in front, which is trained as well. It must not
        change before the last `backward`, which raises an error if it sees a change.
    k1, k2 : int
        The steps of a chunk and of its gradient, 1 <= k1 <= k2. The last chunk is shorter if k1
        does not divide T.
    state : array_like, shape (num_layers, B, H), optional
        Initial state, zeros if omitted; for `LSTM` a tuple (h, c), for a `Sequential` a list of
        one for each recurrent layer.
    lengths : array_like of int, shape (B,), optional
        The number of steps of each sequence, as in a call of the layer.
    resets : array_like of bool, shape (T, B), or (B, T) with `batch_first`, optional
        True where another sequence begins; as in a call of the layer.

    Yields
    ------
    Chunk
        At least one; with T = 0 an empty chunk. The state of the last chunk is the final state.

    Raises
    ------
    ValueError
        If the layer is bidirectional or reverse (it would need the end of the sequence first) or
        has a skip of more steps than its state holds, k1 or k2 is out of range, or a
        shape disagrees with the layer or with `x`.
    TypeError
        If `layer` is not such a layer or model, or an argument does not hold numbers of its kind.

    Notes
    -----
    If parameters change between chunks and k1 < k2, earlier steps of the window do not run again:
    the gradient goes back through the values, weights and dropout masks of their own run. It is the
    exact derivative of the outputs as they were computed, with respect to a shift of the parameters
    that is the same in all steps of the window.

    k2 < k1 is an error: the first k1 - k2 outputs of a chunk would have no gradient.

    References
    ----------
    Williams & Peng (1990), "An efficient gradient-based algorithm for on-line training of recurrent
    network trajectories", Neural Computation 2(4): BPTT(h; h') with h = k2, h' = k1.
    Sutskever (2013), "Training recurrent neural networks", thesis, University of Toronto, 2.8.6.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> gru = bptt.GRU(3, 4, seed=0)
    >>> for chunk in bptt.tbptt(gru, np.ones((25, 2, 3)), k1=10, k2=20):
    ...     grads = chunk.backward(np.ones_like(chunk.y))
    ...     print(chunk, chunk.y.shape, grads.x.shape)
    Chunk(steps 0:10, window 0:10) (10, 2, 4) (10, 2, 3)
    Chunk(steps 10:20, window 0:20) (10, 2, 4) (20, 2, 3)
    Chunk(steps 20:25, window 5:25) (5, 2, 4) (20, 2, 3)
    """
    caller = "tbptt"
    recurrent = _recurrent_layers(caller, layer)
    for name, part in recurrent:
        _check_goes_on(f"{caller}: {name}", part)
    k1 = as_count(caller, "k1", k1, 1)
    k2 = as_count(caller, "k2", k2, 1)
    if k2 < k1:
        raise ValueError(f"{caller}: k2 is {k2}, expected k1 or more = {k1}")
    # Check everything now: a message about a piece would name shapes that the caller never saw.
    steps, T, B = _steps(caller, layer, x)
    states = [state]
    if isinstance(layer, Sequential):
        states = [layer._states("state", state)[k] for k in layer._stateful]
    for (_, part), initial in zip(recurrent, states):
        split_state(part.structure, "state", initial, B)
    lengths = as_lengths_within(caller, lengths, T, B)
    if resets is not None:
        resets = as_resets(recurrent[0][1].structure, resets, T, B).copy()  # chunks are drawn later
        resets = resets.swapaxes(0, 1) if layer.batch_first else resets
    return _chunks(layer, steps, T, k1, k2, state, lengths, resets)


def _recurrent_layers(caller: str, layer: Any) -> list[tuple[str, Recurrent]]:
    """The recurrent layers, and what messages call them."""
    if isinstance(layer, Recurrent):
        return [("the layer", layer)]
    if not isinstance(layer, Sequential):
        raise TypeError(
            f"{caller}: layer is {type(layer).__name__}, expected a recurrent layer or a Sequential"
        )
    for k, place in enumerate(layer._places):
        if place.pools:
            raise ValueError(
                f"{caller}: {titled(k, place.layer)}, removes the time axis, expected layers that "
                "work step by step"
            )
    found = [(f"{titled(k, layer.layers[k])},", layer.layers[k]) for k in layer._stateful]
    if not found:
        raise ValueError(f"{caller}: the model has no recurrent layer, expected at least one")
    return found


def _check_goes_on(name: str, layer: Recurrent) -> None:
    """Raise unless a chunk can begin with the state that another has ended with."""
    if layer.bidirectional:
        raise ValueError(f"{name} is bidirectional, expected one direction")
    if layer.reverse:
        raise ValueError(f"{name} has reverse=True, expected False")
    for dilation in layer.dilations:
        if layer.skip > dilation:
            raise ValueError(
                f"{name} has skip {layer.skip}, expected at most its dilation = "
                f"{dilation}: a state has no steps before these"
            )


def _steps(caller: str, layer: Any, x: ArrayLike) -> tuple[Array, int, int]:
    """The input as the layer takes it, and its T and B."""
    first = layer.layers[0] if isinstance(layer, Sequential) else layer
    if isinstance(first, Recurrent):
        array = time_major(first.structure, "x", x, first.input_size, "input_size")
        return (array.swapaxes(0, 1) if first.batch_first else array), *array.shape[:2]
    array = as_array(caller, "x", x)
    if array.ndim < 2:
        axes = "(B, T)" if layer.batch_first else "(T, B)"
        raise ValueError(f"{caller}: x has shape {array.shape}, expected {axes} or more axes")
    if isinstance(first, Embedding):
        as_indices(caller, "x", array, "0..num_embeddings - 1", first.num_embeddings - 1)
    T, B = array.shape[1::-1] if layer.batch_first else array.shape[:2]
    return array, T, B


def _forward(layer: Any, *call: Any) -> tuple[Array, State, Any]:
    if isinstance(layer, Sequential):
        y, tape = layer.forward(*call)
        return y, tape.state, tape
    return layer.forward(*call)  # type: ignore[no-any-return]


def _chunks(
    layer: Recurrent | Sequential,
    x: Array,
    T: int,
    k1: int,
    k2: int,
    state: State,
    lengths: Array | None,
    resets: Array | None,
) -> Iterator[Chunk]:
    ends = [*range(k1, T, k1), T]
    starts = {end - k2 for end in ends}  # of windows: pieces end there too
    own = [layer.mask_counter] if layer.mask_counter else []
    counters = [c for _, c in layer._counters] if isinstance(layer, Sequential) else own
    begin, first, tapes = 0, 0, list[Any]()
    for end in ends:
        # The caller still has the previous chunk. Free the tapes that only this chunk needs before
        # taking more memory.
        held, tapes = tapes, tapes[:]
        held.clear()
        while first < end - k2:
            first += tapes.pop(0).shape[0]
        ys = list[Array]()
        with ExitStack() as together:
            for counter in counters:
                together.enter_context(counter.all_or_none(ys))
            for a, b in pairwise([begin, *(t for t in range(begin + 1, end) if t in starts), end]):
                inside = None if lengths is None else np.clip(lengths - a, 0, b - a)
                borders = None if resets is None else _cut(layer, resets, slice(a, b))
                piece = _cut(layer, x, slice(a, b))
                y, state, tape = _forward(layer, piece, state, inside, borders)
                ys.append(y)
                tapes.append(tape)
        y = _join(layer, ys)
        y.flags.writeable = False
        yield Chunk(slice(begin, end), slice(first, end), y, state, tapes)
        begin = end
