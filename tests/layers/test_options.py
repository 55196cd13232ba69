# SPDX-License-Identifier: MIT
"""Options of the recurrent layers: each layer is the reference's functions, put together."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from bptt import GRU, LSTM, LSTM1997, MGU, RNN, SLSTM, reference
from bptt.derivatives.gradcheck import gradcheck
from bptt.layers import Recurrent
from support.compare import TOLERANCE, assert_close
from support.problems import flat, state_of

LAYERS: dict[str, Any] = {"rnn": RNN, "lstm": LSTM, "gru": GRU, "mgu": MGU, "slstm": SLSTM}
LAYERS |= {"lstm1997": LSTM1997}
MASKED = [name for name in LAYERS if name != "lstm1997"]  # with recurrent_dropout
CELLS: list[tuple[str, dict[str, Any]]] = [
    ("rnn", {"leak": 0.3, "preact_clip": 0.4}),
    ("lstm", {"peepholes": True, "cell_clip": 0.3}),
    ("lstm", {"forget_gate": "coupled", "peepholes": True}),
    ("lstm", {"proj_size": 4}),
    ("lstm", {"proj_size": 2, "zoneout": (0.3, 0.2), "recurrent_dropout": 0.3, "dropout": 0.2}),
    ("lstm", {"proj_size": 3, "dilation": 2, "forget_gate": "none", "peepholes": True}),
    ("lstm", {"forget_gate": "none", "gate_activation": "hard_sigmoid"}),
    ("lstm", {"activation": "relu", "output_activation": "identity", "preact_clip": 0.4}),
    ("gru", {"gate_activation": "hard_sigmoid", "activation": "identity", "preact_clip": 0.3}),
    ("gru", {"reset_after": False, "zoneout": 0.2}),
    ("mgu", {}),
    ("mgu", {"preact_clip": 0.3, "bias": False}),
    ("slstm", {}),
    ("slstm", {"heads": 2}),
    ("lstm1997", {}),
    ("lstm1997", {"bias": False, "batch_first": True}),
    ("rnn", {"layer_norm": True, "leak": 0.3}),
    ("lstm", {"layer_norm": True, "peepholes": True}),
    ("lstm", {"layer_norm": True, "forget_gate": "coupled", "proj_size": 4, "bias": False}),
    ("gru", {"layer_norm": True, "zoneout": 0.2, "recurrent_dropout": 0.3}),
    ("mgu", {"layer_norm": True, "dilation": 2}),
    ("slstm", {"layer_norm": True, "heads": 2}),
]
COMMON: list[dict[str, Any]] = [
    {"dilation": 3},
    {"dilation": (1, 2)},
    {"skip": 2},
    {"skip": 2, "dilation": (1, 2), "zoneout": 0.2},
    {"residual": True},
    {"zoneout": 0.4},
    {"recurrent_dropout": 0.3},
    {"dropout": 0.4, "variational_dropout": True},
]
EVERYTHING = {"skip": 1, "residual": True, "zoneout": 0.3, "recurrent_dropout": 0.3}
EVERYTHING |= {"dropout": 0.3, "variational_dropout": True}
EVERYTHING_1997 = {name: v for name, v in EVERYTHING.items() if name != "recurrent_dropout"}
CASES = [
    *CELLS,
    *(
        (cell, options)
        for cell in LAYERS
        for options in COMMON
        if cell in MASKED or "recurrent_dropout" not in options
    ),
    ("lstm", {"zoneout": (0.4, 0.2)}),
    ("slstm", {"zoneout": (0.0, 0.3), "heads": 3}),
    ("lstm", {**EVERYTHING, "zoneout": (0.4, 0.2), "peepholes": True}),
    ("gru", {**EVERYTHING, "batch_first": True}),
    ("slstm", {**EVERYTHING, "heads": 2}),
    ("lstm1997", {**EVERYTHING_1997, "zoneout": (0.4, 0.2)}),
]
IDS = [f"{cell}-{options}" for cell, options in CASES]
CELL_OPTIONS = ("activation", "gate_activation", "output_activation", "forget_gate", "leak")
CELL_OPTIONS += ("cell_clip", "preact_clip", "heads", "reset_after")
NORM = ("gain_ih", "gain_hh", "gain_c", "bias_c")
T, B, H = 7, 3, 6


def make(cell: str, options: dict[str, Any], **more: Any) -> Recurrent:
    given = {"dtype": "float64", "seed": 5, "num_layers": 2} | more | options
    columns = H * (1 + given.get("bidirectional", False)) if given.get("residual") else 4
    layer: Recurrent = LAYERS[cell](columns, H, **given)
    rng = np.random.default_rng(2)
    for name, p in layer.parameters.items():
        if name.startswith(("gain_", "bias_c_")):  # all equal at first
            p += 0.5 * rng.standard_normal(p.shape).astype(p.dtype)
    return layer


def random_state(layer: Recurrent, rng: np.random.Generator, batch: int = B) -> Any:
    """As the layer itself returns it, with other numbers."""
    shape = (batch, 0, layer.input_size) if layer.batch_first else (0, batch, layer.input_size)
    parts = [rng.standard_normal(s.shape).astype(s.dtype) for s in flat(layer(np.zeros(shape))[1])]
    if isinstance(layer, SLSTM):
        parts[2] = np.abs(parts[2]) + 1  # n is a sum of positive numbers
    return state_of(parts)


def rows_of(layer: Recurrent, state: Any) -> list[Any]:
    """One state for each layer and direction, counted by hand."""
    found, at, equal = [], 0, len(set(layer.dilations)) == 1
    for dilation in layer.dilations:
        for _ in range(1 + layer.bidirectional):
            rows = slice(at, at + dilation)
            pick = at if equal or dilation == 1 else rows
            found.append(state_of([part[pick] for part in flat(state)]))
            at += 1 if equal else dilation
    return found


class Composed:
    """What a layer should give, of the reference's functions and the masks on the layer's tape."""

    def __init__(self, layer: Recurrent, tape: Any, resets: Any, lengths: Any) -> None:
        self.layer, self.tape, self.directions = layer, tape, 1 + layer.bidirectional
        self.cell = type(layer).__name__.lower()
        shape = (tape.shape[0], tape.shape[1])
        ends = np.full(shape[1], shape[0]) if lengths is None else np.asarray(lengths)
        self.inside = (np.arange(shape[0])[:, None] < ends)[..., None]
        self.lengths, self.resets = lengths, (resets, None)
        if resets is not None:
            other = np.zeros_like(resets)
            for t, b in zip(*np.nonzero(resets)):
                if 0 < t < ends[b]:
                    other[t - 1, b] = True
            self.resets = (resets, other)

    def arguments(self, k: int) -> dict[str, Any]:
        layer, tape, (number, reverse) = self.layer, self.tape, divmod(k, self.directions)
        suffix, p = f"_l{number}" + "_reverse" * reverse, layer.parameters
        given = {o: getattr(layer, o) for o in CELL_OPTIONS if hasattr(layer, o)}
        given |= {"w_ih": p["weight_ih" + suffix], "w_hh": p["weight_hh" + suffix]}
        given |= {"b_ih": p.get("bias_ih" + suffix), "b_hh": p.get("bias_hh" + suffix)}
        if "peephole" + suffix in p:
            given["peepholes"] = p["peephole" + suffix]
        if "weight_hr" + suffix in p:
            given["w_hr"] = p["weight_hr" + suffix]
        if getattr(layer, "layer_norm", False):
            given["layer_norm"] = tuple(p[n + suffix] for n in NORM if n + suffix in p)
        if tape.zoneout:
            given["zoneout"] = tape.zoneout[k]
        if tape.h_masks:
            given["h_mask"] = tape.h_masks[k]
        return given | {
            "dilation": layer.dilations[number], "skip": layer.skip, "reverse": bool(reverse),
            "resets": self.resets[reverse], "lengths": self.lengths,
        }  # fmt: skip

    def adds(self, number: int) -> bool:
        layer = self.layer
        wide = layer.hidden_size * self.directions
        return layer.residual and (number > 0 or layer.input_size == wide)

    def run(self, x: Any, state: Any, dy: Any, dstate: Any) -> dict[str, Any]:
        layer, D, y, tapes, finals = self.layer, self.directions, x, [], []
        initial, dfinal = rows_of(layer, state), rows_of(layer, dstate)
        forward = getattr(reference, self.cell + "_forward")
        backward = getattr(reference, self.cell + "_backward")
        for number in range(layer.num_layers):
            below, ys = y, []
            y = y * self.tape.masks[number - 1] if number and self.tape.masks else y
            for k in range(number * D, number * D + D):
                out, final, tape = forward(y, state=initial[k], **self.arguments(k))
                ys.append(out), finals.append(final), tapes.append(tape)
            y = np.concatenate(ys, -1)
            y = y + np.where(self.inside, below, 0) if self.adds(number) else y
        found = {"y": y} | {
            f"final{i}-{k}": s for k, f in enumerate(finals) for i, s in enumerate(flat(f))
        }
        d = np.where(self.inside, dy, 0)
        for number in reversed(range(layer.num_layers)):
            above, d_below = d, 0
            for k in range(number * D, number * D + D):
                P = above.shape[-1] // D
                part = above[..., (k - number * D) * P : (k - number * D + 1) * P]
                g = backward(tapes[k], part, dfinal[k])
                d_below = d_below + g.x
                suffix = f"_l{number}" + "_reverse" * (k % D)
                named = {"weight_ih": g.w_ih, "weight_hh": g.w_hh, "bias_ih": g.b_ih}
                named |= {"bias_hh": g.b_hh, "peephole": g.peepholes, "weight_hr": g.w_hr}
                named |= dict(zip(NORM, g.layer_norm or ()))
                found |= {n + suffix: v for n, v in named.items() if n + suffix in layer.parameters}
                found |= {f"state{i}-{k}": s for i, s in enumerate(flat(g.state))}
            d = d_below * self.tape.masks[number - 1] if number and self.tape.masks else d_below
            d = d + above if self.adds(number) else d
        return found | {"x": d}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("cell", "options"), CASES, ids=IDS)
def test_a_layer_is_its_functions(
    cell: str, options: dict[str, Any], bidirectional: bool, dtype: str
) -> None:
    layer = make(cell, options, bidirectional=bidirectional, dtype=dtype)
    rng = np.random.default_rng(3)
    swap = (lambda a: a.swapaxes(0, 1)) if layer.batch_first else (lambda a: a)
    x = rng.standard_normal((T, B, layer.input_size)).astype(dtype)
    dy = rng.standard_normal((T, B, layer.structure.width * (1 + bidirectional))).astype(dtype)
    state, dstate = random_state(layer, rng), random_state(layer, rng)
    resets = None if max(layer.dilations) > 1 else rng.random((T, B)) < 0.3
    for lengths in (None, np.array([4, 7, 0])):
        if lengths is not None:
            for b, n in enumerate(lengths):  # padding is never read
                x[n:, b] = dy[n:, b] = np.nan
        marks = None if resets is None else swap(resets)
        y, final, tape = layer.forward(swap(x), state, lengths, marks)
        grads = layer.backward(tape, swap(dy), dstate)
        got = {"y": swap(y), "x": swap(grads.x), **grads.params}
        for label, s in (("final", final), ("state", grads.state)):
            for k, one in enumerate(rows_of(layer, s)):
                got |= {f"{label}{i}-{k}": part for i, part in enumerate(flat(one))}
        want = Composed(layer, tape, resets, lengths).run(x, state, dy, dstate)
        assert got.keys() == want.keys()
        assert {a.dtype for a in got.values()} == {np.dtype(dtype)}
        assert_close(got, want, TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("rnn", {"leak": 0.5}),
        ("lstm", {"peepholes": True, "forget_gate": "coupled", "zoneout": (0.3, 0.4)}),
        ("gru", {}),
        ("mgu", {}),
        ("slstm", {"heads": 2}),
        ("gru", {"layer_norm": True}),
    ],
)
def test_gradients_agree_with_differences(cell: str, options: dict[str, Any]) -> None:
    options = EVERYTHING | {"bidirectional": cell == "lstm"} | options
    width = 4 if cell == "lstm" else 2
    layer = LAYERS[cell](width, 2, 2, dtype="float64", seed=1, **options)
    rng = np.random.default_rng(0)
    x, resets = rng.standard_normal((4, 2, width)), rng.random((4, 2)) < 0.3

    def forward(x: Any) -> Any:  # copies draw the same masks
        return copy.deepcopy(layer).forward(x, None, [4, 3], resets)

    def backward(tape: Any, dy: Any, dstate: Any) -> Any:
        assert any(0 < np.mean(z) < 1 for z in flat(tape.zoneout[0]))
        return tape.layer.backward(tape, dy, dstate)

    gradcheck(forward, backward, {"x": x}, layer.parameters, rtol=1e-6)


# --- random masks


@pytest.mark.parametrize("options", [*COMMON[5:], {**EVERYTHING, "zoneout": (0.2, 0.4)}], ids=str)
def test_masks_are_those_of_the_seed(options: dict[str, Any]) -> None:
    x = np.ones((T, B, 6))
    a, b, other = (LSTM(6, 40, 2, seed=s, **options) for s in (7, 7, 8))
    first, second = a.forward(x), a.forward(x)
    assert not np.array_equal(first[0], second[0])
    twin = pickle.loads(pickle.dumps(b))
    for run in (b, twin):
        assert np.array_equal(run.forward(x)[0], first[0])
    assert np.array_equal(copy.deepcopy(b).forward(x)[0], second[0])

    def masks(tape: Any) -> bytes:
        found = [*tape.masks, *(z for pair in tape.zoneout for z in flat(pair)), *tape.h_masks]
        return b"".join(np.asarray(m).tobytes() for m in found)

    assert masks(first[2]) != masks(other.forward(x)[2])
    assert np.array_equal(a(x)[0], a(x)[0])


def test_values_and_shapes_of_masks() -> None:
    layer = LSTM(3, 50, 2, bidirectional=True, seed=0, **{**EVERYTHING, "zoneout": (0.2, 0.6)})
    tape = layer.forward(np.ones((20, 4, 3)))[2]
    assert [m.shape for m in tape.masks] == [(1, 4, 100)]
    assert [m.shape for m in tape.h_masks] == [(4, 50)] * 4
    np.testing.assert_allclose(np.unique(tape.masks), [0, 1 / 0.7], rtol=1e-6)
    np.testing.assert_allclose(np.unique(tape.h_masks), [0, 1 / 0.7], rtol=1e-6)
    for pair in tape.zoneout:
        for mask, p in zip(pair, (0.2, 0.6)):
            assert mask.shape == (20, 4, 50)
            assert set(np.unique(mask)) == {0, 1}
            assert abs(np.mean(mask) - p) < 0.05
            assert mask.dtype == np.float32
    plain = LSTM(3, 50, 2, dropout=0.3, seed=0)
    more = LSTM(3, 50, 2, dropout=0.3, zoneout=0.5, recurrent_dropout=0.5, seed=0)
    drawn = [layer.forward(np.ones((5, 4, 3)))[2].masks for layer in (plain, more)]
    assert np.array_equal(*drawn)


@pytest.mark.parametrize("cell", LAYERS)
def test_inference_takes_the_mean_of_zoneout(cell: str) -> None:
    many = 20000
    masked = {"recurrent_dropout": 0.5} if cell in MASKED else {}
    layer = LAYERS[cell](2, 3, dtype="float64", zoneout=0.3, seed=0, **masked)
    x = np.random.default_rng(0).standard_normal((1, 1, 2))
    state = random_state(layer, np.random.default_rng(1), 1)
    y, final = layer(x, state)
    p = {"w_ih": "weight_ih_l0", "w_hh": "weight_hh_l0", "b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"}
    arrays = {name: layer.parameters[n] for name, n in p.items()}
    one = state_of([s[0] for s in flat(state)])
    forward = getattr(reference, f"{cell}_forward")
    want, last, _ = forward(x, **arrays, state=one, zoneout=0.3)
    np.testing.assert_allclose(y, want, atol=1e-13)
    np.testing.assert_allclose(flat(final)[0][0], flat(last)[0], atol=1e-13)
    free = LAYERS[cell](2, 3, dtype="float64", zoneout=0.3, seed=0)
    tiled = state_of([np.tile(s, (1, many, 1)) for s in flat(state)])
    sampled = free.forward(np.tile(x, (1, many, 1)), tiled)[0].mean(1)
    np.testing.assert_allclose(sampled, y[:, 0], atol=0.02)


# --- resets


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", LAYERS)
def test_resets_split_a_sequence(cell: str, bidirectional: bool) -> None:
    layer = make(cell, {}, bidirectional=bidirectional)
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((10, 2, 4)), rng.standard_normal((10, 2, H * (1 + bidirectional)))
    resets = np.zeros((10, 2), bool)
    resets[[4, 5, 9]] = True  # the last one is beyond the end
    y, _, tape = layer.forward(x, None, [8, 8], resets)
    grads = layer.backward(tape, dy)
    total: dict[str, Any] = {}
    for a, b in ((0, 4), (4, 5), (5, 8)):
        part, _, piece = layer.forward(x[a:b])
        g = layer.backward(piece, dy[a:b])
        np.testing.assert_allclose(y[a:b], part, atol=1e-13)
        np.testing.assert_allclose(grads.x[a:b], g.x, atol=1e-13)
        total = {k: total.get(k, 0) + v for k, v in g.params.items()}
    assert_close(grads.params, total, 1e-12)
    np.testing.assert_array_equal(layer(x, None, [8, 8], resets)[0], y)


def test_a_reset_beyond_the_end_leaves_the_initial_state_of_the_reverse_direction() -> None:
    layer, rng = make("gru", {}, bidirectional=True), np.random.default_rng(0)
    x, state = rng.standard_normal((T, B, 4)), random_state(layer, rng)
    resets, lengths = np.zeros((T, B), bool), [4, 7, 2]
    resets[4, 0] = resets[2:, 2] = True
    for got, want in zip(layer(x, state, lengths, resets), layer(x, state, lengths)):
        np.testing.assert_array_equal(got, want)


# --- residual, gradient control


def test_residual_adds_inputs_as_wide_as_outputs() -> None:
    x = np.random.default_rng(0).standard_normal((T, B, 6))
    plain, residual = (MGU(6, 6, dtype="float64", seed=0, residual=r) for r in (False, True))
    np.testing.assert_array_equal(residual(x)[0], plain(x)[0] + x)
    np.testing.assert_array_equal(residual(x)[1], plain(x)[1])
    narrow = [MGU(5, 6, dtype="float64", seed=0, residual=r)(x[..., :5])[0] for r in (False, True)]
    np.testing.assert_array_equal(*narrow)


CONTROL: list[dict[str, Any]] = [
    {"cut": 2},
    {"step_clip": ("norm", 0.1, "gates")},
    {"step_clip": ("value", 0.02, "c"), "cut": 3},
]


@pytest.mark.parametrize("how", CONTROL, ids=str)
def test_control_of_the_gradient(how: dict[str, Any]) -> None:
    layer = LSTM(4, H, dtype="float64", peepholes=True, seed=0)
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((T, B, 4)), rng.standard_normal((T, B, H))
    p = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
    p["peepholes"] = "peephole"
    arrays = {name: layer.parameters[n + "_l0"] for name, n in p.items()}
    want = reference.lstm_backward(reference.lstm_forward(x, **arrays)[2], dy, **how)
    tape = layer.forward(x)[2]
    got = layer.backward(tape, dy, **how)
    assert_close(
        {name: got.params[n + "_l0"] for name, n in p.items()} | {"x": got.x},
        {name: getattr(want, name) for name in (*p, "x")},
        1e-11,
    )
    assert not np.allclose(got.x, layer.backward(tape, dy).x)
