# SPDX-License-Identifier: MIT
"""A `Sequential` has the bits of the same layers called by hand."""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

import numpy as np
import pytest

import bptt
from support.compare import assert_close, same_bits
from support.rows import arrays_of

T, B, V, E, H, C = 7, 3, 11, 4, 5, 6
LENGTHS = [7, 0, 3]
CELLS = [bptt.RNN, bptt.LSTM, bptt.GRU, bptt.MGU, bptt.SLSTM, bptt.LSTM1997]


def bits(a: Any, b: Any) -> None:
    same_bits(arrays_of(a), arrays_of(b))


def ids(batch_first: bool = False) -> Any:
    some = np.random.default_rng(5).integers(0, V, (T, B))
    return some.T.copy() if batch_first else some


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_in_a_row_with_a_head_at_each_step(cell: Any, dtype: str, lengths: Any) -> None:
    layers = (
        bptt.Embedding(V, E, seed=0, dtype=dtype),
        cell(E, H, seed=1, dtype=dtype),
        bptt.Linear(H, C, seed=2, dtype=dtype),
    )
    embedding, rnn, head = copy.deepcopy(layers)
    model, x = bptt.Sequential(*layers), ids()
    target = np.random.default_rng(6).integers(0, C, (T, B))

    a, tape_a = embedding.forward(x)
    b, state, tape_b = rnn.forward(a, None, lengths)
    y, tape_c = head.forward(b)
    value, dy = bptt.cross_entropy(y, target)
    g_c = head.backward(tape_c, dy)
    g_b = rnn.backward(tape_b, g_c.x)
    g_a = embedding.backward(tape_a, g_b.x)
    joined = bptt.optim.join(**{"0": g_a.params, "1": g_b.params, "2": g_c.params})

    got, tape = model.forward(x, lengths=lengths)
    bits([got, tape.state], [y, [state]])
    grads = model.backward(tape, dy)
    bits([grads.params, grads.state, grads.x], [joined, [g_b.state], None])
    assert list(grads.params) == list(model.parameters)
    bits(model.backward(tape, dy, grads=["params"]).params, joined)
    bits(model(x, lengths=lengths), head(rnn(embedding(x), None, lengths)[0]))
    loss = (lambda y, t, lengths: bptt.cross_entropy(y, t)) if lengths else bptt.cross_entropy
    bits(model.loss_and_grads(x, target, loss, lengths=lengths), (value, joined))


@pytest.mark.parametrize("pool", [bptt.Last, bptt.MeanPool, bptt.Attention])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_two_layers_of_two_directions_with_masks_and_a_pool(
    pool: Any, batch_first: bool, lengths: Any
) -> None:
    options = {"bidirectional": True, "batch_first": batch_first, "learn_state": True}
    layers = (
        bptt.LSTM(E, H, 2, dropout=0.3, zoneout=0.1, recurrent_dropout=0.2, seed=1, **options),
        bptt.Dropout(0.4, seed=2),
        bptt.GRU(2 * H, H, seed=3, **options),
        bptt.LayerNorm(2 * H),
        pool(2 * H, seed=4) if pool is bptt.Attention else pool(),
        bptt.Linear(2 * H, C, seed=5),
    )
    model = bptt.Sequential(*layers)
    lstm, dropout, gru, norm, pooled, head = copy.deepcopy(layers)
    rng = np.random.default_rng(7)
    x = rng.standard_normal((B, T, E) if batch_first else (T, B, E)).astype("float32")
    dy = rng.standard_normal((B, C)).astype("float32")
    resets = rng.random(x.shape[:2]) < 0.2

    def turned(array: Any) -> Any:
        return array.swapaxes(0, 1) if batch_first else array

    for _ in range(2):  # the second call has the second masks
        a, s_a, t_a = lstm.forward(x, None, lengths, resets)
        b, t_b = dropout.forward(a)
        c, s_c, t_c = gru.forward(b, None, lengths, resets)
        d, t_d = norm.forward(c)
        if pool is bptt.Attention:
            e, _, t_e = pooled.forward(turned(d), lengths=lengths)
        elif pool is bptt.Last:
            e, t_e = pooled.forward(d, lengths, batch_first=batch_first, bidirectional=True)
        else:
            e, t_e = pooled.forward(d, lengths, batch_first=batch_first)
        y, t_f = head.forward(e)
        g_f = head.backward(t_f, dy)
        g_e = pooled.backward(t_e, g_f.x)
        g_d = norm.backward(t_d, turned(g_e.x) if pool is bptt.Attention else g_e.x)
        g_c = gru.backward(t_c, g_d.x, s_c)
        g_b = dropout.backward(t_b, g_c.x)
        g_a = lstm.backward(t_a, g_b.x)
        every = [g_a, g_b, g_c, g_d, g_e, g_f]
        joined = bptt.optim.join(**{str(k): g.params for k, g in enumerate(every)})

        got, tape = model.forward(x, None, lengths, resets)
        bits([got, tape.state], [y, [s_a, s_c]])
        grads = model.backward(tape, dy, [None, s_c])
        bits([grads.params, grads.state, grads.x], [joined, [g_a.state, g_c.state], g_a.x])


