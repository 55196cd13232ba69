# SPDX-License-Identifier: MIT
"""`layer_from_arrays` against each library's equations, written here in that library's layout."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bptt

T, B, I, H = 7, 3, 4, 5
RNG = np.random.default_rng(0)
X = RNG.standard_normal((T, B, I))


def draw(*shape: int) -> Any:
    return RNG.standard_normal(shape)


def sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


def hard(a: Any, slope: float, offset: float) -> Any:
    return np.clip(slope * a + offset, 0, 1)


def run(step: Callable[..., tuple[Any, ...]], states: int, x: Any = X) -> Any:
    """All outputs, from states of zeros."""
    state = (np.zeros((B, H)),) * states
    outputs = []
    for x_t in x:
        state = step(x_t, *state)
        outputs.append(state[0])
    return np.stack(outputs)


def both(step: Callable[..., Any], back: Callable[..., Any], states: int) -> Any:
    return np.concatenate([run(step, states), run(back, states, X[::-1])[::-1]], -1)


# Each returns the outputs, and the call that makes the layer.
Made = tuple[Any, Callable[[], Any]]


def keras_lstm(act: Callable[[Any], Any] = sigmoid) -> tuple[Callable[..., Any], Any]:
    kernel, recurrent, bias = draw(I, 4 * H), draw(H, 4 * H), draw(4 * H)

    def step(x: Any, h: Any, c: Any) -> Any:
        i, f, new, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=1)
        c = act(f) * c + act(i) * np.tanh(new)
        return act(o) * np.tanh(c), c

    return step, (kernel, recurrent, bias)


def of_keras_lstm() -> Made:
    step, arrays = keras_lstm()
    return run(step, 2), lambda: bptt.layer_from_arrays(
        "lstm", *arrays, gates="ifco", transposed=True
    )


def of_icu_bilstm() -> Made:
    (step, arrays), (back, others) = keras_lstm(), keras_lstm()
    return both(step, back, 2), lambda: bptt.layer_from_arrays(
        "lstm", *arrays, gates="ifco", transposed=True, reverse=others
    )


def of_keras_2_lstm() -> Made:
    step, arrays = keras_lstm(lambda a: hard(a, 0.2, 0.5))
    return run(step, 2), lambda: bptt.layer_from_arrays(
        "lstm", *arrays, gates="ifco", transposed=True, gate_activation=("hard_sigmoid", 0.2)
    )


def of_keras_gru(after: bool, slope: float = 0, offset: float = 0.5) -> Made:
    kernel, recurrent = draw(I, 3 * H), draw(H, 3 * H)
    bias = draw(2, 3 * H) if after else np.stack([draw(3 * H), np.zeros(3 * H)])

    def act(a: Any) -> Any:
        return hard(a, slope, offset) if slope else sigmoid(a)

    def step(x: Any, h: Any) -> Any:
        xz, xr, xh = np.split(x @ kernel + bias[0], 3, axis=1)
        hz, hr, hh = np.split(h @ recurrent + bias[1], 3, axis=1)
        z, r = act(xz + hz), act(xr + hr)
        inner = r * hh if after else (r * h) @ recurrent[:, 2 * H :]
        return (z * h + (1 - z) * np.tanh(xh + inner),)

    return run(step, 1), lambda: bptt.layer_from_arrays(
        "gru", kernel, recurrent, *bias[: 1 + after], gates="zrh", transposed=True,
        reset_after=after,
        gate_activation=("hard_sigmoid", slope, offset) if slope else "sigmoid",
    )  # fmt: skip


def of_onnx_lstm() -> Made:
    w, r, b, p = draw(4 * H, I), draw(4 * H, H), draw(8 * H), draw(3 * H)

    def step(x: Any, h: Any, c: Any) -> Any:
        wb, rb = np.split(b, 2)
        i, o, f, new = np.split(x @ w.T + h @ r.T + wb + rb, 4, axis=1)
        p_i, p_o, p_f = np.split(p, 3)
        c_new = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(new)
        return sigmoid(o + p_o * c_new) * np.tanh(c_new), c_new

    return run(step, 2), lambda: bptt.layer_from_arrays(
        "lstm", w, r, *np.split(b, 2), gates="iofc", peepholes=p.reshape(3, H)
    )


def of_onnx_gru() -> Made:
    w, r, b = draw(3 * H, I), draw(3 * H, H), draw(6 * H)

    def step(x: Any, h: Any) -> Any:
        (wz, wr, wh), (rz, rr, rh) = np.split(w, 3), np.split(r, 3)
        bz, br, bh, cz, cr, ch = np.split(b, 6)
        z = sigmoid(x @ wz.T + h @ rz.T + bz + cz)
        reset = sigmoid(x @ wr.T + h @ rr.T + br + cr)
        return ((1 - z) * np.tanh(x @ wh.T + (reset * h) @ rh.T + bh + ch) + z * h,)

    return run(step, 1), lambda: bptt.layer_from_arrays(
        "gru", w, r, *np.split(b, 2), gates="zrh", reset_after=False
    )


def of_dynet_lstm() -> Made:
    w, r, b = draw(4 * H, I), draw(4 * H, H), draw(4 * H)

    def step(x: Any, h: Any, c: Any) -> Any:
        i, f, o, g = np.split(x @ w.T + h @ r.T + b, 4, axis=1)
        c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    return run(step, 2), lambda: bptt.layer_from_arrays(
        "lstm", w, r, b, gates="ifog", forget_bias=1
    )


def of_dynet_gru() -> Made:
    nine = [draw(*shape) for _ in "zrh" for shape in ((H, I), (H, H), (H,))]

    def step(x: Any, h: Any) -> Any:
        wz, uz, bz, wr, ur, br, wh, uh, bh = nine
        z, r = sigmoid(x @ wz.T + h @ uz.T + bz), sigmoid(x @ wr.T + h @ ur.T + br)
        return ((1 - z) * h + z * np.tanh(x @ wh.T + (r * h) @ uh.T + bh),)

    return run(step, 1), lambda: bptt.layer_from_arrays(
        "gru", nine[::3], nine[1::3], nine[2::3], gates="zrh", update="inverted", reset_after=False
    )


def of_old_paddle_gru() -> Made:
    """Of Paddle before 2.0, as in jieba: the recurrent matrix is (D, 2D) and then (D, D)."""
    w, b, memory = draw(I, 3 * H), draw(3 * H), draw(3 * H * H)
    gates, new = memory[: 2 * H * H].reshape(H, 2 * H), memory[2 * H * H :].reshape(H, H)

    def step(x: Any, h: Any) -> Any:
        xu, xr, xc = np.split(x @ w + b, 3, axis=1)
        hu, hr = np.split(h @ gates, 2, axis=1)
        u, r = sigmoid(xu + hu), sigmoid(xr + hr)
        return ((1 - u) * h + u * np.tanh(xc + (r * h) @ new),)

    return run(step, 1), lambda: bptt.layer_from_arrays(
        "gru", w, np.hstack([gates, new]), b, gates="urc", transposed=True, update="inverted",
        reset_after=False,
    )  # fmt: skip


def of_cudnn(kind: str) -> Made:
    """One matrix for each linLayerID: the inputs' first."""
    G = 4 if kind == "lstm" else 3
    w, r, b, c = draw(G, H, I), draw(G, H, H), draw(G, H), draw(G, H)

    def lstm(x: Any, h: Any, cell: Any) -> Any:
        i, f, new, o = (x @ w[k].T + h @ r[k].T + b[k] + c[k] for k in range(4))
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(new)
        return sigmoid(o) * np.tanh(cell), cell

    def gru(x: Any, h: Any) -> Any:
        reset, i = (sigmoid(x @ w[k].T + h @ r[k].T + b[k] + c[k]) for k in range(2))
        new = np.tanh(x @ w[2].T + reset * (h @ r[2].T + c[2]) + b[2])
        return ((1 - i) * new + i * h,)

    y = run(lstm, 2) if kind == "lstm" else run(gru, 1)
    return y, lambda: bptt.layer_from_arrays(kind, w, r, b, c)


