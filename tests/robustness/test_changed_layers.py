# SPDX-License-Identifier: MIT
"""Arrays that change between the two calls: of layers, chunks and diagnostics, and in C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import functional, reference
from bptt.regularise import omega
from support import toolchain
from support.changed import REFERS, B, H, I, T, arguments, flat, own, refused, same, spoil
from support.embedded import MISMATCH, OK, Prepared
from support.problems import CELLS, OPTIONS, problem

WAYS = ("forward", "backward")


# --- layers


def test_layers_refuse_another_x() -> None:
    lstm = bptt.LSTM(I, H, 2, dropout=0.3, zoneout=0.2, recurrent_dropout=0.4, seed=0)
    x = np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32)
    y, _, tape = lstm.forward(x)
    want = lstm.backward(tape, np.ones_like(y))
    for mask in flat([tape.masks, tape.zoneout, tape.h_masks]):
        with pytest.raises(ValueError, match="read-only"):
            mask[...] = 0
    for p in lstm.parameters.values():
        p += 1
    same(list(lstm.backward(tape, np.ones_like(y)).params.values()), list(want.params.values()))
    x *= 2
    refused(lambda: lstm.backward(tape, np.ones_like(y)), f"lstm_backward: x {REFERS}")


def test_a_layer_has_its_own_lengths() -> None:
    """With residual connections and a trace they are read again."""
    gru = bptt.GRU(H, H, 2, residual=True, bidirectional=False, seed=0)
    x = np.random.default_rng(0).standard_normal((T, B, H)).astype(np.float32)
    lengths = np.array([9, 3, 0, 7])
    y, _, tape = gru.forward(x, lengths=lengths)
    dy = np.ones_like(y)
    want = gru.backward(tape, dy, trace=True)
    lengths[...] = 1
    got = gru.backward(tape, dy, trace=True)
    same(got.x, want.x)
    same(got.trace.cells[1].valid, want.trace.cells[1].valid)
    assert np.array_equal(tape.lengths, [9, 3, 0, 7])


@pytest.mark.parametrize("shape", [(I,), (3, I), (400, I)])
@pytest.mark.parametrize("activation", ["identity", "tanh"])
def test_linear(activation: str, shape: tuple[int, ...]) -> None:
    layer = bptt.Linear(I, H, activation=activation, seed=0)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y, tape = layer.forward(x)
    dy = np.ones_like(y)
    want = layer.backward(tape, dy)
    layer.parameters["weight"] += 1
    got = layer.backward(tape, dy)
    same([*got.params.values(), got.x], [*want.params.values(), want.x])
    x += 1
    refused(lambda: layer.backward(tape, dy), f"Linear: x {REFERS}")
    x -= 1
    if activation == "tanh":
        y, tape = layer.forward(x)
        y.flags.writeable = True
        y += 1
        refused(lambda: layer.backward(tape, dy), f"Linear: y {REFERS}")


def test_linear_has_its_own_of_an_x_that_lies_otherwise() -> None:
    layer, wide = bptt.Linear(I, H, seed=0), np.ones((4, 2 * I), np.float32)
    y, tape = layer.forward(wide[:, ::2])
    wide[...] = 9
    same(layer.backward(tape, np.ones_like(y)).params["weight"], np.full((H, I), 4.0))


def test_embedding_has_its_own_ids() -> None:
    layer = bptt.Embedding(7, 3, seed=0)
    ids = np.array([[1, 5], [1, 0]])
    y, tape = layer.forward(ids)
    want = layer.backward(tape, np.ones_like(y)).params["weight"]
    ids[...] = 6
    same(layer.backward(tape, np.ones_like(y)).params["weight"], want)
    assert want[:, 0].tolist() == [1, 2, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("kind", ["dot", "additive"])
@pytest.mark.parametrize("module", [functional, reference])
def test_attention(module: Any, kind: str, ragged: bool) -> None:
    rng = np.random.default_rng(0)
    forward, backward = (getattr(module, f"{kind}_attention_{way}") for way in WAYS)
    given = {"x": rng.standard_normal((T, B, H)), "query": rng.standard_normal((B, H))}
    if kind == "additive":
        given |= {"w_key": rng.standard_normal((3, H)), "w_score": rng.standard_normal(3)}
        given |= {"w_query": rng.standard_normal((3, H)), "b": rng.standard_normal(3)}
    lengths = np.array([9, 3, 0, 7]) if ragged else np.full(B, T)
    context, _, tape = forward(**given, lengths=lengths)
    want = backward(tape, np.ones_like(context))
    spoil([value for name, value in given.items() if name != "x"])
    lengths[...] = 1
    same(backward(tape, np.ones_like(context)), want)
    given["x"] += 1
    if ragged or module is reference:  # has a copy
        same(backward(tape, np.ones_like(context)), want)
    else:
        where = f"{kind}_attention_backward"
        refused(lambda: backward(tape, np.ones_like(context)), f"{where}: x {REFERS}")


@pytest.mark.parametrize("module", [functional, reference])
def test_weights_of_attention(module: Any) -> None:
    x, query = np.random.default_rng(0).standard_normal((2, T, B, H))
    context, weights, tape = module.dot_attention_forward(x, query[0])
    want = module.dot_attention_backward(tape, np.ones_like(context))
    weights.flags.writeable = True
    weights += 1
    back = lambda: module.dot_attention_backward(tape, np.ones_like(context))  # noqa: E731
    if module is reference:
        same(back(), want)
    else:
        refused(back, f"dot_attention_backward: weights {REFERS}")


# --- what runs when the caller likes, and what runs again


@pytest.mark.parametrize("name", ["lengths", "resets"])
def test_chunks_have_their_own(name: str) -> None:
    gru = bptt.GRU(I, H, seed=0)
    x = np.random.default_rng(0).standard_normal((20, B, I)).astype(np.float32)
    arrays = {"lengths": np.array([20, 3, 0, 11]), "resets": np.arange(80).reshape(20, B) % 7 == 3}

    def chunks(array: Any, between: Callable[[], Any]) -> list[Any]:
        grads = []
        for chunk in bptt.tbptt(gru, x, 4, 8, **{name: array}):
            grads.append(chunk.backward(np.ones_like(chunk.y)).params["weight_hh_l0"])
            between()
        return grads

    array = arrays[name].copy()
    want = chunks(arrays[name], lambda: None)
    same(chunks(array, lambda: spoil(array)), want)


def test_chunks_refuse_another_x() -> None:
    gru = bptt.GRU(I, H, seed=0)
    x = np.random.default_rng(0).standard_normal((20, B, I)).astype(np.float32)
    chunks = bptt.tbptt(gru, x, 4, 8)
    next(chunks)
    x[:4] += 1
    chunk = next(chunks)
    refused(lambda: chunk.backward(np.ones_like(chunk.y)), f"gru_backward: x {REFERS}")


@pytest.mark.parametrize("name", ["lengths", "resets", "h_mask", "zoneout"])
def test_jacobians_see_arguments_as_they_were(name: str) -> None:
    given = arguments("lstm", **own("lstm")[name])
    _, _, tape = bptt.lstm_forward(**given)
    want = bptt.step_jacobians(tape)
    spoil(given[name])
    same(bptt.step_jacobians(tape), want)
    assert bptt.find_nonfinite(tape) is None


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_hh_l0"])
def test_omega_refuses_parameters_that_have_changed(name: str) -> None:
    rnn = bptt.RNN(I, H, seed=0)
    y, _, tape = rnn.forward(np.ones((T, B, I)))
    omega(tape, np.ones_like(y))
    rnn.parameters[name] += 0.01
    refused(
        lambda: omega(tape, np.ones_like(y)),
        "omega: a step gives another state than the tape has: an argument of rnn_forward has "
        "changed since, expected as it was",
    )


# --- in C


@pytest.mark.parametrize("cell", [CELLS[0], *CELLS[-2:]], ids=lambda c: c.cell)
def test_in_c(cell: Any) -> None:
    p = Prepared(toolchain.shared_library(), problem(cell, (4, 3, 5, 7), OPTIONS[0]))
    for name, array in (("x", p.call.x), ("y", p.call.y)):
        before = array.copy()
        array += 1
        p.refused("backward", MISMATCH, rf"{name} has changed since bptt_forward\(\), expected it")
        array[...] = before
        assert p("backward") == OK
    moved = p.call.x.copy()  # at another place, with the same values
    p.x = moved.ctypes.data
    assert p("backward") == OK
