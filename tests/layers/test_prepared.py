# SPDX-License-Identifier: MIT
"""Prepared layers: the bits of the layer's own calls, and weights that stay until `refresh`."""

from __future__ import annotations

import copy
import os
import pickle
import re
import threading
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import GRU, LSTM, LSTM1997, MGU, RNN, SLSTM, Adam, _core
from bptt.layers import Recurrent
from support.problems import flat, state_of

KINDS: list[tuple[Any, dict[str, Any]]] = [
    (RNN, {}),
    (LSTM, {}),
    (GRU, {"bias": False}),
    (LSTM, {"bidirectional": True, "batch_first": True}),
    (GRU, {"bidirectional": True, "residual": True}),
    (RNN, {"activation": "relu", "leak": 0.3, "preact_clip": 1.0, "residual": True}),
    (LSTM, {"dropout": 0.5, "zoneout": (0.2, 0.3), "recurrent_dropout": 0.4}),
    (LSTM, {"peepholes": True, "forget_gate": "coupled", "bidirectional": True}),
    (LSTM, {"proj_size": 5, "bidirectional": True, "residual": True}),
    (LSTM, {"layer_norm": True, "peepholes": True, "bidirectional": True}),
    (GRU, {"layer_norm": True, "zoneout": 0.2}),
    (GRU, {"reset_after": False, "skip": 2}),
    (GRU, {"dilation": 3, "skip": 3, "bidirectional": True}),
    (LSTM, {"dilation": (1, 2), "bidirectional": True, "residual": True}),
    (MGU, {"preact_clip": 0.5, "bidirectional": True}),
    (SLSTM, {"heads": 2, "bidirectional": True}),
    (LSTM1997, {"bidirectional": True}),
]


def equal(a: Any, b: Any) -> bool:
    (y, state), (other_y, other) = a, b
    pairs = zip([y, *flat(state)], [other_y, *flat(other)], strict=True)
    return all(np.array_equal(p, q) and p.shape == q.shape for p, q in pairs)


def calls(layer: Recurrent, T: int, B: int) -> Any:
    """Arguments of calls of every kind."""
    rng = np.random.default_rng(T + B)
    x = rng.standard_normal((T, B, layer.input_size)).astype(layer.dtype)
    resets = rng.random((T, B)) < 0.3
    if layer.batch_first:
        x, resets = np.ascontiguousarray(x.swapaxes(0, 1)), resets.swapaxes(0, 1)
    zeros = flat(layer(x)[1])
    state = state_of([rng.standard_normal(s.shape).astype(layer.dtype) for s in zeros])
    lengths = rng.integers(0, T + 1, B)
    yield {"x": x}
    yield {"x": x, "state": state}
    yield {"x": x, "lengths": lengths}
    yield {"x": x, "state": state, "lengths": lengths}
    if max(layer.dilations) == 1:
        yield {"x": x, "state": state, "resets": resets}
        yield {"x": x, "lengths": lengths, "resets": resets}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_the_bits_of_the_layer(kind: Any, options: Any, dtype: str, isa: str) -> None:
    layer = kind(6, 18, 3 if "dilation" not in options else 2, seed=0, dtype=dtype, **options)
    prepared = layer.prepare()
    assert prepared.isa == isa
    for T, B in [(1, 1), (2, 3), (9, 1), (40, 2), (13, 11), (0, 2), (3, 0)]:
        for given in calls(layer, T, B):
            assert equal(prepared(**given), layer(**given)), (T, B, [*given])


@pytest.mark.parametrize("make", [
    lambda: LSTM(200, 210, 2, bidirectional=True, seed=0), lambda: GRU(30, 310, seed=0),
    lambda: LSTM(100, 300, proj_size=130, layer_norm=True, seed=0),
])  # fmt: skip
def test_the_same_bits_on_any_number_of_threads(make: Any) -> None:
    layer, before = make(), bptt.get_num_threads()
    prepared = layer.prepare()
    try:
        for T, B in [(5, 1), (20, 2), (7, 24)]:
            x = np.random.default_rng(0).standard_normal((T, B, layer.input_size))
            given = {"x": x.astype("f4"), "lengths": np.arange(B) % T + 1}
            bptt.set_num_threads(1)
            want = layer(**given)
            for threads in (1, 2, 3):
                bptt.set_num_threads(threads)
                assert equal(prepared(**given), want)
    finally:
        bptt.set_num_threads(before)


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"dilation": 2}])
@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
def test_bfloat16_as_the_layer(kind: Any, options: Any, bf16_isa: str) -> None:
    layer = kind(64, 64, 2, compute="bf16", seed=0, **options)
    prepared = layer.prepare()
    assert "bf16 for" in repr(prepared)
    for given in calls(layer, 12, 3):
        assert equal(prepared(**given), layer(**given))
    plain = kind(64, 64, 2, seed=0, **options)
    x = np.ones((4, 2, 64), np.float32)
    assert prepared.nbytes < 0.7 * plain.prepare().nbytes
    assert not np.array_equal(prepared(x)[0], plain.prepare()(x)[0])