def of_rnnoise() -> Made:
    """Weights of 8 bits in units of 1/256, a candidate of ReLU."""
    w, r, b = (RNG.integers(-128, 128, s) for s in ((I, 3 * H), (H, 3 * H), (3 * H,)))

    def step(x: Any, h: Any) -> Any:
        pre = x @ w + b
        z = sigmoid((pre[:, :H] + h @ r[:, :H]) / 256)
        reset = sigmoid((pre[:, H : 2 * H] + h @ r[:, H : 2 * H]) / 256)
        new = np.maximum(0, (pre[:, 2 * H :] + (h * reset) @ r[:, 2 * H :]) / 256)
        return (z * h + (1 - z) * new,)

    return run(step, 1), lambda: bptt.layer_from_arrays(
        "gru", w / 256, r / 256, b / 256, gates="zrn", transposed=True, reset_after=False,
        activation="relu",
    )  # fmt: skip


def of_scrappie() -> Made:
    w, r, b, p = draw(4 * H, I), draw(4 * H, H), draw(4 * H), draw(3 * H)

    def step(x: Any, h: Any, c: Any) -> Any:
        pre = x @ w.T + h @ r.T + b
        forget = sigmoid(pre[:, 2 * H : 3 * H] + c * p[H : 2 * H]) * c
        update = sigmoid(pre[:, H : 2 * H] + c * p[:H]) * np.tanh(pre[:, :H])
        c = forget + update
        return sigmoid(pre[:, 3 * H :] + c * p[2 * H :]) * np.tanh(c), c

    return run(step, 2), lambda: bptt.layer_from_arrays(
        "lstm", w, r, b, gates="gifo", peepholes=p.reshape(3, H)
    )


