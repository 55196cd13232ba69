# SPDX-License-Identifier: MIT
"""The initial state as a parameter: a state passed by hand, and its gradient summed by hand."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference

T, B, I, H = 7, 4, 3, 5
LENGTHS = np.array([7, 3, 0, 5])
LAYERS = [bptt.RNN, bptt.LSTM, bptt.GRU, bptt.MGU]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "batch_first": True, "reverse": True},
    {"num_layers": 2, "dilation": 3},
    {"num_layers": 2, "dilation": (1, 2)},
    {"layer_norm": True, "zoneout": 0.2},
]


def make(kind: Any, **options: Any) -> Any:
    """A layer whose learnt states are not zero, and the same layer without them."""
    layer = kind(I, H, learn_state=True, dtype="float64", seed=0, **options)
    plain = kind(I, H, dtype="float64", seed=0, **options)
    rng = np.random.default_rng(1)
    for name, a in layer.parameters.items():
        if name in plain.parameters:
            assert np.array_equal(a, plain.parameters[name])
        else:
            assert not a.any()
            a[...] = rng.standard_normal(a.shape)
    return layer, plain


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def learnt_of(layer: Any) -> list[list[Any]]:
    """The names of each cell's initial state, by hand."""
    states = ("h", "c") if isinstance(layer, bptt.LSTM) else ("h",)
    ends = ("", "_reverse") if layer.bidirectional else ("",)
    return [
        [f"{s}0_l{k}{end}" for s in states] for k in range(layer.num_layers) for end in ends
    ]  # fmt: skip


def by_hand(layer: Any, batch: int) -> Any:
    """The state to pass to the layer without them."""
    names = learnt_of(layer)
    steps = np.repeat(layer.dilations, 1 + layer.bidirectional)
    found = []
    for q in range(len(names[0])):
        rows = [
            np.broadcast_to(layer.parameters[cell[q]], (n, batch, H))
            for n, cell in zip(steps, names)
        ]
        same = len(set(layer.dilations)) == 1 and steps[0] > 1
        found.append(np.stack(rows) if same else np.concatenate(rows))
    return tuple(found) if len(found) > 1 else found[0]


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["equal", "ragged"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_it_is_a_state_passed_by_hand(kind: Any, options: Any, lengths: Any) -> None:
    layer, plain = make(kind, **options)
    shape = (B, T, I) if options.get("batch_first") else (T, B, I)
    x = np.random.default_rng(2).standard_normal(shape)
    state = by_hand(layer, B)
    y, last, tape = layer.forward(x, lengths=lengths)
    z, final, other = plain.forward(x, state, lengths)
    assert np.array_equal(y, z)
    dy = np.random.default_rng(3).standard_normal(y.shape)
    got, want = layer.backward(tape, dy), plain.backward(other, dy)
    for a, b in zip((*parts(last), *parts(got.state)), (*parts(final), *parts(want.state))):
        assert np.array_equal(a, b)
    steps = np.repeat(layer.dilations, 1 + layer.bidirectional)
    for q, d in enumerate(parts(want.state)):
        rows = np.split(d.reshape(-1, B, H), np.cumsum(steps)[:-1])
        for cell, part in zip(learnt_of(layer), rows):
            np.testing.assert_allclose(got.params[cell[q]], part.sum((0, 1)), 1e-12, 1e-13)
    for name, d in want.params.items():
        assert np.array_equal(got.params[name], d)
    assert np.array_equal(layer(x, lengths=lengths)[0], plain(x, state, lengths)[0])
    assert np.array_equal(
        layer.prepare()(x, lengths=lengths)[0], plain(x, state, lengths)[0]
    )  # fmt: skip
    # A state replaces it.
    y, _, tape = layer.forward(x, tuple(2 * s for s in parts(state)) if len(parts(state)) > 1
                               else 2 * state)  # fmt: skip
    grads = layer.backward(tape, np.ones_like(y))
    assert not any(grads.params[name].any() for cell in learnt_of(layer) for name in cell)
    assert all(a.shape == b.shape for a, b in zip(parts(grads.state), parts(state)))


@pytest.mark.parametrize("given", [False, True], ids=["learnt", "given"])
@pytest.mark.parametrize("options", [OPTIONS[k] for k in (0, 1, 2, 5)], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_reset_starts_from_it_as_a_sequence_does(kind: Any, options: Any, given: bool) -> None:
    options = {k: v for k, v in options.items() if k not in ("zoneout", "num_layers")}
    layer, plain = make(kind, **options)
    first = bool(options.get("batch_first"))
    x = np.random.default_rng(2).standard_normal((8, 1, I))
    resets = np.zeros((8, 1), bool)
    resets[[3, 6]] = True

    def turn(a: Any) -> Any:
        return a.swapaxes(0, 1) if first else a

    initial = by_hand(layer, 1)
    own = tuple(s + 1.0 for s in parts(initial))
    own = own if len(own) > 1 else own[0]
    y, _, tape = layer.forward(turn(x), own if given else None, resets=turn(resets))
    grads = layer.backward(tape, np.ones_like(y))
    pieces, total, dstates = [], {}, []
    for k, (a, b) in enumerate(((0, 3), (3, 6), (6, 8))):
        # The piece that begins with the given state: the first, or the last where it is read back.
        start = initial
        if given:
            rows = [
                np.stack([
                    (o if k == (2 if reverse else 0) else i)
                    for i, o, reverse in zip(
                        initial_q, own_q,
                        [False, True] if layer.bidirectional else [layer.reverse],
                    )
                ])
                for initial_q, own_q in zip(parts(initial), parts(own))
            ]  # fmt: skip
            start = tuple(rows) if len(rows) > 1 else rows[0]
        z, _, piece = plain.forward(turn(x[a:b]), start)
        pieces.append(turn(z))
        g = plain.backward(piece, np.ones_like(z))
        dstates.append(parts(g.state))
        for name, d in g.params.items():
            total[name] = total.get(name, 0) + d
    np.testing.assert_allclose(turn(y), np.concatenate(pieces), 1e-12, 1e-13)
    for name, d in total.items():
        np.testing.assert_allclose(grads.params[name], d, 1e-10, 1e-12)
    for k, cell in enumerate(learnt_of(layer)):
        reverse = layer.reverse or k == 1
        for q, name in enumerate(cell):
            rows = [d[q][k].sum(0) for d in dstates]
            passed = rows.pop(2 if reverse else 0)
            want = sum(rows) + (0 if given else passed)
            np.testing.assert_allclose(grads.params[name], want, 1e-10, 1e-12)
            np.testing.assert_allclose(parts(grads.state)[q][k, 0], passed, 1e-10, 1e-12)
    same = layer.prepare()(turn(x), own if given else None, resets=turn(resets))[0]
    assert np.array_equal(same, layer(turn(x), own if given else None, resets=turn(resets))[0])


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "mgu", "slstm"])
@pytest.mark.parametrize("more", [{}, {"lengths": LENGTHS, "reverse": True}, {"skip": 2}], ids=str)
def test_functions_take_the_state_after_a_reset_as_a_row_more(cell: str, more: Any) -> None:
    from support.problems import Case, flat, problem, results, state_of

    p = problem(Case("", cell, {"resets": True}), (T, B, I, H)).given(**more)
    rng = np.random.default_rng(1)
    rows = [np.concatenate([s, rng.random((1, s.shape[1])) + 0.5]) for s in flat(p.arrays["state"])]
    p = p._replace(arrays={**p.arrays, "state": state_of(rows)})
    for how in ({}, {"cut": 3}, {"step_clip": ("norm", 0.3)}):
        got, want = results(bptt, p, **how), results(reference, p, **how)
        assert got.keys() == want.keys()
        for name, value in want.items():
            atol = 1e-12 * np.abs(value).max()
            np.testing.assert_allclose(got[name], value, 0, atol, err_msg=name)
        for how_2 in ({"threads": 3}, {"checkpoint": "sqrt"}):
            again = results(bptt, p, **how, **how_2)
            assert all(np.array_equal(again[name], a) for name, a in got.items())
    wrong = [s[:-2] for s in rows]
    with pytest.raises(ValueError, match=r"state(\[0\])? has shape \(3, 5\), expected \(B, H\)"):
        results(bptt, p._replace(arrays={**p.arrays, "state": state_of(wrong)}))


