# SPDX-License-Identifier: MIT
"""Prepared layers with weights of 8 bits: which weights, how near, and where."""

from __future__ import annotations

import copy
import os
import pickle
import re
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import GRU, LSTM, RNN, _core, reference
from bptt.layers import Recurrent
from support.compare import TOLERANCE_OF_INT8, error
from support.problems import flat

ISAS = [os.environ["BPTT_ISA"]] if os.environ.get("BPTT_ISA") else _core.isas()
every_isa = pytest.mark.parametrize("isa", ISAS, indirect=True)
KINDS = [RNN, LSTM, GRU]


def drawn(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def distance(got: Any, want: Any) -> float:
    pairs = zip([got[0], *flat(got[1])], [want[0], *flat(want[1])], strict=True)
    return max(error(a, b) for a, b in pairs)


def of_reference(layer: Recurrent, x: Any, state: Any = None, **given: Any) -> Any:
    """The equations in float64 with rounded weights and operands, one layer and direction."""
    p = {name: np.float64(a) for name, a in layer.parameters.items()}
    if state is not None:
        parts = tuple(np.float64(s[0]) for s in flat(state))
        state = parts if len(parts) > 1 else parts[0]
    forward = getattr(reference, f"{layer.structure.kind}_forward")
    arrays = [p.get(f"{n}_l0") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    given |= {"compute": "int8", **layer.structure.options}
    y, final, _ = forward(np.float64(x), *arrays, state, **given)
    return y, tuple(s[None] for s in flat(final))


# --- the weights


@pytest.mark.parametrize(("K", "H"), [(1, 1), (5, 3), (40, 33), (130, 70)])
@every_isa
def test_the_weights_are_those_of_the_reference(K: int, H: int, isa: str) -> None:
    layer = RNN(K, H, bias=False, activation="identity", seed=0)
    w_ih, w_hh = (layer.parameters[f"weight_{side}_l0"] for side in ("ih", "hh"))
    w_ih[...], w_hh[...] = drawn(H, K), drawn(H, H, seed=1)
    w_ih[0] = 0
    w_hh[-1] *= np.float32(1e-33)  # negligible
    w_ih[H // 2, K // 2] = 9
    prepared = layer.prepare("int8")
    columns = prepared(np.eye(K, dtype=np.float32)[None])[0][0].T  # w_ih times each input alone
    recurrent = prepared(np.zeros((1, H, K)), np.eye(H, dtype=np.float32)[None])[0][0].T
    for got, w in ((columns, w_ih), (recurrent, w_hh)):
        q, scale = reference.quantise(w)
        assert np.abs(q).max() == (127 if scale.any() else 0)
        np.testing.assert_allclose(got, reference.dequantise(q, scale), rtol=1e-6)
        numbers = np.divide(got, scale, out=np.zeros_like(got), where=scale > 0)
        assert np.array_equal(np.rint(numbers), q)


def test_the_reference_rounds() -> None:
    w = np.array([[1.27, -0.635, 0.0], [0, 0, 0], [-2.54, 0.03, 0.05]], np.float32)
    q, scale = reference.quantise(w)
    assert q.tolist() == [[127, -64, 0], [0, 0, 0], [-127, 2, 2]]  # 63.5, 1.5 and 2.5
    assert np.abs(reference.dequantise(q, scale) - w).max() <= scale.max() / 1.9999
    assert scale[1] == 0


# --- the results


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (9, 1, 7, 33), (40, 1, 64, 64), (6, 11, 30, 50)])
@pytest.mark.parametrize("kind", KINDS)
@every_isa
def test_near_the_reference_with_rounded_weights(kind: Any, shape: Any, isa: str) -> None:
    T, B, I, H = shape
    layer = kind(I, H, seed=0)
    x, prepared = drawn(T, B, I), layer.prepare("int8")
    assert distance(prepared(x), of_reference(layer, x)) < TOLERANCE_OF_INT8
    zeros = layer(x)[1]
    state = tuple(drawn(*s.shape, seed=3) for s in flat(zeros))
    given = state if len(state) > 1 else state[0]
    lengths = np.arange(B) % (T + 1)
    got = prepared(x, given, lengths=lengths[::-1])
    assert distance(got, of_reference(layer, x, given, lengths=lengths[::-1])) < TOLERANCE_OF_INT8
    resets = np.random.default_rng(0).random((T, B)) < 0.2
    got = prepared(x, given, resets=resets)
    assert distance(got, of_reference(layer, x, given, resets=resets)) < TOLERANCE_OF_INT8


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "leaky_relu"])
@every_isa
def test_activations_of_rnn(activation: str, isa: str) -> None:
    layer, x = RNN(20, 30, activation=activation, seed=0), drawn(9, 2, 20)
    assert distance(layer.prepare("int8")(x), of_reference(layer, x)) < TOLERANCE_OF_INT8