def of_madmom_gru() -> Made:
    """A matrix (I, H) for each gate; the recurrent bias is 0."""
    names = ("r", "u", "h")
    w, r, b = {n: draw(I, H) for n in names}, {n: draw(H, H) for n in names}, draw(3, H)

    def step(x: Any, h: Any) -> Any:
        reset = sigmoid(x @ w["r"] + b[0] + h @ r["r"])
        u = sigmoid(x @ w["u"] + b[1] + h @ r["u"])
        new = np.tanh(x @ w["h"] + b[2] + reset * (h @ r["h"]))
        return ((1 - u) * h + u * new,)

    return run(step, 1), lambda: bptt.layer_from_arrays(
        "gru", list(w.values()), list(r.values()), b, gates="ruh", transposed=True,
        update="inverted",
    )  # fmt: skip


def of_tensorflow_1() -> Made:
    """BasicLSTMCell: one matrix for x and h side by side; 1 is added to the forget gate."""
    kernel, bias = draw(I + H, 4 * H), draw(4 * H)

    def step(x: Any, h: Any, c: Any) -> Any:
        i, j, f, o = np.split(np.hstack([x, h]) @ kernel + bias, 4, axis=1)
        c = c * sigmoid(f + 1.0) + sigmoid(i) * np.tanh(j)
        return np.tanh(c) * sigmoid(o), c

    return run(step, 2), lambda: bptt.layer_from_arrays(
        "lstm", kernel[:I], kernel[I:], bias, gates="ijfo", transposed=True, forget_bias=1
    )


def of_coupled_gates() -> Made:
    w, r, b, p = draw(I, 3 * H), draw(H, 3 * H), draw(3 * H), draw(2, H)

    def step(x: Any, h: Any, c: Any) -> Any:
        g, o, i = np.split(x @ w + h @ r + b, 3, axis=1)
        i = sigmoid(i + p[1] * c)
        c = (1 - i) * c + i * np.tanh(g)
        return sigmoid(o + p[0] * c) * np.tanh(c), c

    return run(step, 2), lambda: bptt.layer_from_arrays(
        "lstm", w, r, b, gates="goi", transposed=True, peepholes=p, forget_gate="coupled"
    )


def of_mgu_and_rnn(kind: str) -> Made:
    G = 2 if kind == "mgu" else 1
    w, r, b = draw(I, G * H), draw(H, G * H), draw(G * H)

    def mgu(x: Any, h: Any) -> Any:
        (xn, xf), (hn, hf) = (np.split(a, 2, axis=1) for a in (x @ w + b, h @ r))
        f = sigmoid(xf + hf)
        return ((1 - f) * np.tanh(xn + f * hn) + f * h,)

    y = run(mgu if kind == "mgu" else lambda x, h: (np.tanh(x @ w + h @ r + b),), 1)
    order = {"gates": "hf"} if kind == "mgu" else {}
    return y, lambda: bptt.layer_from_arrays(kind, w, r, b, transposed=True, **order)