def test_the_gradient_is_that_of_differences() -> None:
    layer, _ = make(bptt.LSTM, num_layers=2)
    x = np.random.default_rng(0).standard_normal((T, B, I))
    resets = np.random.default_rng(1).random((T, B)) < 0.3
    y, _, tape = layer.forward(x, resets=resets)
    grads = layer.backward(tape, y).params
    for name in [name for cell in learnt_of(layer) for name in cell]:
        a, found = layer.parameters[name], np.empty(H)
        for i in range(H):
            ends = []
            for step in (1e-5, -1e-5):
                a[i] += step
                ends.append(0.5 * (layer(x, resets=resets)[0] ** 2).sum())
                a[i] -= step
            found[i] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(grads[name], found, 1e-6, 1e-7)


def test_streams_start_and_reset_with_it() -> None:
    layer, _ = make(bptt.LSTM, num_layers=2)
    x = np.random.default_rng(0).standard_normal((T, 3, I))
    stream = layer.stream(3)
    assert np.array_equal(stream.process(x), layer(x)[0])
    stream.reset([True, False, True])
    again = stream.process(x)
    assert np.array_equal(again[:, [0, 2]], layer(x)[0][:, [0, 2]])
    assert not np.array_equal(again[:, 1], layer(x)[0][:, 1])
    assert np.array_equal(
        layer.stream(3, by_hand(layer, 3)).process(x), layer(x)[0]
    )  # fmt: skip