def test_copies_pickles_and_state_dicts_repeat_the_original() -> None:
    def made() -> Any:
        return bptt.Sequential(
            bptt.GRU(E, H, 2, dropout=0.5, seed=0), bptt.Dropout(0.5, seed=1), bptt.Last()
        )

    model, x = made(), np.ones((T, B, E), "float32")
    model.forward(x)
    other = made()
    other.parameters["0.weight_hh_l0"][...] = 0
    other.load_state_dict(model.state_dict())
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), copy.copy(model), other]
    y, tape = model.forward(x)
    for twin in twins:
        again, its_tape = twin.forward(x)
        bits([again, tape.state], [y, its_tape.state])
    assert twins[2].parameters["0.weight_hh_l0"] is model.parameters["0.weight_hh_l0"]
    assert twins[1].parameters["0.weight_hh_l0"] is twins[1].layers[0].parameters["weight_hh_l0"]


def test_a_failed_call_counts_in_no_layer() -> None:
    model = bptt.Sequential(bptt.Dropout(0.5, seed=0), bptt.GRU(E, H, seed=1))
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"^Sequential: layer 1, GRU: x has shape"):
        model.forward(np.ones((T, B, E + 1)))
    bits(model.state_dict(), before)


def test_an_optimiser_on_the_model_trains_its_layers() -> None:
    head = bptt.Linear(H, C, seed=1)
    model = bptt.Sequential(bptt.GRU(E, H, seed=0), bptt.Last(), head)
    adam, x, losses = bptt.Adam(model.parameters, lr=0.05), np.ones((T, B, E)), []
    for _ in range(30):
        value, grads = model.loss_and_grads(x, [0, 1, 1], bptt.cross_entropy)
        adam.step(grads)
        losses.append(value)
    assert losses[-1] < 0.5 * losses[0]
    assert model.parameters["2.weight"] is head.parameters["weight"]


def test_names_are_those_of_pytorchs_sequential() -> None:
    torch = pytest.importorskip("torch")
    layers = {"Embedding": (V, E), "LSTM": (E, H, 2), "Dropout": (0.2,), "LayerNorm": (H,),
              "GRU": (H, E), "RNN": (E, H), "Linear": (H, C)}  # fmt: skip
    theirs = torch.nn.Sequential(*(getattr(torch.nn, n)(*sizes) for n, sizes in layers.items()))
    model = bptt.Sequential(*(getattr(bptt, name)(*sizes) for name, sizes in layers.items()))
    arrays = theirs.state_dict()
    assert list(model.parameters) == list(arrays)
    assert model.state_dict().keys() - arrays.keys() == {"2.masks"}
    model.load(arrays)
    bits(dict(model.parameters), {name: value.numpy() for name, value in arrays.items()})


LOSSES = {
    "mse": bptt.mse,
    "cross_entropy": bptt.cross_entropy,
    "binary_cross_entropy": bptt.binary_cross_entropy,
    "quantile_loss": functools.partial(bptt.quantile_loss, quantiles=np.linspace(0.1, 0.9, C)),
}


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_leaves_out_the_padding(name: str, batch_first: bool) -> None:
    model = bptt.Sequential(
        bptt.Embedding(V, E, seed=0, dtype="float64"),
        bptt.GRU(E, H, seed=1, batch_first=batch_first, dtype="float64"),
        bptt.Linear(H, C, seed=2, dtype="float64"),
    )
    rng, x = np.random.default_rng(8), ids(batch_first)
    target = {"mse": rng.random((*x.shape, C)), "cross_entropy": rng.integers(0, C, x.shape),
              "binary_cross_entropy": rng.integers(0, 2, (*x.shape, C)),
              "quantile_loss": rng.random(x.shape)}[name]  # fmt: skip
    value, grads = model.loss_and_grads(x, target, LOSSES[name], lengths=LENGTHS)
    y, tape = model.forward(x, None, LENGTHS)
    inside = np.arange(T)[:, None] < LENGTHS
    inside = inside.T if batch_first else inside
    want, rows = LOSSES[name](y[inside], target[inside])  # the steps alone, one after the other
    dy = np.zeros_like(y)
    dy[inside] = rows
    assert value == pytest.approx(want, rel=1e-13)
    assert_close(grads, model.backward(tape, dy).params, 1e-12)