@pytest.mark.parametrize("H", [600, 1500])  # fewer levels, so that no sum leaves 32 bits
@every_isa
def test_sums_of_the_largest_numbers_are_exact(H: int, isa: str) -> None:
    layer = RNN(H, 3, bias=False, activation="identity", seed=0)
    layer.parameters["weight_ih_l0"] = np.full((3, H), [[1], [-1], [0.5]])
    x = np.array([np.ones(H), -np.ones(H), np.linspace(-1, 1, H) ** 2])[:, None]
    y = layer.prepare("int8")(x[:1])[0]
    np.testing.assert_allclose(y[0, 0], [H, -H, H / 2], rtol=1e-6)
    layer.parameters["weight_hh_l0"] = np.zeros((3, 3))
    assert distance(layer.prepare("int8")(x), of_reference(layer, x)) < TOLERANCE_OF_INT8


@pytest.mark.parametrize("kind", KINDS)
@every_isa
def test_layers_directions_and_dilations(kind: Any, isa: str) -> None:
    for options in ({"bidirectional": True, "residual": True}, {"dilation": (1, 3)}):
        layer, x = kind(24, 24, 2, seed=0, **options), drawn(20, 3, 24)
        near = copy.deepcopy(layer)
        for name, w in layer.parameters.items():
            if "weight" in name:
                near.parameters[name] = reference.dequantise(*reference.quantise(w))
        lengths = [20, 7, 0]
        assert distance(layer.prepare("int8")(x, None, lengths), near(x, None, lengths)) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
@every_isa
def test_bits_depend_on_neither_batch_nor_cuts_nor_threads(kind: Any, isa: str) -> None:
    layer, x = kind(40, 70, seed=0), drawn(37, 13, 40)
    prepared, before = layer.prepare("int8"), bptt.get_num_threads()
    y, final = prepared(x)
    for b in (0, 5, 12):
        assert np.array_equal(prepared(x[:, b : b + 1].copy())[0], y[:, b : b + 1])
    state, parts = None, []
    for start, end in ((0, 1), (1, 4), (4, 37)):
        part, state = prepared(x[start:end], state)
        parts.append(part)
    assert np.array_equal(np.concatenate(parts), y)
    assert all(np.array_equal(a, b) for a, b in zip(flat(state), flat(final)))
    wide = kind(300, 300, seed=0).prepare("int8")
    many = drawn(20, 32, 300)
    want = wide(many)[0]
    try:
        for threads in (1, 2, 3):
            bptt.set_num_threads(threads)
            assert np.array_equal(wide(many)[0], want)
            assert np.array_equal(wide(many[:, :1].copy())[0], want[:, :1])
    finally:
        bptt.set_num_threads(before)