@pytest.mark.parametrize("options", [{"zoneout": 0.1}, {"peepholes": True}, {}])
def test_bfloat16_only_where_the_layer_has_it(options: Any) -> None:
    layer = LSTM(5, 7, compute="bf16_if_available", seed=0, **options)
    x = np.ones((4, 2, 5), np.float32)
    assert equal(layer.prepare()(x), layer(x))
    assert np.array_equal(layer.stream(2).process(x), layer(x)[0])


def test_it_stays_with_its_instruction_set() -> None:
    if len(isas := _core.isas()) < 2:
        pytest.skip("needs two instruction sets")
    layer, x = LSTM(5, 40, 2, seed=0), np.ones((9, 3, 5), np.float32)
    before = _core.isa()
    try:
        for first in isas:
            for other in isas:
                _core.use_isa(first)
                want, prepared = layer(x), layer.prepare()
                _core.use_isa(other)
                assert equal(prepared(x), want)
                assert prepared.isa == first
                prepared.refresh()
                assert equal(prepared(x), layer(x))
                assert prepared.isa == other
    finally:
        _core.use_isa(before)


# --- weights that change


def test_it_keeps_its_weights_until_refresh() -> None:
    layer, x = LSTM(3, 17, 2, peepholes=True, seed=0), np.ones((5, 2, 3), np.float32)
    prepared, want = layer.prepare(), layer(x)
    y, _, tape = layer.forward(x)
    adam = Adam(layer.parameters)
    assert not prepared.stale
    changes = [
        lambda: adam.step(layer.backward(tape, np.ones_like(y)).params),
        lambda: layer.load(LSTM(3, 17, 2, peepholes=True, seed=1).parameters),
        lambda: layer.parameters.update({"bias_hh_l1": np.ones(68)}),
    ]
    for change in changes:
        change()
        assert prepared.stale
        assert "stale" in repr(prepared)
        assert equal(prepared(x), want)
        assert not equal(layer(x), want)
        prepared.refresh()
        assert not prepared.stale
        assert "stale" not in repr(prepared)
        want = layer(x)
        assert equal(prepared(x), want)


def test_a_change_of_any_single_number_is_seen() -> None:
    layer = GRU(40, 70, 2, seed=0)
    prepared = layer.prepare()
    for array in layer.parameters.values():
        for at in np.random.default_rng(0).integers(0, array.size, 20):
            kept = array.flat[at]
            array.flat[at] = np.nextafter(kept, 1)
            assert prepared.stale
            array.flat[at] = kept
            assert not prepared.stale


# --- the object


def test_other_inputs_are_converted() -> None:
    for layer in (LSTM(3, 5, seed=0), GRU(3, 5, 2, batch_first=True, dilation=2, seed=0)):
        x = np.random.default_rng(0).standard_normal((6, 4, 3))
        prepared, want = (
            layer.prepare(),
            layer(x, lengths=[1, 2, 3, 4] if not layer.batch_first else None),
        )
        given = None if layer.batch_first else (1, 2, 3, 4)
        for other in (x, x.tolist(), np.asfortranarray(x), x.astype(">f8"), x[::-1][::-1]):
            assert equal(prepared(other, lengths=given), want)
        state = want[1]
        strided = state_of([np.asfortranarray(s.astype("f8")) for s in flat(state)])
        assert equal(prepared(x, strided), layer(x, state))
        assert equal(prepared(x.astype("f4"), state), layer(x, state))
    lstm, x = LSTM(3, 5, seed=0), np.ones((6, 4, 3))
    h = np.ones((1, 4, 5))
    assert equal(lstm.prepare()(x, [h, None]), lstm(x, [h, None]))  # as PyTorch's lists


def test_results_are_new_arrays_and_arguments_stay() -> None:
    layer = GRU(4, 4, 3, residual=True, bidirectional=False, seed=0)
    prepared, x, state = layer.prepare(), np.ones((7, 2, 4), np.float32), np.ones((3, 2, 4), "f4")
    y, final = prepared(x, state)
    first = y.copy()
    again, _ = prepared(x, state)
    assert not np.shares_memory(y, again)
    assert (x == 1).all()
    assert (state == 1).all()
    y[...] = 7
    final[...] = 7
    assert np.array_equal(prepared(x, state)[0], first)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("LSTM: x has shape (2, 3), expected (T, B, input_size) = (T, B, 3)",
         {"x": np.ones((2, 3))}),
        ("LSTM: x has shape (2, 3, 4)", {"x": np.ones((2, 3, 4), np.float32)}),
        ("LSTM: x has dtype complex128", {"x": np.ones((2, 3, 3), complex)}),
        ("LSTM: lengths", {"lengths": np.array([3, 1])}),
        ("LSTM: lengths", {"lengths": np.array([-1, 1])}),
        ("LSTM: lengths has shape (3,), expected (B,) = (2,)", {"lengths": np.array([1, 1, 1])}),
        ("LSTM: state is ndarray, expected a tuple (h, c)", {"state": np.zeros((1, 2, 4), "f4")}),
        ("LSTM: state[1] has shape (2, 2, 4)",
         {"state": (np.zeros((1, 2, 4), "f4"), np.zeros((2, 2, 4), "f4"))}),
        ("LSTM: resets has shape (2, 3), expected (T, B) = (2, 2)",
         {"resets": np.zeros((2, 3), bool)}),
    ],
)  # fmt: skip
def test_errors_are_those_of_the_layer(message: str, arguments: Any) -> None:
    given = {"x": np.ones((2, 2, 3), np.float32), **arguments}
    layer = LSTM(3, 4, seed=0)
    for called in (layer, layer.prepare()):
        with pytest.raises((ValueError, TypeError), match=re.escape(message)):
            called(**given)
    with pytest.raises(TypeError, match="Prepared: hx is given, expected state"):
        layer.prepare()(given["x"], hx=None)  # type: ignore[call-arg]