def test_chunks_of_tbptt() -> None:
    layer, _ = make(bptt.GRU)
    x = np.random.default_rng(0).standard_normal((T, B, I))
    y, _, tape = layer.forward(x)
    whole = layer.backward(tape, np.ones_like(y))
    total = np.zeros(H)
    for chunk in bptt.tbptt(layer, x, 3, T):
        total += chunk.backward(np.ones_like(chunk.y)).params["h0_l0"]
    np.testing.assert_allclose(total, whole.params["h0_l0"], 1e-10)


def test_second_derivatives_and_regularisers() -> None:
    layer, plain = make(bptt.GRU)
    x = np.random.default_rng(0).standard_normal((T, B, I))
    v = np.random.default_rng(1).standard_normal(H)
    _, along = bptt.layer_hvp(layer, x, {"h0_l0": v}, dy=np.ones((T, B, H)))
    state = np.broadcast_to(layer.parameters["h0_l0"], (1, B, H))
    tangent = {"state": np.broadcast_to(v, (1, B, H))}
    _, want = bptt.layer_hvp(plain, x, tangent, state=state, dy=np.ones((T, B, H)))
    np.testing.assert_allclose(along.params["h0_l0"], want.state.sum((0, 1)), 1e-10)
    for name, d in want.params.items():
        np.testing.assert_allclose(along.params[name], d, 1e-10, 1e-12)
    got = bptt.regularise.flossing(layer.forward(x)[2], 2, rng=0)
    by_state = bptt.regularise.flossing(plain.forward(x, state)[2], 2, rng=0)
    np.testing.assert_allclose(got.params["h0_l0"], by_state.state.sum((0, 1)), 1e-9)
    layer, plain = make(bptt.RNN)
    state = np.broadcast_to(layer.parameters["h0_l0"], (1, B, H))
    dy = np.ones((T, B, H))
    one = bptt.regularise.omega(layer.forward(x)[2], dy)
    two = bptt.regularise.omega(plain.forward(x, state)[2], dy)
    np.testing.assert_allclose(one.params["h0_l0"], two.state.sum((0, 1)), 1e-9)


def test_frozen_and_chosen_gradients() -> None:
    layer, _ = make(bptt.LSTM, num_layers=2)
    x = np.ones((T, B, I))
    y, _, tape = layer.forward(x)
    whole = layer.backward(tape, y).params
    some = layer.backward(tape, y, grads=["c0_l1"])
    layer.frozen = [name for name in layer.parameters if name not in ("h0_l0", "c0_l1")]
    learn = layer.backward(tape, y)
    assert set(learn.params) == {"h0_l0", "c0_l1"}
    for name, d in learn.params.items():
        assert np.array_equal(d, whole[name])
    assert np.array_equal(some.params["c0_l1"], whole["c0_l1"])
    assert some.state is None
    assert some.x is None


def test_it_learns(tmp_path: Path) -> None:
    layer = bptt.GRU(1, 4, learn_state=True, seed=0)
    target = np.array([0.5, -0.5, 0.2, 0.9], np.float32)
    x = np.zeros((1, 3, 1), np.float32)
    layer.frozen = [name for name in layer.parameters if name != "h0_l0"]
    adam = bptt.Adam(layer.parameters, 0.05)
    for _ in range(300):
        y, _, tape = layer.forward(x)
        adam.step(layer.backward(tape, y - target).params)
    assert np.abs(layer(x)[0] - target).max() < 1e-3
    twins = [bptt.GRU(1, 4, learn_state=True, seed=1) for _ in range(2)]
    twins[0].load_state_dict(layer.state_dict())
    bptt.save(tmp_path / "layer.safetensors", layer.parameters)
    twins[1].load(bptt.load(tmp_path / "layer.safetensors"))
    twins += [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    twins += [bptt.flow.layer_of(layer.parameters)]
    for twin in twins:
        assert twin.learn_state
        assert np.array_equal(twin(x)[0], layer(x)[0])
    with pytest.raises(ValueError, match="missing names \\['h0_l0'\\]"):
        layer.load(bptt.GRU(1, 4).parameters)


def test_prepared_layers_keep_the_state_until_refresh() -> None:
    layer, _ = make(bptt.GRU)
    x = np.ones((T, B, I))
    prepared, before = layer.prepare(), layer(x)[0]
    layer.parameters["h0_l0"] = np.zeros(H)
    assert prepared.stale
    assert np.array_equal(prepared(x)[0], before)
    prepared.refresh()
    assert np.array_equal(prepared(x)[0], layer(x)[0])


def test_projected() -> None:
    layer = bptt.LSTM(I, H, proj_size=2, learn_state=True, dtype="float64", seed=0)
    assert layer.parameters["h0_l0"].shape == (2,)
    assert layer.parameters["c0_l0"].shape == (H,)
    layer.parameters["h0_l0"] = [1, -1]
    x = np.ones((T, B, I))
    state = np.broadcast_to(layer.parameters["h0_l0"], (1, B, 2)), np.zeros((1, B, H))
    y, _, tape = layer.forward(x)
    assert np.array_equal(y, layer(x, state)[0])
    g = layer.backward(tape, y)
    np.testing.assert_allclose(g.params["h0_l0"], g.state[0].sum((0, 1)), 1e-12)
