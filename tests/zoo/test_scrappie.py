# SPDX-License-Identifier: MIT
"""Base callers of scrappie: LSTMs with peepholes, and GRUs that read the signal backwards.

Its matrices lie by column, (I, G*H), which is (G*H, I) by row. Truth: the equations of its
`lstm_step` and `gru_step` (src/layers.c), in NumPy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bptt
from bptt._types import Array
from support.zoo import assert_outputs, file_of
from support.zoo_formats import c_arrays

H, T = 96, 80


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def arrays_of(model: str, folder: Path) -> dict[str, Array]:
    path = file_of("scrappie", f"src/models/{model}.h", folder)
    return {n.lstrip("_"): a.astype(np.float32) for n, a in c_arrays(path.read_text()).items()}


def test_lstm(tmp_path: Path) -> None:
    a = arrays_of("nanonet_events", tmp_path)
    for layer in ("F1", "B1", "F2", "B2"):
        w, u, b, p = (a[f"lstm{layer}_{name}"] for name in ("iW", "sW", "b", "p"))
        lstm = bptt.layer_from_arrays(
            "lstm", w.reshape(4 * H, -1), u.reshape(4 * H, H), b, gates="gifo",
            peepholes=p.reshape(3, H),
        )  # fmt: skip
        x = np.random.default_rng(0).normal(size=(T, lstm.input_size)).astype(np.float32)
        x = x[::-1] if layer.startswith("B") else x
        got = lstm(x[:, None])[0][:, 0]
        assert_outputs(f"scrappie, lstm{layer}", got, lstm_equations(x, w, u, b, p))


def lstm_equations(x: Array, *weights: Array) -> Array:
    w, u, b, p = (v.astype(float) for v in weights)
    w, u = w.reshape(4 * H, -1), u.reshape(4 * H, H)
    p_i, p_f, p_o = p.reshape(3, H)
    h, c, hs = np.zeros(H), np.zeros(H), []
    for x_t in x:
        g, i, f, o = np.split(w @ x_t + b + u @ h, 4)
        c = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g)
        h = sigmoid(o + p_o * c) * np.tanh(c)
        hs.append(h)
    return np.array(hs)


@pytest.mark.parametrize("model", ["rgrgr_r94", "rgrgr_r10"])
def test_gru(model: str, tmp_path: Path) -> None:
    a = arrays_of(model, tmp_path)
    x = np.tanh(np.random.default_rng(0).normal(size=(T, H))).astype(np.float32)
    got, want = x, x.astype(float)
    for layer in ("B1", "F2", "B3", "F4", "B5"):  # each reads the layer before
        w, u, u2, b = (a[f"gru{layer}_{model}_{name}"] for name in ("iW", "sW", "sW2", "b"))
        gru = bptt.layer_from_arrays(
            "gru", w.reshape(3 * H, H), np.append(u, u2).reshape(3 * H, H), b, gates="zrh",
            reset_after=False,
        )  # fmt: skip
        way = -1 if layer.startswith("B") else 1
        got = gru(got[::way, None])[0][::way, 0]
        want = gru_equations(want[::way], w, u, u2, b)[::way]
        assert_outputs(f"scrappie, {model}, gru{layer}", got, want)


def gru_equations(x: Array, *weights: Array) -> Array:
    w, u, u2, b = (v.astype(float) for v in weights)
    w, u, u2 = w.reshape(3 * H, -1), u.reshape(2 * H, H), u2.reshape(H, H)
    h, hs = np.zeros(H), []
    for x_t in x:
        z_x, r_x, n_x = np.split(w @ x_t + b, 3)
        z_h, r_h = np.split(u @ h, 2)
        z, r = sigmoid(z_x + z_h), sigmoid(r_x + r_h)
        h = z * h + (1 - z) * np.tanh(n_x + u2 @ (r * h))
        hs.append(h)
    return np.array(hs)