@every_isa
def test_numbers_that_are_not_finite_and_very_small_or_large_ones(isa: str) -> None:
    layer, x = LSTM(5, 20, seed=0), drawn(8, 3, 5)
    prepared = layer.prepare("int8")
    want = prepared(x)[0]
    for value in (np.nan, np.inf, -np.inf):
        odd = x.copy()
        odd[4, 1, 2] = value
        y = prepared(odd)[0]
        assert np.isnan(y[4:, 1]).all()
        assert np.array_equal(y[:4], want[:4])
        assert np.array_equal(y[:, [0, 2]], want[:, [0, 2]])
    assert np.array_equal(prepared(x * np.float32(1e-36))[0], prepared(np.zeros_like(x))[0])
    for factor in (1e-20, 1e20, 3e37):
        scaled = x * np.float32(factor)
        assert distance(prepared(scaled), of_reference(layer, scaled)) < TOLERANCE_OF_INT8


@pytest.mark.parametrize("kind", KINDS)
def test_as_near_the_layer_as_documented(kind: Any) -> None:
    for T, H in ((1, 256), (100, 256), (30, 512)):
        layer, x = kind(H, H, seed=0), drawn(T, 1, H)
        far = distance(layer.prepare("int8")(x), layer(x))
        assert 1e-4 < far < (1.5e-2 if kind is RNN else 1e-2)  # in 8 bits indeed


# --- the object


def test_it_is_small_and_says_what_it_is() -> None:
    layer = LSTM(256, 256, seed=0)
    prepared = layer.prepare("int8")
    assert prepared.weights == "int8"
    assert prepared.nbytes < 0.27 * layer.prepare().nbytes
    assert f"int8 for {_core.isa()}" in repr(prepared)
    x = drawn(3, 1, 256)
    for twin in (copy.deepcopy(prepared), pickle.loads(pickle.dumps(prepared))):
        assert np.array_equal(twin(x)[0], prepared(x)[0])
        assert twin.nbytes == prepared.nbytes
    layer.parameters["bias_hh_l0"] = np.ones(1024)
    assert prepared.stale
    before = prepared(x)[0]
    prepared.refresh()
    assert not np.allclose(prepared(x)[0], before)


def test_it_replaces_bfloat16() -> None:
    layer, x = GRU(20, 30, compute="bf16_if_available", seed=0), drawn(5, 2, 20)
    plain = GRU(20, 30, seed=0)
    assert np.array_equal(layer.prepare("int8")(x)[0], plain.prepare("int8")(x)[0])


@pytest.mark.parametrize(
    ("message", "layer"),
    [
        ("LSTM.prepare: weights is 'int8' with float64", LSTM(2, 3, dtype="float64")),
        ("LSTM.prepare: weights is int8, which lstm has no kernels", LSTM(2, 3, peepholes=True)),
        ("LSTM.prepare: weights is int8, which lstm has no kernels", LSTM(2, 3, proj_size=2)),
        ("GRU.prepare: weights is int8, which gru has no kernels", GRU(2, 3, zoneout=0.1)),
        ("GRU.prepare: weights is int8, which gru has no kernels", GRU(2, 3, reset_after=False)),
        ("RNN.prepare: weights is int8, which rnn has no kernels", RNN(2, 3, skip=1)),
        ("RNN.prepare: weights is int8, which rnn has no kernels", RNN(2, 3, layer_norm=True)),
        ("MGU.prepare: weights is int8, which mgu has no kernels", bptt.MGU(2, 3)),
    ],
)
def test_errors(message: str, layer: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.prepare("int8")


def test_weights_that_cannot_be_rounded_are_refused() -> None:
    layer = LSTM(2, 3, seed=0)
    prepared, x = layer.prepare("int8"), drawn(3, 1, 2)
    want = prepared(x)[0]
    layer.parameters["weight_hh_l0"][1, 2] = np.nan
    for refused in (prepared.refresh, lambda: layer.prepare("int8")):
        with pytest.raises(ValueError, match="weight_hh_l0 has numbers that are not finite"):
            refused()
    assert np.array_equal(prepared(x)[0], want)
    with pytest.raises(ValueError, match=r"LSTM.prepare: weights is 'int4', expected one of"):
        layer.prepare("int4")
