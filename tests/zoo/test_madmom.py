# SPDX-License-Identifier: MIT
"""Networks of madmom for beats, downbeats and onsets in music: LSTM, BiLSTM, BiGRU, BiRNN.

Its pickles have a matrix (I, H) for each gate. The GRUs start from a learnt state. Truth: the
equations of madmom/ml/nn/layers.py, in NumPy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import bptt
from bptt._types import Array
from support.zoo import assert_outputs, file_of
from support.zoo_formats import Held, arrays_of_pickle

MODELS = {
    "beats/2016/beats_lstm_1": "lstm",
    "beats/2015/beats_blstm_1": "lstm",
    "downbeats/2016/downbeats_bgru_harmonic_0": "gru",
    "downbeats/2016/downbeats_bgru_rhythmic_3": "gru",
    "onsets/2013/onsets_rnn_1": "rnn",
    "onsets/2013/onsets_brnn_1": "rnn",
}
GATES = {
    "lstm": ("input_gate", "forget_gate", "cell", "output_gate"),
    "gru": ("reset_gate", "update_gate", "cell"),
}


class Side(NamedTuple):
    """The arrays of one direction."""

    w: Array
    u: Array
    b: Array
    b_hh: None
    peepholes: Array | None
    h0: Array


def side_of(kind: str, held: Held) -> Side:
    state = held.state
    gates = [state[name].state for name in GATES[kind]] if kind in GATES else [state]
    names = ("weights", "recurrent_weights", "bias")
    w, u, b = (np.array([gate[name] for gate in gates]) for name in names)
    p = [gate.get("peephole_weights") for gate in gates]
    h0 = state.get("hid_init", state.get("init", np.zeros(u.shape[-1], np.float32)))
    seen = np.array([row for row in p if row is not None]) if kind == "lstm" else None
    return Side(w, u, b, None, seen, h0)


def loaded(kind: str, first: Side, *second: Side) -> Any:
    update = "inverted" if kind == "gru" else "keep"
    return bptt.layer_from_arrays(
        kind, *first[:4], peepholes=first.peepholes, transposed=True, update=update,
        reverse=second[0][:5] if second else False,
    )  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_madmom(name: str, tmp_path: Path) -> None:
    kind = MODELS[name]
    path = file_of("madmom", f"madmom/models/{name}.pkl", tmp_path)
    network = arrays_of_pickle(path.read_bytes(), "madmom").state
    layers = (network["layers"] if isinstance(network, dict) else network[0])[:-1]  # the head
    got: Any = None
    for layer in layers:
        both = layer.state.get("fwd_layer"), layer.state.get("bwd_layer")
        sides = [side_of(kind, held) for held in (both if both[0] else (layer,))]
        rnn = loaded(kind, *sides)
        if got is None:
            rng = np.random.default_rng(0)
            got = np.abs(rng.normal(size=(60, rnn.input_size))).astype(np.float32)
            want = got.astype(float)
        h0 = np.stack([side.h0 for side in sides])[:, None]
        got = rnn(got[:, None], (h0, np.zeros_like(h0)) if kind == "lstm" else h0)[0][:, 0]
        ways = [equations(kind, sides[0], want)]
        ways += [equations(kind, side, want[::-1])[::-1] for side in sides[1:]]
        want = np.hstack(ways)
        assert kind != "gru" or h0.all()
    assert len(layers) > 1
    assert_outputs(f"madmom, {name}", got, want)


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def equations(kind: str, side: Side, x: Array) -> Array:
    w, u, b = (array.astype(float) for array in side[:3])
    h, c, hs = side.h0.astype(float), np.zeros(u.shape[-1]), []
    for x_t in x:
        from_x, from_h = x_t @ w + b, h @ u
        if kind == "rnn":
            h = np.tanh(from_x[0] + from_h[0])
        elif kind == "gru":
            r, z = sigmoid(from_x[:2] + from_h[:2])
            h = z * np.tanh(from_x[2] + r * from_h[2]) + (1 - z) * h
        else:
            assert side.peepholes is not None
            i, f, g, o = from_x + from_h
            p_i, p_f, p_o = side.peepholes.astype(float)
            c = sigmoid(i + p_i * c) * np.tanh(g) + sigmoid(f + p_f * c) * c
            h = sigmoid(o + p_o * c) * np.tanh(c)
        hs.append(h)
    return np.array(hs)
