# SPDX-License-Identifier: MIT
"""Objects that can be kept are equal after pickling and copying; the others say why they cannot."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections import deque
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference
from support.problems import Case, backward, forward, problem

ROUND: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda a: pickle.loads(pickle.dumps(a)),
    "oldest": lambda a: pickle.loads(pickle.dumps(a, protocol=2)),
    "deepcopy": copy.deepcopy,
}
LAYERS = [bptt.RNN, bptt.LSTM, bptt.GRU, bptt.MGU, bptt.SLSTM, bptt.LSTM1997]


def same(a: Any, b: Any) -> bool:
    """The same to the last bit, and of the same kinds."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple, deque)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, bptt.Trace):
        return same(shown(a), shown(b))
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, (str, bytes, bool, int, frozenset, np.dtype, np.generic, type(None), type)):
        return bool(a == b)
    if inspect.isroutine(a):
        return a is b
    if isinstance(a, float):
        return a == b or (a != a and b != b)
    return same(sorted(vars(a).items()), sorted(vars(b).items()))


def shown(trace: Any) -> list[Any]:
    """All that a trace shows, also what it reads from the tape."""
    names = ("dh", "dc", "gates", "clipped", "saturated", "vanished_at", "nonfinite", "valid")
    found = [getattr(trace, name) for name in (*names, "norms", "full", "weights")]
    found += [trace.source.ranges, trace.source.sizes, repr(trace)]
    plain = trace.full is not None and trace.source.plain_weights
    return [*found, trace.shares if plain else None]


def trained(kind: Any = bptt.LSTM, **options: Any) -> tuple[Any, Any, Any]:
    layer = kind(3, 4, seed=0, **options)
    y, _, tape = layer.forward(np.random.default_rng(0).standard_normal((6, 2, 3)))
    return layer, tape, layer.backward(tape, y, trace="full")


@pytest.mark.parametrize("how", ROUND)
@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("rnn", {}), ("rnn", {"skip": 2, "leak": 0.3}), ("lstm", {"zoneout": True}),
        ("gru", {"reset_after": False}), ("mgu", {"layer_norm": True}), ("slstm", {"heads": 2}),
        ("lstm1997", {"reverse": True}),
    ],
    ids=str,
)  # fmt: skip
def test_traces(cell: str, options: dict[str, Any], how: str) -> None:
    c = problem(Case("", cell, options), (7, 3, 2, 4))
    for module in (bptt, reference):
        for level in (True, "full"):
            _, _, tape = forward(module, c)
            grads = backward(module, c, tape, trace=level)
            again = ROUND[how](grads)
            want = shown(grads.trace)
            del tape, grads
            assert same(shown(again.trace), want)


def test_a_trace_of_a_checkpoint_keeps_its_refusal() -> None:
    c = problem(Case("", "lstm", {}), (300, 4, 3, 5))
    trace = ROUND["pickle"](backward(bptt, c, forward(bptt, c, checkpoint="sqrt")[2], trace=True))
    assert trace.trace.dh.shape == (300,)
    with pytest.raises(ValueError, match="kept in segments, expected one without checkpoint"):
        trace.trace.saturated  # noqa: B018


def kept() -> dict[str, Any]:
    """One of each object of the package."""
    layer, _, grads = trained(num_layers=2, recurrent_dropout=0.2, bidirectional=True)
    rnn, of_rnn, _ = trained(bptt.RNN)
    x = np.ones((6, 2, 3), np.float32)
    found: dict[str, Any] = {kind.__name__: trained(kind)[0] for kind in LAYERS}
    found |= {"random layer": layer, "gradients": grads, "layer trace": grads.trace}
    found["by lag"] = bptt.by_lag(of_rnn.cells[0], np.ones((6, 2, 4)))
    found["omega"] = bptt.regularise.omega(of_rnn, np.ones((6, 2, 4)))
    found["flossing"] = bptt.regularise.flossing(of_rnn, 2)
    found["place"] = bptt.NonFinite("forward", 0, None, None, "x", 1)
    found["report"] = bptt.gradient_flow(rnn, x)
    monitor = bptt.FlowMonitor(2)
    monitor.update(0, grads.trace, loss=1.5)
    found["monitor"] = monitor
    for kind in (bptt.SGD, bptt.RMSprop, bptt.Adam, bptt.AdamW):
        found[kind.__name__] = optimiser = kind(layer.parameters, lr=0.01)
        optimiser.step(grads.params)
    schedules = {
        "StepLR": bptt.StepLR(found["SGD"], 2),
        "CosineAnnealing": bptt.CosineAnnealing(found["SGD"], 10),
        "ReduceLROnPlateau": bptt.ReduceLROnPlateau(found["SGD"]),
        "WarmUp": bptt.WarmUp(found["SGD"], 3),
    }
    found |= schedules
    found["AutoClip"] = clip = bptt.AutoClip()
    bptt.clip_grad_norm(grads.params, clip)
    readout = bptt.Attention(4, seed=0)
    context, *_, attention_tape = readout.forward(np.ones((6, 2, 4), np.float32))
    found |= {
        "attention": readout,
        "attention gradients": readout.backward(attention_tape, context),
    }
    found |= {"linear": bptt.Linear(3, 4, seed=0), "embedding": bptt.Embedding(5, 3, seed=0)}
    found["reference tape"] = forward(reference, problem(Case("", "lstm", {}), (4, 2, 3, 4)))[2]
    return found


@pytest.mark.parametrize("how", ROUND)
def test_what_can_be_kept(how: str) -> None:
    for name, thing in kept().items():
        again = ROUND[how](thing)
        assert again is not thing, name
        assert same(again, thing), name


@pytest.mark.parametrize("how", [*ROUND, "copy"])
def test_what_cannot_says_so(how: str) -> None:
    layer, tape, _ = trained()
    run = copy.copy if how == "copy" else ROUND[how]
    with pytest.raises(TypeError, match="the tape of lstm holds memory of the core and cannot be"):
        run(tape.cells[0])
    if how != "copy":  # which is another tuple of the same tapes
        with pytest.raises(TypeError, match="the tape of lstm holds memory of the core and cannot"):
            run(tape)
    with pytest.raises(TypeError, match="stream: it holds packed weights and cannot be pickled"):
        run(layer.stream())


def test_a_copied_layer_draws_the_same_masks_and_trains_alone() -> None:
    layer, _, grads = trained(recurrent_dropout=0.5)
    x = np.ones((6, 2, 3), np.float32)
    twin = ROUND["pickle"](layer)
    want = layer.forward(x)[0]
    assert np.array_equal(twin.forward(x)[0], want)
    bptt.SGD(twin.parameters, lr=1.0).step(grads.params)
    assert not np.array_equal(twin.parameters["weight_hh_l0"], layer.parameters["weight_hh_l0"])