CASES: dict[str, Callable[[], Made]] = {
    "Keras LSTM": of_keras_lstm,
    "ICU BiLSTM": of_icu_bilstm,
    "Keras 2 LSTM": of_keras_2_lstm,
    "Keras GRU after": lambda: of_keras_gru(True),
    "Keras GRU before": lambda: of_keras_gru(False),
    "Keras 2 GRU after": lambda: of_keras_gru(True, 0.2),
    "Keras 2 GRU before": lambda: of_keras_gru(False, 0.2),
    "hard sigmoid of another offset": lambda: of_keras_gru(True, 0.3, 0.4),
    "ONNX LSTM": of_onnx_lstm,
    "ONNX GRU": of_onnx_gru,
    "DyNet LSTM": of_dynet_lstm,
    "DyNet GRU": of_dynet_gru,
    "Paddle 1 GRU, jieba": of_old_paddle_gru,
    "cuDNN LSTM": lambda: of_cudnn("lstm"),
    "cuDNN GRU": lambda: of_cudnn("gru"),
    "RNNoise": of_rnnoise,
    "scrappie": of_scrappie,
    "madmom GRU": of_madmom_gru,
    "TensorFlow 1": of_tensorflow_1,
    "coupled gates": of_coupled_gates,
    "MGU": lambda: of_mgu_and_rnn("mgu"),
    "RNN": lambda: of_mgu_and_rnn("rnn"),
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_the_equations(name: str) -> None:
    y, make = CASES[name]()
    layer = make()
    assert layer.dtype == np.float64
    np.testing.assert_allclose(layer(X)[0], y, rtol=0, atol=1e-13 * np.abs(y).max())


@pytest.mark.parametrize("peepholes", [False, True])
def test_a_hard_sigmoid_of_any_slope(peepholes: bool) -> None:
    w, r, b, p = draw(4 * H, I), draw(4 * H, H), draw(4 * H), draw(3, H) * peepholes

    def step(x: Any, h: Any, c: Any) -> Any:
        i, f, g, o = np.split(x @ w.T + h @ r.T + b, 4, axis=1)
        c_new = hard(f + p[1] * c, 0.25, 0.6) * c + hard(i + p[0] * c, 0.25, 0.6) * np.tanh(g)
        return hard(o + p[2] * c_new, 0.25, 0.6) * np.tanh(c_new), c_new

    layer = bptt.layer_from_arrays(
        "lstm", w, r, b, peepholes=p, gate_activation=("hard_sigmoid", 0.25, 0.6)
    )
    np.testing.assert_allclose(layer(X)[0], run(step, 2), rtol=0, atol=1e-13)


def test_one_bias_two_or_none() -> None:
    w, r, b = draw(3 * H, I), draw(3 * H, H), draw(3 * H)
    none, first, second = (
        bptt.layer_from_arrays("gru", w, r, *biases) for biases in ((), (b,), (None, b))
    )
    assert not none.bias
    assert first.bias
    np.testing.assert_array_equal(first.parameters["bias_ih_l0"], b)
    assert not first.parameters["bias_hh_l0"].any()
    np.testing.assert_array_equal(second.parameters["bias_hh_l0"], b)
    mixed = bptt.layer_from_arrays("gru", w, r, reverse=(w, r, b))
    assert not mixed.parameters["bias_ih_l0"].any()
    np.testing.assert_array_equal(mixed.parameters["bias_ih_l0_reverse"], b)


def test_a_learnt_state_starts_at_zero() -> None:
    w, r = draw(3 * H, I), draw(3 * H, H)
    layer = bptt.layer_from_arrays("gru", w, r, reverse=(w, r), learn_state=True)
    assert layer.learn_state
    assert not layer.parameters["h0_l0"].any()
    assert not layer.parameters["h0_l0_reverse"].any()


def test_types_and_arrays_stay_the_callers() -> None:
    w, r = draw(3 * H, I), draw(3 * H, H)
    assert bptt.layer_from_arrays("gru", w.astype("f4"), r).dtype == np.float32
    assert bptt.layer_from_arrays("gru", w, r, dtype="float32").dtype == np.float32
    half, whole = w.astype("f2"), np.rint(3 * r).astype("i1")
    layer = bptt.layer_from_arrays("gru", half, whole, gates="zrn", update="inverted")
    order = np.r_[H : 2 * H, :H, 2 * H : 3 * H]
    sign = np.where(np.arange(3 * H) // H == 1, -1, 1)[:, None]
    np.testing.assert_array_equal(layer.parameters["weight_ih_l0"], half[order] * sign)
    np.testing.assert_array_equal(layer.parameters["weight_hh_l0"], whole[order] * sign)
    before = w.copy()
    bptt.layer_from_arrays("gru", w, r, update="inverted").parameters["weight_ih_l0"][...] = 0
    np.testing.assert_array_equal(w, before)


W, R, V = np.ones((4 * H, I)), np.ones((4 * H, H)), np.ones(4 * H)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("slstm", W, R), {}, "kind is 'slstm', expected one of ('rnn', 'lstm', 'gru', 'mgu')"),
        (("lstm", W, R), {"gates": "ifcc"}, "gates is 'ifcc', expected the letters of 'ifgo'"),
        (("lstm", W, R), {"gates": "ifg"}, "gates is 'ifg', expected the letters of 'ifgo'"),
        (("lstm", W, R), {"update": "inverted"}, "update is 'inverted', expected 'keep'"),
        (("gru", W[:15], R[:15]), {"update": "z"}, "update is 'z', expected one of ('keep', 'inv"),
        (("gru", W[:15], R[:15]), {"forget_bias": 1}, "forget_bias is 1.0, expected 0"),
        (("lstm", W[:15], R[:15]), {"forget_bias": 1, "forget_gate": "none"}, "forget_bias is 1.0"),
        (("lstm", W, R.T), {}, "recurrent has shape (5, 20), expected (4*H, H): transposed=True"),
        (
            ("lstm", W.T, R),
            {"transposed": True},
            "recurrent has shape (20, 5), expected (H, 4*H): transposed=False fits",
        ),
        (("lstm", W[:-1], R), {}, "kernel has shape (19, 4), expected (4*H, I)"),
        (("lstm", W[0], R), {}, "kernel has shape (4,), expected (4*H, I)"),
        (("lstm", W, R[:, 1:]), {}, "recurrent has shape (20, 4), expected (4*H, H) with H = 5"),
        (("lstm", W, R, V[1:]), {}, "bias has shape (19,), expected (4*H,) = (20,)"),
        (("lstm", W, R, V, V[1:]), {}, "recurrent_bias has shape (19,), expected (4*H,) = (20,)"),
        (("lstm", W, R), {"peepholes": V}, "peepholes has shape (20,), expected (3, H) = (3, 5)"),
        (("gru", W[:15], R[:15]), {"peepholes": V}, "peepholes is given, expected None"),
        (("lstm", W, R), {"reverse": (W, R[1:])}, "reverse[1] has shape (19, 5), expected (4*H"),
        (("lstm", W, R), {"reverse": (W[:, 1:], R)}, "w_ih of reverse has shape (20, 3), expected"),
        (("lstm", W, R), {"reverse": (W, R, None, None, np.ones((3, H)))}, "peepholes of reverse"),
    ],
)
def test_what_does_not_fit_is_named(arguments: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"layer_from_arrays: {words}")):
        bptt.layer_from_arrays(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("lstm", W * 1j, R), {}, "kernel has dtype complex128, expected real numbers"),
        (("lstm", W, None), {}, "recurrent has dtype object, expected real numbers"),
        (("lstm", W, R), {"foo": 1}, "LSTM has no option 'foo'"),
        (("rnn", W, R[:, :1]), {"gate_activation": "tanh"}, "RNN has no option 'gate_activation'"),
        (("lstm", W, R), {"reverse": W}, "reverse is of type ndarray, expected True, False or"),
    ],
)
def test_other_types_are_refused(arguments: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"layer_from_arrays: {words}")):
        bptt.layer_from_arrays(*arguments, **options)
