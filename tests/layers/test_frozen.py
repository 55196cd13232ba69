# SPDX-License-Identifier: MIT
"""Layers whose call leaves out gradients, and parameters that do not learn."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.optim import join, split
from bptt.regularise import flossing, omega

RNG = np.random.default_rng(0)
RECURRENT: dict[str, Any] = {
    "rnn": lambda: bptt.RNN(5, 4, 3, dropout=0.3, seed=0),
    "lstm": lambda: bptt.LSTM(5, 4, 2, bidirectional=True, residual=True, batch_first=True, seed=0),
    "projected": lambda: bptt.LSTM(5, 4, 2, proj_size=2, peepholes=True, layer_norm=True, seed=0),
    "gru": lambda: bptt.GRU(8, 4, 2, bidirectional=True, residual=True, zoneout=0.2, seed=0),
    "slstm": lambda: bptt.SLSTM(5, 4, heads=2, bias=False, seed=0),
    "dilated": lambda: bptt.MGU(5, 4, 2, dilation=[1, 2], seed=0),
}
every_layer = pytest.mark.parametrize("make", RECURRENT.values(), ids=RECURRENT.keys())


def flat(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]


def same(a: Any, b: Any) -> bool:
    return all(p.tobytes() == q.tobytes() for p, q in zip(flat(a), flat(b), strict=True))


def check(some: Any, whole: Any, params: set[str], inputs: set[str]) -> None:
    assert list(some.params) == [name for name in whole.params if name in params]
    assert all(same(d, whole.params[name]) for name, d in some.params.items())
    for name in ("x", "state"):
        found = getattr(some, name)
        assert (found is not None) == (name in inputs)
        assert found is None or same(found, getattr(whole, name))


def run(layer: Any) -> tuple[Any, Any, Any]:
    size = layer.input_size
    y, state, tape = layer.forward(RNG.standard_normal((6, 3, size)).astype("f"))
    return tape, RNG.standard_normal(y.shape).astype("f"), state


@every_layer
def test_the_gradients_that_a_call_names(make: Any) -> None:
    layer = make()
    tape, dy, state = run(layer)
    whole = layer.backward(tape, dy, state)
    names = list(layer.parameters)
    for k in range(40):
        rng = np.random.default_rng(k)
        params = {n for n in names if rng.random() < (0.1, 0.6)[k % 2]}
        inputs = {n for n in ("x", "state") if rng.random() < 0.4}
        some = layer.backward(
            tape, dy, state, grads=params | inputs, trace=(None, True)[k % 3 == 0]
        )
        check(some, whole, params, inputs)
    check(layer.backward(tape, dy, state, grads=["params"]), whole, set(names), set())
    check(layer.backward(tape, dy, state, grads=("params", "x")), whole, set(names), {"x"})
    check(layer.backward(tape, dy, state, grads=()), whole, set(), set())
    assert len(layer.backward(tape, dy, grads=(), trace=True).trace.cells) == len(tape.cells)


@every_layer
def test_frozen_parameters_have_no_gradient(make: Any) -> None:
    layer = make()
    tape, dy, state = run(layer)
    whole = layer.backward(tape, dy, state)
    names = set(layer.parameters)
    assert layer.frozen == frozenset()
    for name in names:
        layer.frozen = [name]
        assert layer.frozen == {name}
        check(layer.backward(tape, dy, state), whole, names - {name}, {"x", "state"})
        check(layer.backward(tape, dy, state, grads=["params"]), whole, names - {name}, set())
        check(layer.backward(tape, dy, state, grads=[name]), whole, {name}, set())
    layer.frozen = layer.parameters
    assert layer.frozen == names
    check(layer.backward(tape, dy, state), whole, set(), {"x", "state"})
    layer.frozen = ()
    check(layer.backward(tape, dy, state), whole, names, {"x", "state"})


def test_of_the_other_layers() -> None:
    x = RNG.standard_normal((4, 3)).astype("f")
    linear = bptt.Linear(3, 2, activation="tanh", seed=0)
    y, tape = linear.forward(x)
    whole = linear.backward(tape, y)
    for params in (set(), {"weight"}, {"bias"}, {"weight", "bias"}):
        for inputs in (set(), {"x"}):
            check(linear.backward(tape, y, grads=params | inputs), whole, params, inputs)
            linear.frozen = {"weight", "bias"} - params
            check(linear.backward(tape, y), whole, params, {"x"})
            linear.frozen = ()
    embedding = bptt.Embedding(5, 2, seed=0)
    y, tape = embedding.forward([1, 1, 4])
    assert embedding.backward(tape, y, grads=()) == ({}, None, None, None)
    embedding.frozen = ["weight"]
    assert embedding.backward(tape, y).params == {}


@pytest.mark.parametrize("kind", ["additive", "dot"])
@pytest.mark.parametrize("with_query", [False, True])
def test_of_attention(kind: str, with_query: bool) -> None:
    if kind == "dot" and not with_query:
        return
    layer = bptt.Attention(4, kind, seed=0)
    x, query = RNG.standard_normal((5, 3, 4)), RNG.standard_normal((3, 4))
    context, weights, tape = layer.forward(x, query if with_query else None, [5, 0, 2])
    whole = layer.backward(tape, context, weights)
    known = ["x", "query", *layer.parameters]
    for k in range(2 ** len(known)):
        names = {name for i, name in enumerate(known) if k >> i & 1}
        some = layer.backward(tape, context, weights, grads=names)
        assert list(some.params) == [name for name in layer.parameters if name in names]
        assert all(same(d, whole.params[name]) for name, d in some.params.items())
        for name in ("x", "query"):
            found, want = getattr(some, name), getattr(whole, name)
            assert (found is None) == (name not in names or want is None)
            assert found is None or same(found, want)


def test_of_tbptt() -> None:
    gru = bptt.GRU(3, 4, 2, seed=0)
    x = RNG.standard_normal((25, 2, 3)).astype("f")
    for chunk in bptt.tbptt(gru, x, k1=5, k2=13):
        dy, dstate = np.ones_like(chunk.y), np.ones_like(chunk.state)
        whole = chunk.backward(dy, dstate)
        for params in ({"weight_hh_l0", "bias_ih_l1"}, {"weight_ih_l1"}, set()):
            for inputs in (set(), {"x"}, {"state"}):
                check(chunk.backward(dy, dstate, grads=params | inputs), whole, params, inputs)


def test_of_derivatives_along_a_direction() -> None:
    lstm = bptt.LSTM(3, 4, 2, dtype="float64", seed=0)
    x, v = RNG.standard_normal((5, 2, 3)), {n: np.ones_like(a) for n, a in lstm.parameters.items()}
    dy = RNG.standard_normal((5, 2, 4))
    whole = bptt.layer_hvp(lstm, x, v, dy)
    some = bptt.layer_hvp(lstm, x, v, dy, grads=["weight_hh_l1"])
    lstm.frozen = ["weight_hh_l0"]
    others = bptt.layer_hvp(lstm, x, v, dy)
    for k in range(2):
        check(some[k], whole[k], {"weight_hh_l1"}, set())
        check(others[k], whole[k], set(v) - {"weight_hh_l0"}, {"x", "state"})
    p = {"x": x, "w_ih": v["weight_ih_l0"], "w_hh": v["weight_hh_l0"]}
    for grads, all_grads in zip(
        bptt.hvp(bptt.lstm_forward, p, {"w_ih": p["w_ih"]}, dy, grads=("w_hh",)),
        bptt.hvp(bptt.lstm_forward, p, {"w_ih": p["w_ih"]}, dy),
    ):
        assert [name for name, d in grads._asdict().items() if d is not None] == ["w_hh"]
        assert same(grads.w_hh, all_grads.w_hh)


def test_of_penalties() -> None:
    rnn = bptt.RNN(3, 4, seed=0)
    tape, dy, _ = run(rnn)
    for penalty in (lambda: omega(tape, dy), lambda: flossing(tape, 2)):
        rnn.frozen = ()
        whole = penalty()
        rnn.frozen = ["weight_hh_l0"]
        some = penalty()
        assert list(some.params) == [n for n in whole.params if n != "weight_hh_l0"]
        assert all(same(d, whole.params[n]) for n, d in some.params.items())


@pytest.mark.parametrize("make", [bptt.SGD, bptt.Adam, bptt.AdamW, bptt.RMSprop])
def test_optimisers_leave_frozen_parameters_alone(make: Any) -> None:
    a, b = bptt.GRU(3, 4, seed=0), bptt.Linear(4, 2, seed=1)
    both = join(a=a.parameters, b=b.parameters)
    optimiser = make(both, lr=0.1, weight_decay=0.1)
    ones = {name: np.ones_like(p) for name, p in both.items()}
    a.frozen = ["weight_hh_l0"]
    before = {name: p.copy() for name, p in both.items()}
    optimiser.step({n: g for n, g in ones.items() if n != "a.weight_hh_l0"})
    optimiser.step(ones)  # whose gradient was computed before
    for name, p in both.items():
        assert np.array_equal(p, before[name]) == (name == "a.weight_hh_l0")
    a.frozen = ()
    with pytest.raises(ValueError, match=r"missing names \['a.weight_hh_l0'\] and unexpected"):
        optimiser.step({n: g for n, g in ones.items() if n != "a.weight_hh_l0"})


def test_joined_and_split_parameters_freeze_their_layers() -> None:
    a, b = bptt.GRU(3, 4, seed=0), bptt.Linear(4, 2, seed=1)
    both = join(a=a.parameters, b=b.parameters)
    both.frozen = ["a.weight_ih_l0", "b.bias"]
    assert a.frozen == {"weight_ih_l0"}
    assert b.frozen == {"bias"}
    b.frozen = ["weight"]
    assert both.frozen == {"a.weight_ih_l0", "b.weight"}
    assert split(both)["b"].frozen == {"weight"}
    outer = join(net=both)
    assert outer.frozen == {"net.a.weight_ih_l0", "net.b.weight"}


def test_copies_keep_what_is_frozen() -> None:
    layer = bptt.GRU(3, 4, seed=0)
    layer.frozen = ["weight_ih_l0"]
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.frozen == {"weight_ih_l0"}
        twin.frozen = ()
        assert layer.frozen == {"weight_ih_l0"}
    assert layer.state_dict().keys() == layer.parameters.keys()
    layer.load(bptt.GRU(3, 4, seed=1).parameters)  # a frozen parameter can be set
    assert layer.frozen == {"weight_ih_l0"}


def test_names_that_a_layer_does_not_have() -> None:
    layer = bptt.RNN(3, 4, seed=0)
    tape, dy, _ = run(layer)
    expected = r"expected some of \['x', 'state', 'params', 'weight_ih_l0', 'weight_hh_l0', 'bias"
    with pytest.raises(ValueError, match=rf"RNN: grads has \['w_ih'\], {expected}"):
        layer.backward(tape, dy, grads=["x", "w_ih"])
    with pytest.raises(TypeError, match=rf"RNN: grads is 'x', {expected}"):
        layer.backward(tape, dy, grads="x")
    with pytest.raises(ValueError, match=r"RNN: frozen has \['bias'\], expected some of \['weight"):
        layer.frozen = ["bias"]
    with pytest.raises(TypeError, match=r"RNN: frozen is True, expected some of \['weight_ih_l0'"):
        layer.frozen = True
    assert layer.frozen == frozenset()
