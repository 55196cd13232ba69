# SPDX-License-Identifier: MIT
"""The arrays of a layer are the same ones for ever, whatever is assigned."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.optim import join, split
from support import child

LAYERS: dict[str, Callable[[], Any]] = {
    "rnn": lambda: bptt.RNN(3, 4, seed=0),
    "lstm": lambda: bptt.LSTM(3, 4, 2, bidirectional=True, seed=0),
    "projected": lambda: bptt.LSTM(3, 4, proj_size=2, peepholes=True, layer_norm=True, seed=0),
    "gru": lambda: bptt.GRU(3, 4, bias=False, dtype="float64", seed=0),
    "mgu": lambda: bptt.MGU(3, 4, seed=0),
    "slstm": lambda: bptt.SLSTM(3, 4, heads=2, seed=0),
    "lstm1997": lambda: bptt.LSTM1997(3, 4, seed=0),
    "linear": lambda: bptt.Linear(3, 4, seed=0),
    "embedding": lambda: bptt.Embedding(3, 4, seed=0),
    "attention": lambda: bptt.Attention(4, seed=0),
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


def assign(layer: Any, name: str, value: Any) -> None:
    layer.parameters[name] = value


def update(layer: Any, name: str, value: Any) -> None:
    layer.parameters.update({name: value})


def update_by_keyword(layer: Any, name: str, value: Any) -> None:
    layer.parameters.update(**{name: value})


def update_in_place(layer: Any, name: str, value: Any) -> None:
    layer.parameters |= {name: value}


def assign_to_a_join(layer: Any, name: str, value: Any) -> None:
    join(part=layer.parameters)[f"part.{name}"] = value


def assign_to_a_part(layer: Any, name: str, value: Any) -> None:
    split(join(part=layer.parameters))["part"][name] = value


def assign_pairs(layer: Any, name: str, value: Any) -> None:
    layer.parameters.update([(name, value)])


def assign_all(layer: Any, name: str, value: Any) -> None:
    layer.parameters = {**layer.parameters, name: value}


WAYS = [assign, update, update_by_keyword, update_in_place, assign_to_a_join, assign_to_a_part,
        assign_pairs, assign_all]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@every_layer
def test_to_assign_is_to_copy(make: Any, way: Any) -> None:
    layer = make()
    arrays, joined = dict(layer.parameters), join(part=layer.parameters)
    for name, array in arrays.items():
        value = np.random.default_rng(1).standard_normal(array.shape)
        way(layer, name, value)
        assert layer.parameters[name] is array is joined[f"part.{name}"]
        np.testing.assert_array_equal(array, value.astype(layer.dtype))
        assert not np.shares_memory(array, value)


@pytest.mark.parametrize("way", WAYS)
@every_layer
def test_what_does_not_fit_is_refused_and_changes_nothing(make: Any, way: Any) -> None:
    layer = make()
    before = layer.state_dict()
    name, array = next(iter(layer.parameters.items()))
    for value, error, message in [
        (0.0, ValueError, f"{name} has shape (), expected the parameter's shape = {array.shape}"),
        (array[:1], ValueError, f"has shape {array[:1].shape}, expected the parameter's shape ="),
        (array.T[None], ValueError, "expected the parameter's shape ="),
        (array.astype(complex), TypeError, f"{name} has dtype complex128, expected real numbers"),
        (np.ma.masked_array(array), TypeError, f"{name} is a masked array, expected one without"),
        (None, TypeError, f"{name} has dtype object, expected real numbers"),
    ]:
        with pytest.raises(error, match=re.escape(message)):
            way(layer, name, value)
    with pytest.raises(ValueError, match=r"expected (the )?names of"):
        way(layer, "weight_of_no_layer", array)
    for name, value in before.items():
        np.testing.assert_array_equal(layer.parameters[name], value)


def test_calls_streams_and_optimisers_follow_an_assignment() -> None:
    lstm = bptt.LSTM(3, 4, seed=0)
    adam = bptt.Adam(lstm.parameters)
    together = bptt.SGD(join(lstm=lstm.parameters), lr=1.0)
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((16, 4)))[0]
    lstm.parameters["weight_hh_l0"] = q
    x = np.random.default_rng(1).standard_normal((6, 1, 3))
    y, _, tape = lstm.forward(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(lstm.stream().process(x), y)
    expected = bptt.lstm_forward(x.astype("f4"), *(a.copy() for a in lstm.parameters.values()))[0]
    np.testing.assert_array_equal(y, expected)
    gradients = lstm.backward(tape, y).params
    together.step(join(lstm=gradients))
    np.testing.assert_array_equal(
        lstm.parameters["weight_hh_l0"], q.astype("f4") - gradients["weight_hh_l0"]
    )
    before = lstm.parameters["weight_hh_l0"].copy()
    adam.step(gradients)
    assert np.all(lstm.parameters["weight_hh_l0"] != before)


def test_arrays_may_trade_places() -> None:
    rnn = bptt.RNN(3, 4, seed=0)
    p, before = rnn.parameters, rnn.state_dict()
    p.update(bias_ih_l0=p["bias_hh_l0"], bias_hh_l0=p["bias_ih_l0"])
    np.testing.assert_array_equal(p["bias_ih_l0"], before["bias_hh_l0"])
    np.testing.assert_array_equal(p["bias_hh_l0"], before["bias_ih_l0"])
    p["weight_hh_l0"] = p["weight_hh_l0"].T
    np.testing.assert_array_equal(p["weight_hh_l0"], before["weight_hh_l0"].T)
    p["weight_hh_l0"] *= 2
    np.testing.assert_array_equal(p["weight_hh_l0"], 2 * before["weight_hh_l0"].T)


def test_of_several_arrays_all_are_assigned_or_none() -> None:
    rnn = bptt.RNN(3, 4, seed=0)
    before = rnn.state_dict()
    with pytest.raises(ValueError, match="RNN: bias_hh_l0 has shape"):
        rnn.parameters.update(bias_ih_l0=np.ones(4), bias_hh_l0=np.ones(5))
    np.testing.assert_array_equal(rnn.parameters["bias_ih_l0"], before["bias_ih_l0"])


def test_names_are_fixed() -> None:
    p = bptt.Linear(3, 2, seed=0).parameters
    for call in (lambda: p.pop("bias"), lambda: p.pop("bias", None), p.popitem, p.clear,
                 lambda: p.__delitem__("bias")):  # fmt: skip
        with pytest.raises(TypeError, match="Linear: parameters has fixed names: none can"):
            call()
    assert list(p) == ["weight", "bias"]
    assert p.setdefault("bias", np.ones(2)) is p["bias"]
    assert np.all(p["bias"] != 1)
    with pytest.raises(ValueError, match=re.escape("Linear: parameters has no ['gain'], expected")):
        p.setdefault("gain", np.ones(2))


def test_copies_and_pickles_have_arrays_of_their_own() -> None:
    lstm = bptt.LSTM(3, 4, seed=0)
    adam = bptt.Adam(lstm.parameters)
    for twin, its in (copy.deepcopy((lstm, adam)), pickle.loads(pickle.dumps((lstm, adam)))):
        assert its.params is twin.parameters
        twin.parameters["bias_ih_l0"] = np.ones(16)
        assert np.all(its.params["bias_ih_l0"] == 1)
        assert np.all(lstm.parameters["bias_ih_l0"] != 1)
        its.step({name: np.ones_like(a) for name, a in twin.parameters.items()})
        assert np.all(twin.parameters["bias_ih_l0"] < 1)
    for again in (copy.copy(lstm.parameters), copy.copy(lstm).parameters):
        assert all(again[name] is array for name, array in lstm.parameters.items())
    assert dict(pickle.loads(pickle.dumps(lstm.parameters))).keys() == lstm.parameters.keys()


def test_guesses_of_torchs_users() -> None:
    lstm: Any = bptt.LSTM(3, 4, seed=0)
    for call in (lambda: bptt.Adam(lstm.parameters()), lambda: lstm.parameters(recurse=True)):
        message = "LSTM: parameters is a dict, expected no call: bptt.Adam(layer.parameters)"
        with pytest.raises(TypeError, match=re.escape(message)):
            call()
    with pytest.raises(
        AttributeError, match=re.escape("of a dict: layer.parameters['bias_ih_l0']")
    ):
        lstm.parameters.bias_ih_l0  # noqa: B018
    with pytest.raises(AttributeError, match="LSTM: parameters has no attribute 'grad', expected"):
        lstm.parameters.grad  # noqa: B018
    with pytest.raises(KeyError, match="LSTM: parameters has no 'weight_ih', expected one of"):
        lstm.parameters["weight_ih"]
    assert "weight_ih" not in lstm.parameters
    assert lstm.parameters.get("weight_ih") is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda a, b: bptt.Adam({"a": a, "b": b}),
            "Adam: params['a'] is a dict, expected an array",
        ),
        (lambda a, b: bptt.Adam(a, b), "Adam: lr is a dict, expected a number"),
        (lambda a, b: bptt.Adam([a, b]), "Adam: params is of type list, expected a dict of arrays"),
        (lambda a, b: bptt.clip_grad_norm({"a": a}, 1.0), "clip_grad_norm: grads['a'] is a dict"),
    ],
)
def test_several_layers_otherwise_than_joined(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)) as error:
        call(bptt.RNN(2, 3).parameters, bptt.RNN(2, 3).parameters)
    assert len(str(error.value)) < 200


# --- equal names

A, B, HEAD = bptt.LSTM(3, 4, seed=0), bptt.LSTM(3, 4, seed=1), bptt.Linear(4, 2, seed=0)
DEEP = bptt.GRU(3, 4, 2, seed=0)


@pytest.mark.parametrize("make", [bptt.SGD, bptt.RMSprop, bptt.Adam, bptt.AdamW])
@pytest.mark.parametrize(
    "merged",
    [
        {**A.parameters, **B.parameters},
        A.parameters | B.parameters,
        {**A.parameters, **B.parameters, **HEAD.parameters},
        {**DEEP.parameters, **A.parameters},
    ],
    ids=["unpacked", "or", "and another", "in part"],
)
def test_a_layer_lost_by_its_names_is_warned_of(make: Any, merged: Any) -> None:
    message = f"{make.__name__}: params has '.*_l0' of one layer, LSTM, and not that of another, "
    with pytest.warns(UserWarning, match=message) as record:
        make(merged)
    assert len(record) == 1
    assert record[0].filename == __file__
    assert "bptt.optim.join(a=..., b=...) keeps all" in str(record[0].message)


@pytest.mark.parametrize(
    "params",
    [
        A.parameters,
        join(a=A.parameters, b=B.parameters),
        {"w": np.ones(3)},
        {"hidden": A.parameters["weight_hh_l0"], "out": HEAD.parameters["weight"]},
        {name: a for name, a in A.parameters.items() if "bias" not in name},
        {f"a.{name}": a for name, a in A.parameters.items()},
    ],
    ids=["a layer's", "joined", "arrays", "named", "some of a layer's", "joined by hand"],
)
def test_other_dicts_are_not(params: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bptt.Adam(params)


def test_layers_without_an_equal_name_may_be_merged() -> None:
    program = """
        import warnings, bptt
        warnings.simplefilter("error")
        lstm, head = bptt.LSTM(3, 4), bptt.Linear(4, 2)
        print(bptt.Adam({**lstm.parameters, **head.parameters}))
    """
    assert child.output(program) == "Adam(lr=0.001): 6 arrays of 154 parameters, 0 steps\n"


def test_a_joined_optimiser_trains_both() -> None:
    a, b = bptt.LSTM(3, 4, seed=0), bptt.LSTM(3, 4, seed=0)
    sgd = bptt.SGD(join(a=a.parameters, b=b.parameters), lr=1.0)
    assert repr(sgd) == "SGD(lr=1): 8 arrays of 288 parameters, 0 steps"
    gradients = {name: np.ones_like(p) for name, p in a.parameters.items()}
    before = a.state_dict()
    sgd.step(join(a=gradients, b=gradients))
    for name, value in before.items():
        np.testing.assert_array_equal(a.parameters[name], value - 1)
        np.testing.assert_array_equal(b.parameters[name], value - 1)


def test_an_optimiser_refuses_another_array_in_the_place_of_its_own() -> None:
    params = {"v": np.ones(2, "f4"), "w": np.ones(2, "f4")}
    adam = bptt.Adam(params)
    params["w"] = np.zeros(2)
    message = "Adam.step: params['w'] is another array than at the start, expected the same"
    with pytest.raises(ValueError, match=re.escape(message)):
        adam.step({"v": np.ones(2), "w": np.ones(2)})
    assert adam.steps == 0
    assert params["v"].tolist() == [1, 1]


def test_a_copy_is_a_dict_of_its_own() -> None:
    lstm = bptt.LSTM(3, 4, seed=0)
    free, before = lstm.parameters.copy(), lstm.parameters["bias_hh_l0"].copy()
    free["bias_hh_l0"] = np.zeros(16)
    del free["weight_ih_l0"]
    assert type(free) is dict
    np.testing.assert_array_equal(lstm.parameters["bias_hh_l0"], before)


def test_a_warning_needs_no_module() -> None:
    """The warning points at code without a file name, such as a string that is executed."""
    code = "a, b = bptt.GRU(3, 4), bptt.GRU(3, 4)\nbptt.Adam({**a.parameters, **b.parameters})"
    with pytest.warns(UserWarning, match="equal names"):
        exec(code, {"bptt": bptt})


@pytest.mark.parametrize("what", [5, [("a",)], {"n" * 70_000: np.zeros(3)}])
def test_what_is_no_dict_of_parameters(what: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="LSTM: parameters has") as caught:
        bptt.LSTM(3, 4).parameters.update(what)
    assert len(str(caught.value)) < 700
