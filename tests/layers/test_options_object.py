# SPDX-License-Identifier: MIT
"""Layers with options as objects: streams, truncated BPTT, files, copies, printing, errors."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import GRU, LSTM, LSTM1997, MGU, RNN, SLSTM, init
from support.problems import flat, state_of

Options = dict[str, Any]
STREAMED: list[tuple[Any, Options]] = [
    (RNN, {"leak": 0.3, "activation": "relu", "preact_clip": 1.0}),
    (LSTM, {"peepholes": True, "forget_gate": "coupled", "cell_clip": 0.5}),
    (LSTM, {"zoneout": (0.2, 0.3), "recurrent_dropout": 0.4, "output_activation": "identity"}),
    (GRU, {"gate_activation": "hard_sigmoid", "zoneout": 0.2, "bias": False}),
    (GRU, {"residual": True, "dropout": 0.5, "variational_dropout": True}),
    (GRU, {"reset_after": False, "zoneout": 0.1}),
    (MGU, {"preact_clip": 0.5, "residual": True, "batch_first": True}),
    (SLSTM, {"heads": 3, "residual": True}),
    (SLSTM, {"zoneout": (0.1, 0.2)}),
    (LSTM, {"proj_size": 2}),
    (LSTM, {"proj_size": 5, "peepholes": True, "forget_gate": "coupled", "zoneout": (0.1, 0.3)}),
    (LSTM1997, {"residual": True}),
    (LSTM1997, {"zoneout": (0.1, 0.2), "bias": False}),
    (LSTM, {"layer_norm": True, "peepholes": True, "residual": True}),
    (GRU, {"layer_norm": True, "zoneout": 0.2}),
]


def equal(a: Any, b: Any) -> bool:
    return all(np.array_equal(p, q) for p, q in zip(flat(a), flat(b)))


# --- streams


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "options"), STREAMED, ids=str)
def test_streams_have_the_bits_of_the_whole(kind: Any, options: Options, dtype: str) -> None:
    layer = kind(6, 6, 2, seed=0, dtype=dtype, **options)
    x = np.random.default_rng(0).standard_normal((40, 3, 6)).astype(dtype)
    swap = (lambda a: a.swapaxes(0, 1)) if layer.batch_first else (lambda a: a)
    y, final = layer(swap(x))
    stream = layer.stream(3)
    kept = x.copy()
    assert np.array_equal([stream.step(x_t) for x_t in x], swap(y))
    assert np.array_equal(x, kept)
    assert equal(stream.state, final)
    stream.reset()
    parts = [stream.process(swap(x[a:b])) for a, b in ((0, 7), (7, 40))]
    assert np.array_equal(np.concatenate(parts, int(layer.batch_first)), y)
    stream.state = final
    assert equal(stream.state, final)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(k, {}) for k in (RNN, LSTM, GRU, MGU, SLSTM, LSTM1997)] + [(LSTM, {"proj_size": 3})],
)
def test_a_stream_resets_some_of_its_sequences(kind: Any, options: Options) -> None:
    layer = kind(2, 5, 2, seed=0, **options)
    x = np.random.default_rng(0).standard_normal((9, 3, 2)).astype(np.float32)
    resets = np.zeros((9, 3), bool)
    resets[4, 1] = resets[6] = True
    stream, y = layer.stream(3), []
    for t, x_t in enumerate(x):
        if t == 4:
            stream.reset([False, True, False])
        if t == 6:
            stream.reset()
        y.append(stream.step(x_t))
    whole, final = layer(x, resets=resets)
    assert np.array_equal(y, whole)
    assert equal(stream.state, final)


# --- truncated BPTT


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (LSTM, {"dilation": (1, 3), "skip": 0, "peepholes": True}),
        (GRU, {"dilation": 2, "skip": 2, "residual": True}),
        (SLSTM, {"skip": 1, "heads": 2}),
        (MGU, {"batch_first": True}),
        (LSTM1997, {}),
    ],
)
def test_truncated_bptt_carries_what_the_options_need(kind: Any, options: Options) -> None:
    layer = kind(4, 4, 2, seed=0, dtype="float64", **options)
    x = np.random.default_rng(0).standard_normal((12, 12, 4))
    resets = np.random.default_rng(1).random((12, 12)) < 0.1 if "dilation" not in options else None
    y, final, tape = layer.forward(x, resets=resets)
    chunks = bptt.tbptt(layer, x, 5, 12, resets=resets)
    got = []
    for chunk in chunks:
        got.append(chunk.y)
        grads = chunk.backward(np.ones_like(chunk.y), step_clip=("norm", 0.5))
    assert np.allclose(np.concatenate(got, int(layer.batch_first)), y, atol=1e-14)
    assert all(np.allclose(a, b, atol=1e-14) for a, b in zip(flat(chunk.state), flat(final)))
    dy = np.zeros_like(y)  # of the last chunk
    (dy[:, 10:] if layer.batch_first else dy[10:])[...] = 1
    want = layer.backward(tape, dy, step_clip=("norm", 0.5))
    for name, value in want.params.items():
        np.testing.assert_allclose(grads.params[name], value, atol=1e-12)
    np.testing.assert_allclose(grads.x, want.x, atol=1e-13)


# --- files, copies, printing, initialisers


FULL = {"peepholes": True, "forget_gate": "coupled", "zoneout": (0.1, 0.2), "dilation": [1, 2]}


def test_parameters_survive_files_and_layers_copies(tmp_path: Path) -> None:
    norm: Options = {"layer_norm": True}
    for kind, options in (
        (LSTM, FULL),
        (SLSTM, {"heads": 2}),
        (MGU, {"residual": True}),
        (LSTM, norm),
        (LSTM1997, {}),
    ):
        layer, other = (kind(4, 4, 2, seed=s, **options) for s in (0, 1))
        x = np.random.default_rng(0).standard_normal((5, 2, 4))
        bptt.save(tmp_path / "layer.npz", layer.parameters)
        other.load(bptt.load(tmp_path / "layer.npz"))
        assert equal(other(x), layer(x))
        twins = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
        y, _, tape = layer.forward(x)
        for twin in twins:
            again, _, its = twin.forward(x)
            assert np.array_equal(again, y)
            assert np.array_equal(twin.backward(its, y).x, layer.backward(tape, y).x)
            assert repr(twin) == repr(layer)


def test_names_and_shapes_of_parameters() -> None:
    layer = LSTM(3, 4, 2, bidirectional=True, peepholes=True)
    assert list(layer.parameters)[:10] == [
        *("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "peephole_l0"),
        *(f"{n}_l0_reverse" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "peephole")),
    ]
    assert layer.parameters["peephole_l1_reverse"].shape == (3, 4)
    none = LSTM(3, 4, forget_gate="none", peepholes=True, bias=False)
    assert {k: v.shape for k, v in none.parameters.items()} == {
        "weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4), "peephole_l0": (2, 4),
    }  # fmt: skip
    assert SLSTM(3, 6, 2, heads=2).parameters["weight_hh_l1"].shape == (24, 3)
    assert MGU(3, 6).parameters["weight_hh_l0"].shape == (12, 6)
    assert LSTM1997(3, 6, 2).parameters["weight_hh_l1"].shape == (18, 18)


def test_layer_norm_starts_as_normalisation_alone() -> None:
    kinds: list[tuple[Any, int]] = [(RNN, 1), (LSTM, 4), (GRU, 3), (MGU, 2), (SLSTM, 4)]
    for kind, gates in kinds:
        plain, layer = (kind(3, 5, 2, seed=0, layer_norm=n) for n in (False, True))
        added = {n: p for n, p in layer.parameters.items() if n not in plain.parameters}
        shapes = {"gain_ih": (gates * 5,), "gain_hh": (gates * 5,)}
        shapes |= {"gain_c": (5,), "bias_c": (5,)} if kind is LSTM else {}
        assert {n: p.shape for n, p in added.items()} == {
            f"{n}_l{k}": shape for k in (0, 1) for n, shape in shapes.items()
        }
        assert all(np.all(p == (0 if n.startswith("bias") else 1)) for n, p in added.items())
        # The scale of the weights is normalised away.
        x = np.random.default_rng(0).standard_normal((5, 2, 3))
        y = layer(x)[0]
        for name in ("weight_ih_l0", "weight_hh_l1"):
            layer.parameters[name] *= 64
        np.testing.assert_allclose(layer(x)[0], y, atol=1e-2)
        assert not np.allclose(plain(x)[0], y, atol=0.1)


def test_repr_shows_options() -> None:
    first = repr(LSTM(3, 4, 2, seed=0, **FULL)).split("\n")[0]
    assert first == (
        "LSTM(3, 4, num_layers=2, peepholes=True, forget_gate='coupled', dilation=(1, 2), "
        "zoneout=(0.1, 0.2))"
    )
    assert repr(SLSTM(3, 4, heads=2, skip=2, dilation=2)).startswith(
        "SLSTM(3, 4, heads=2, dilation=2, skip=2)\n"
    )


def test_states_of_dilations() -> None:
    x = np.zeros((5, 2, 3))
    for dilation, shape in ((1, (4, 2, 4)), (3, (4, 3, 2, 4)), ((1, 3), (8, 2, 4))):
        layer = SLSTM(3, 4, 2, bidirectional=True, dilation=dilation)
        state = layer(x)[1]
        assert [part.shape for part in state] == [shape] * 4
        assert [part.shape for part in layer(x, state)[1]] == [shape] * 4
    assert LSTM(3, 4, 2, dilation=(2, 2))(x)[1][0].shape == (2, 2, 2, 4)


def test_initialisers_know_the_forget_gate() -> None:
    lstm = SLSTM(3, 4)
    init.forget_bias(lstm, 2.0)
    assert np.all(lstm.parameters["bias_ih_l0"][4:8] == 2)
    init.orthogonal(SLSTM(3, 4).parameters["weight_hh_l0"], 0, gates=4)
    for forget_gate in ("coupled", "none"):
        layer = LSTM(3, 4, forget_gate=forget_gate)
        message = f"chrono: layer has forget_gate '{forget_gate}', expected 'own'"
        with pytest.raises(ValueError, match=re.escape(message)):
            init.chrono(layer, 10)
    for name, call in (("forget_bias", init.forget_bias), ("chrono", lambda l: init.chrono(l, 9))):
        message = f"{name}: layer is an LSTM1997, expected one with a forget gate"
        with pytest.raises(ValueError, match=message):
            call(LSTM1997(3, 4))
    with pytest.raises(ValueError, match="irnn: layer has 3 gates per unit, expected 1"):
        init.irnn(LSTM1997(3, 4))


def test_initialisers_know_units_from_columns() -> None:
    for layer in (LSTM(3, 6, proj_size=2), SLSTM(3, 6, heads=3)):
        init.forget_bias(layer, 2.0)
        bias = layer.parameters["bias_ih_l0"] + layer.parameters["bias_hh_l0"]
        assert np.all(bias[6:12] == 2)
        init.chrono(layer, 20, 0)
        bias = layer.parameters["bias_ih_l0"] + layer.parameters["bias_hh_l0"]
        assert np.all((bias[6:12] > 0) & (bias[6:12] < np.log(19)))


def test_the_carousel_of_1997_carries_the_gradient_as_it_is() -> None:
    layer, rng = LSTM1997(3, 4, dtype="float64", seed=0), np.random.default_rng(0)
    tape = layer.forward(rng.standard_normal((50, 2, 3)))[2]
    dh, dc = rng.standard_normal((2, 1, 2, 4))
    h, c, i, o = layer.backward(tape, None, (None, dc, None, None)).state
    assert np.array_equal(c, dc)
    assert not any(part.any() for part in (h, i, o))
    h, c, i, o = layer.backward(tape, None, (dh, None, None, None)).state
    assert np.abs(c).min() > 0
    assert not any(part.any() for part in (h, i, o))


# --- errors


X = np.zeros((5, 2, 3))
CALLS: list[tuple[Any, type[Exception], str]] = [
    (lambda: RNN(3, 4, leak=1.5), ValueError, "RNN: leak is 1.5, expected more than 0 and at"),
    (lambda: RNN(3, 4, leak="a"), TypeError, "RNN: leak is 'a', expected a number"),  # type: ignore[arg-type]
    (lambda: GRU(3, 4, preact_clip=0.0), ValueError, "GRU: preact_clip is 0.0, expected more"),
    (lambda: LSTM(3, 4, cell_clip=-1), ValueError, "LSTM: cell_clip is -1, expected more than 0"),
    (lambda: LSTM(3, 4, forget_gate="x"), ValueError, "LSTM: forget_gate is 'x', expected one of"),
    (lambda: LSTM(3, 4, peepholes=3), TypeError, "LSTM: peepholes is 3, expected True or False"),  # type: ignore[arg-type]
    (
        lambda: GRU(3, 4, activation="sigmoids"),
        ValueError,
        "GRU: activation is 'sigmoids', expected",
    ),
    (lambda: GRU(3, 4, gate_activation="tan"), ValueError, "GRU: gate_activation is 'tan', exp"),
    (lambda: SLSTM(3, 4, heads=3), ValueError, "SLSTM: hidden_size is 4, expected a multiple of"),
    (lambda: SLSTM(3, 4, heads=0), ValueError, "SLSTM: heads is 0, expected 1 or more"),
    (lambda: MGU(3, 4, zoneout=1.5), ValueError, "MGU: zoneout is 1.5, expected a probability"),
    (lambda: MGU(3, 4, zoneout=(0.1, 0.1)), ValueError, "MGU: zoneout has 2 items, expected one"),
    (lambda: LSTM(3, 4, zoneout=(0.1, 2)), ValueError, "LSTM: zoneout[1] is 2, expected a prob"),
    (lambda: GRU(3, 4, recurrent_dropout=-1), ValueError, "GRU: recurrent_dropout is -1, expected"),
    (lambda: GRU(3, 4, dilation=0), ValueError, "GRU: dilation is 0, expected 1 or more"),
    (lambda: GRU(3, 4, dilation=1.5), TypeError, "GRU: dilation is 1.5, expected a whole number"),  # type: ignore[arg-type]
    (lambda: GRU(3, 4, dilation=(1, 2)), ValueError, "GRU: dilation has 2 items, expected num_lay"),
    (lambda: GRU(3, 4, skip=3, dilation=2), ValueError, "GRU: skip is 3, expected a multiple of"),
    (lambda: GRU(3, 4, residual=1), TypeError, "GRU: residual is 1, expected True or False"),  # type: ignore[arg-type]
    (
        lambda: SLSTM(3, 4)(X, (X, X)),
        TypeError,
        "SLSTM: state is tuple, expected a tuple (h, c, n, m)",
    ),
    (
        lambda: LSTM1997(3, 4)(X, (X, X)),
        TypeError,
        "LSTM1997: state is tuple, expected a tuple (h, c, i, o)",
    ),
    (
        lambda: LSTM1997(3, 4, recurrent_dropout=0.5),  # type: ignore[call-arg]
        TypeError,
        "LSTM1997: recurrent_dropout is given, expected some of ['input_size', 'hidden_size', ",
    ),
    (
        lambda: GRU(3, 4, dilation=2)(X, np.zeros((1, 2, 4))),
        ValueError,
        "GRU: state has shape (1, 2, 4), expected (num_layers * directions, dilation, B, H) = "
        "(1, 2, 2, 4)",
    ),
    (
        lambda: GRU(3, 4, 2, dilation=(1, 4))(X, np.zeros((2, 2, 4))),
        ValueError,
        "GRU: state has shape (2, 2, 4), expected (sum of dilations * directions, B, H) = "
        "(5, 2, 4)",
    ),
    (
        lambda: GRU(3, 4)(X, resets=np.zeros((2, 5), bool)),
        ValueError,
        "GRU: resets has shape (2, 5), expected (T, B) = (5, 2)",
    ),
    (
        lambda: GRU(3, 4, batch_first=True)(X, resets=np.zeros((2, 5), bool)),
        ValueError,
        "GRU: resets has shape (2, 5), expected (B, T) = (5, 2)",
    ),
    (
        lambda: GRU(3, 4)(X, resets=np.zeros((5, 2))),
        TypeError,
        "GRU: resets has dtype float64, expected bool",
    ),
    (
        lambda: GRU(3, 4, 2, dilation=(1, 2))(X, resets=np.zeros((5, 2), bool)),
        ValueError,
        "GRU: resets are given, expected none with a dilation",
    ),
    (
        lambda: GRU(3, 4, dilation=2).stream(),
        ValueError,
        "GRU.stream: the layer has dilation 2, expected 1",
    ),
    (
        lambda: GRU(3, 4, skip=1).stream(),
        ValueError,
        "GRU.stream: the layer has skip 1, expected 0",
    ),
    (
        lambda: GRU(3, 4).stream(2).reset([True]),
        ValueError,
        "stream.reset: mask has shape (1,), expected (B,) = (2,)",
    ),
    (
        lambda: GRU(3, 4).stream(2).reset([0, 1]),
        TypeError,
        "stream.reset: mask has dtype int64, expected bool",
    ),
    (
        lambda: bptt.tbptt(GRU(3, 4, skip=2), X, 2, 2),
        ValueError,
        "tbptt: the layer has skip 2, expected at most its dilation = 1",
    ),
    (lambda: GRU(3, 4, layer_norm=1), TypeError, "GRU: layer_norm is 1, expected True or False"),  # type: ignore[arg-type]
    (
        lambda: GRU(3, 4, layer_norm=True, reset_after=False),
        ValueError,
        "GRU: layer_norm is given with reset_after=False, expected True",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), CALLS, ids=[row[2] for row in CALLS])
def test_bad_options_and_calls(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_bad_control_of_the_gradient() -> None:
    dilated, plain = GRU(3, 4, 2, dilation=(2, 1)), GRU(3, 4)
    tapes = [layer.forward(X)[2] for layer in (dilated, plain)]
    with pytest.raises(ValueError, match="GRU: cut is 2, expected None with a dilation"):
        dilated.backward(tapes[0], cut=2)
    with pytest.raises(ValueError, match="cut is 0, expected 1 or more"):
        plain.backward(tapes[1], cut=0)
    with pytest.raises(ValueError, match="expected 'h' or 'gates': the cell has no c"):
        plain.backward(tapes[1], step_clip=("norm", 1.0, "c"))


def test_a_state_may_miss_parts() -> None:
    layer = SLSTM(3, 4, dtype="float64", seed=0)
    h, c, n, m = layer(np.ones((5, 2, 3)))[1]
    whole = layer(X, state_of([h, np.zeros_like(c), n, m]))
    assert equal(layer(X, (h, None, n, m)), whole)


def test_a_projected_lstm_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.LSTM(5, 7, 2, bidirectional=True, proj_size=3, dtype=torch.float64)
    layer = LSTM(5, 7, 2, bidirectional=True, proj_size=3, dtype="float64")
    layer.load({name: p.detach().numpy() for name, p in net.named_parameters()})
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((9, 4, 5)), rng.standard_normal((9, 4, 6))
    y, (h, c), tape = layer.forward(x)
    given = torch.from_numpy(x).requires_grad_()
    want, (want_h, want_c) = net(given)
    want.backward(torch.from_numpy(dy))
    grads = layer.backward(tape, dy)
    for got, of_torch in ((y, want), (h, want_h), (c, want_c)):
        assert np.allclose(got, of_torch.detach().numpy(), rtol=0, atol=1e-12)
    assert np.allclose(grads.x, given.grad.numpy(), rtol=0, atol=1e-12)
    for name, p in net.named_parameters():
        assert np.allclose(grads.params[name], p.grad.numpy(), rtol=0, atol=1e-11), name


def test_a_projection_is_smaller() -> None:
    with pytest.raises(ValueError, match="LSTM: proj_size is 7, expected less than hidden_size"):
        LSTM(5, 7, proj_size=7)