def test_bfloat16_is_refused_where_there_is_none() -> None:
    if not _core.has_bf16() or len(_core.isas()) < 2:
        pytest.skip("needs an instruction set with bfloat16 and one without")
    layer, before = LSTM(3, 4, compute="bf16", seed=0), _core.isa()
    prepared, x = layer.prepare(), np.ones((5, 1, 3), np.float32)
    want = prepared(x)
    try:
        _core.use_isa(_core.isas()[-1])
        with pytest.raises(ValueError, match=r"LSTM.prepare: compute is 'bf16', which"):
            layer.prepare()
        with pytest.raises(ValueError, match=r"LSTM.prepare: compute is 'bf16', which"):
            prepared.refresh()
        assert equal(prepared(x), want)  # as it was
    finally:
        _core.use_isa(before)


def test_repr() -> None:
    prepared = GRU(2, 3, seed=0).prepare()
    size = f"{prepared.nbytes / 1024:,.1f} KiB"
    assert repr(prepared) == f"Prepared(GRU(2, 3), float32 for {_core.isa()}, {size})"
    assert prepared.nbytes >= 4 * sum(a.size for a in prepared.layer.parameters.values()) / 2


def test_copies_pack_the_parameters_anew() -> None:
    layer, x = LSTM(3, 5, seed=0), np.ones((4, 2, 3), np.float32)
    prepared = layer.prepare()
    layer.parameters["bias_ih_l0"] = np.ones(20)
    assert copy.copy(prepared).layer is layer
    for twin in (
        copy.copy(prepared),
        copy.deepcopy(prepared),
        pickle.loads(pickle.dumps(prepared)),
    ):
        assert not twin.stale
        assert equal(twin(x), layer(x))
    deep = copy.deepcopy(prepared)
    layer.parameters["bias_ih_l0"] = np.zeros(20)
    assert deep.layer is not layer
    assert not deep.stale


def test_a_call_during_refresh_ends_with_all_that_it_began_with() -> None:
    gru = GRU(2, 3, learn_state=True, seed=0)
    prepared, x = gru.prepare(), np.ones((2, 1, 2))
    before = prepared(x)[0]

    class Refreshing:
        """Stands for another thread."""

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            other = {name: array + 1 for name, array in gru.parameters.items()}
            gru.load(other)
            prepared.refresh()
            return x

    assert np.array_equal(prepared(Refreshing())[0], before)
    assert not np.array_equal(prepared(x)[0], before)


def test_one_object_serves_many_threads_while_it_is_refreshed() -> None:
    layer = LSTM(16, 24, 2, bidirectional=True, seed=0)
    x = np.random.default_rng(0).standard_normal((20, 3, 16)).astype(np.float32)
    prepared, both = layer.prepare(), []
    for seed in (0, 1):
        layer.load(LSTM(16, 24, 2, bidirectional=True, seed=seed).parameters)
        both.append(layer(x))
    layer.load(LSTM(16, 24, 2, bidirectional=True, seed=0).parameters)
    faults: list[str] = []
    begin = threading.Barrier(5)

    def serve() -> None:
        begin.wait()
        for _ in range(100):
            got = prepared(x)
            if not (equal(got, both[0]) or equal(got, both[1])):
                faults.append("mixed weights")

    workers = [threading.Thread(target=serve) for _ in range(4)]
    for worker in workers:
        worker.start()
    begin.wait()
    for seed in [1, 0] * 10:
        layer.load(LSTM(16, 24, 2, bidirectional=True, seed=seed).parameters)
        prepared.refresh()
    for worker in workers:
        worker.join()
    assert not faults


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_computes_the_same() -> None:
    layer, x = LSTM(200, 210, seed=0), np.ones((9, 2, 200), np.float32)
    prepared = layer.prepare()
    want = prepared(x)
    child = os.fork()
    if not child:
        os._exit(0 if equal(prepared(x), want) and not prepared.stale else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
