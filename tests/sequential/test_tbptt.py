# SPDX-License-Identifier: MIT
"""Truncated backpropagation through time: what a chunk's gradient is, and what it is not."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.layers import RecurrentTape
from bptt.sequential.tbptt import Chunk
from support.compare import assert_close, same_bits
from support.problems import flat

LAYERS = {"rnn": bptt.RNN, "lstm": bptt.LSTM, "gru": bptt.GRU}
T, B, I, H = 23, 3, 2, 5
# Equal; a multiple; none, so that windows begin inside chunks; every step; more than there is.
K1_K2 = [(5, 5), (4, 8), (5, 7), (6, 11), (1, 1), (1, 4), (23, 23), (7, 23), (30, 40), (22, 23)]


def make(name: str, dtype: str = "float64", **options: Any) -> tuple[Any, Any, Any, Any]:
    """A layer, and x, initial state and dy for it."""
    layer = LAYERS[name](I, H, **{"num_layers": 2, "seed": 0, "dtype": dtype, **options})
    rng = np.random.default_rng(1)

    def normal(*shape: int) -> Any:
        array = rng.standard_normal(shape).astype(dtype)
        return np.ascontiguousarray(array.swapaxes(0, 1)) if layer.batch_first else array

    states = [rng.standard_normal((layer.num_layers, B, H)).astype(dtype) for _ in range(2)]
    state = tuple(states) if name == "lstm" else states[0]
    return layer, normal(T, B, I), state, normal(T, B, H)


def named(grads: Any) -> dict[str, Any]:
    return {
        **grads.params, "x": grads.x, **{f"s{i}": s for i, s in enumerate(flat(grads.state))}
    }  # fmt: skip


def by_hand(layer: Any, x: Any, state: Any, dy: Any, lengths: Any, c: Chunk) -> Any:
    """One pass over the window from the state before it, in which nothing else is known."""
    lengths = np.full(B, T) if lengths is None else np.asarray(lengths)
    begin, end = c.window.start, c.window.stop
    before = layer(x[:begin], state, np.clip(lengths, 0, begin))[1]
    _, _, tape = layer.forward(x[c.window], before, np.clip(lengths - begin, 0, end - begin))
    d = dy[c.window].copy()
    d[: c.steps.start - begin] = 0
    return layer.backward(tape, d, step_clip=("norm", 0.5))


@pytest.mark.parametrize("lengths", [None, [23, 0, 9]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_one_chunk_is_the_whole_to_the_last_bit(
    isa: str, name: str, dtype: str, lengths: Any
) -> None:
    layer, x, state, dy = make(name, dtype)
    y, final, tape = layer.forward(x, state, lengths)
    for k in (T, T + 1):
        (chunk,) = bptt.tbptt(layer, x, k, k, state, lengths)
        assert (chunk.steps, chunk.window) == (slice(0, T), slice(0, T))
        same_bits({"y": chunk.y}, {"y": y})
        same_bits(dict(enumerate(flat(chunk.state))), dict(enumerate(flat(final))))
        for clip in (None, ("value", 0.1)):
            got = chunk.backward(dy, final, step_clip=clip)
            same_bits(named(got), named(layer.backward(tape, dy, final, step_clip=clip)))


@pytest.mark.parametrize(("k1", "k2"), K1_K2)
@pytest.mark.parametrize("name", LAYERS)
def test_chunks_are_cut_from_the_whole_to_the_last_bit(name: str, k1: int, k2: int) -> None:
    layer, x, state, _ = make(name, "float32")
    lengths, end = [23, 2, 14], 0
    y = layer(x, state, lengths)[0]
    for chunk in bptt.tbptt(layer, x, k1, k2, state, lengths):
        assert chunk.steps == slice(end, min(end + k1, T))
        end = chunk.steps.stop
        assert chunk.window == slice(max(end - k2, 0), end)
        want = layer(x[:end], state, np.minimum(lengths, end))[1]
        same_bits({"y": chunk.y}, {"y": y[chunk.steps]})
        same_bits(dict(enumerate(flat(chunk.state))), dict(enumerate(flat(want))))
        assert not chunk.y.flags.writeable
    assert end == T


@pytest.mark.parametrize("lengths", [None, [23, 0, 9]])
@pytest.mark.parametrize(("k1", "k2"), K1_K2)
@pytest.mark.parametrize("name", LAYERS)
def test_a_gradient_is_that_of_the_window_from_a_constant_state(
    name: str, k1: int, k2: int, lengths: Any
) -> None:
    layer, x, state, dy = make(name)
    for c in bptt.tbptt(layer, x, k1, k2, state, lengths):
        got = c.backward(dy[c.steps], step_clip=("norm", 0.5))
        assert list(got.params) == list(layer.parameters)
        assert_close(named(got), named(by_hand(layer, x, state, dy, lengths, c)), 1e-12)


@pytest.mark.parametrize("k1", [1, 5, 23])
@pytest.mark.parametrize("name", LAYERS)
def test_windows_to_the_start_sum_up_to_the_whole(name: str, k1: int) -> None:
    layer, x, state, dy = make(name)
    lengths = [20, 23, 4]
    _, final, tape = layer.forward(x, state, lengths)
    want = layer.backward(tape, dy, final)
    sums: dict[str, Any] = {}
    for c in bptt.tbptt(layer, x, k1, T, state, lengths):
        g = c.backward(dy[c.steps], final if c.steps.stop == T else None)
        rest = np.zeros((T - c.steps.stop, B, I))
        for key, value in {**named(g), "x": np.concatenate([g.x, rest])}.items():
            sums[key] = sums.get(key, 0) + value
    assert_close(sums, named(want), 1e-12)


def test_batch_first_is_the_same_with_axes_swapped() -> None:
    layer, x, state, dy = make("lstm")
    other = make("lstm", batch_first=True)[0]
    other.load(layer.parameters)
    pairs = [bptt.tbptt(layer, x, 5, 7, state)]
    pairs.append(bptt.tbptt(other, x.swapaxes(0, 1), 5, 7, state))
    for a, b in zip(*pairs):
        ga, gb = a.backward(dy[a.steps]), b.backward(dy.swapaxes(0, 1)[:, b.steps])
        same_bits({"y": a.y}, {"y": b.y.swapaxes(0, 1)})
        same_bits(named(ga), named(gb._replace(x=gb.x.swapaxes(0, 1))))


# --- parameters that change between chunks ----------------------------------------------------


def torch_gradients(layer: Any, x: Any, dy: Any, k1: int, k2: int) -> Iterator[Any]:
    """Of each chunk, with leaves of its own for the weights: their gradients' sum."""
    torch = pytest.importorskip("torch")
    net = getattr(torch.nn, type(layer).__name__)(I, H, layer.num_layers, dtype=torch.float64)
    state, window = None, list[Any]()  # the weights of the newest chunks
    for begin in range(0, len(x), k1):
        weights = {k: torch.tensor(v, requires_grad=True) for k, v in layer.parameters.items()}
        window = [*window, weights][-(k2 // k1) :]
        inputs = (torch.tensor(x[begin : begin + k1]), *([] if state is None else [state]))
        y, state = torch.func.functional_call(net, weights, inputs)
        loss = (y * torch.tensor(dy[begin : begin + k1])).sum()
        leaves = [w for one in window for w in one.values()]
        grads = torch.autograd.grad(loss, leaves, retain_graph=k1 < k2)
        if k1 == k2:
            state = tuple(s.detach() for s in state) if len(flat(state)) > 1 else state.detach()
        yield {k: sum(grads[i :: len(weights)]).numpy() for i, k in enumerate(weights)}


@pytest.mark.parametrize("lr", [0, 0.05])
@pytest.mark.parametrize(("k1", "k2"), [(5, 5), (4, 8), (1, 3)])
@pytest.mark.parametrize("name", LAYERS)
def test_each_step_counts_with_the_weights_it_was_run_with(
    name: str, k1: int, k2: int, lr: float
) -> None:
    layer, x, _, dy = make(name)
    other = make(name)[0]
    optimisers = [bptt.SGD(one.parameters, lr=lr) for one in (layer, other)]
    theirs = torch_gradients(other, x[:20], dy, k1, k2)
    for chunk, want in zip(bptt.tbptt(layer, x[:20], k1, k2), theirs):
        got = chunk.backward(dy[chunk.steps]).params
        assert_close(got, want, 1e-10)
        for optimiser in optimisers:
            optimiser.step(got)


def test_dropout_masks_are_those_of_the_forward_pass() -> None:
    """One draw for each piece, in order; the gradient over two chunks uses both."""
    layer, x, _, dy = make("gru", dropout=0.5)
    other = make("gru", dropout=0.5)[0]
    y1, state, tape1 = other.forward(x[:5])
    y2, _, tape2 = other.forward(x[5:10], state)
    chunks = bptt.tbptt(layer, x[:10], 5, 10)
    assert np.array_equal(next(chunks).y, y1)
    chunk = next(chunks)
    assert np.array_equal(chunk.y, y2)
    g2 = other.backward(tape2, dy[5:10])
    g1 = other.backward(tape1, None, g2.state)
    want = {k: g1.params[k] + g2.params[k] for k in g1.params}
    assert_close(chunk.backward(dy[5:10]).params, want, 1e-14)


# --- memory and refusals --------------------------------------------------------------------


@pytest.mark.parametrize(("k1", "k2"), [(4, 4), (4, 12), (5, 7), (1, 3)])
def test_only_the_tapes_of_the_window_are_kept(k1: int, k2: int) -> None:
    layer, x, state, _ = make("gru")
    seen = []
    for chunk in bptt.tbptt(layer, x, k1, k2, state):
        assert sum(tape.shape[0] for tape in chunk.tapes) == chunk.window.stop - chunk.window.start
        seen.append(chunk.tapes)
    assert all(not tapes for tapes in seen[:-1])
    assert seen[-1]


def test_a_tape_is_freed_before_the_next_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, _, _ = make("gru")
    alive, forward = [], type(layer).forward

    def counted(self: Any, *arguments: Any) -> Any:
        tapes = [o for o in gc.get_objects() if type(o) is RecurrentTape and o.layer is self]
        alive.append(sum(tape.shape[0] for tape in tapes))
        return forward(self, *arguments)

    monkeypatch.setattr(type(layer), "forward", counted)
    for chunk in bptt.tbptt(layer, x, 4, 8):
        chunk.backward(np.ones_like(chunk.y))
    assert alive == [0, 4, 4, 4, 4 + 3, 4, 1 + 4]  # at 0, 4, 8, 12, 15, 16 and 20


@pytest.mark.parametrize("shape", [(0, 2, I), (4, 0, I)])
def test_nothing_in_nothing_out(shape: tuple[int, int, int]) -> None:
    layer = bptt.LSTM(I, H, seed=0)
    state = (np.ones((1, shape[1], H)), np.zeros((1, shape[1], H)))
    chunks = list(bptt.tbptt(layer, np.zeros(shape), 4, 4, state))
    (chunk,) = chunks
    assert chunk.y.shape == (*shape[:2], H)
    assert np.array_equal(chunk.state[0], state[0])
    grads = chunk.backward(chunk.y, chunk.state)
    assert np.array_equal(grads.state[0], state[0])
    assert not any(np.any(g) for g in grads.params.values())


GRU, X = bptt.GRU(I, H, seed=0), np.zeros((T, B, I))
GOOD = {"layer": GRU, "x": X, "k1": 5, "k2": 7}


@pytest.mark.parametrize(
    ("error", "message", "wrong"),
    [
        (TypeError, "tbptt: layer is Linear, expected a recurrent", {"layer": bptt.Linear(2, 3)}),
        (
            ValueError,
            "tbptt: the layer is bidirectional, expected one direction",
            {"layer": bptt.GRU(I, H, bidirectional=True)},
        ),
        (ValueError, "tbptt: k1 is 0, expected 1 or more", {"k1": 0}),
        (TypeError, "tbptt: k1 is 2.0, expected a whole number", {"k1": 2.0}),
        (TypeError, "tbptt: k2 is None, expected a whole number", {"k2": None}),
        (ValueError, "tbptt: k2 is 4, expected k1 or more = 5", {"k2": 4}),
        (
            ValueError,
            "GRU: x has shape (23, 3, 3), expected (T, B, input_size) = (T, B, 2)",
            {"x": np.zeros((T, B, 3))},
        ),
        (ValueError, "GRU: x has shape (23, 2), expected (T, B, ", {"x": np.zeros((T, 2))}),
        (TypeError, "GRU: x has dtype complex128, expected real", {"x": X * 1j}),
        (ValueError, "GRU: state has shape (3, 5), expected (", {"state": np.zeros((B, H))}),
        (
            ValueError,
            "tbptt: lengths has values 0..24, expected 0..T = 0..23",
            {"lengths": [0, 24, 1]},
        ),
        (ValueError, "tbptt: lengths has shape (2,), expected (B,) = (3,)", {"lengths": [0, 2]}),
        (TypeError, "tbptt: lengths has dtype float64, expected int", {"lengths": [0.0, 2, 3]}),
    ],
)
def test_it_refuses_before_any_work(error: Any, message: str, wrong: Any) -> None:
    with pytest.raises(error, match=re.escape(message)):
        bptt.tbptt(**{**GOOD, **wrong})


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (
            "dy has shape (7, 3, 5), expected the shape of y = (5, 3, 5)",
            lambda old, new: new.backward(np.zeros((7, B, H))),
        ),
        ("dy has dtype complex64, expected real", lambda old, new: new.backward(new.y * 1j)),
        ("the next chunk was drawn, expected a call before", lambda old, new: old.backward(old.y)),
    ],
)
def test_a_chunk_refuses(message: str, call: Any) -> None:
    chunks = bptt.tbptt(**GOOD)  # type: ignore[arg-type]
    old, new = next(chunks), next(chunks)
    with pytest.raises((ValueError, TypeError), match=re.escape(f"Chunk.backward: {message}")):
        call(old, new)


def test_a_chunk_without_gradients_and_its_repr() -> None:
    *_, chunk = bptt.tbptt(**GOOD)  # type: ignore[arg-type]
    assert repr(chunk) == "Chunk(steps 20:23, window 16:23)"
    assert not any(np.any(g) for g in chunk.backward().params.values())
