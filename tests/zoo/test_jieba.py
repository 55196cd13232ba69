# SPDX-License-Identifier: MIT
"""The tagger of jieba, in files of Paddle 1: embedding, two layers of BiGRU, a dense layer.

Paddle's `dynamic_gru` has the recurrent weights of u and r as (H, 2*H), then those of c as (H, H).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import bptt
from bptt._types import Array
from support.zoo import assert_outputs, files_of
from support.zoo_formats import paddle_array

H = 128
NAMES = [
    "word_emb", *(f"fc_{k}.{n}_0" for k in range(5) for n in "wb"),
    *(f"gru_{k}.{n}_0" for k in range(4) for n in "wb"),
]  # fmt: skip


def test_jieba(tmp_path: Path) -> None:
    folder = "jieba/lac_small/model_baseline"
    files = files_of("jieba", [f"{folder}/{name}" for name in NAMES], tmp_path)
    a = dict(zip(NAMES, (paddle_array(path.read_bytes()) for path in files.values())))
    layers = [
        bptt.layer_from_arrays(
            "gru", *side(a, k), gates="urc", transposed=True, update="inverted", reset_after=False,
            reverse=side(a, k + 1),
        )
        for k in (0, 2)
    ]  # fmt: skip
    embedding = bptt.load_model({"words.weight": a["word_emb"]}, "words", cell="embedding")
    out = bptt.load_model({"fc.weight": a["fc_4.w_0"].T, "fc.bias": a["fc_4.b_0"]}, "fc")

    words = np.random.default_rng(0).integers(len(a["word_emb"]), size=50)
    y = embedding(words[:, None])
    for layer in layers:
        y, _ = layer(y)
    assert_outputs("jieba", out(y)[:, 0], emissions(a, words))


def side(a: dict[str, Array], k: int) -> tuple[Array, Array, Array]:
    """Kernel, recurrent weights and bias of GRU k."""
    u_r, c = np.split(a[f"gru_{k}.w_0"].ravel(), [2 * H * H])
    recurrent = np.hstack([u_r.reshape(H, 2 * H), c.reshape(H, H)])
    return a[f"fc_{k}.w_0"], recurrent, a[f"fc_{k}.b_0"] + a[f"gru_{k}.b_0"][0]


def emissions(a: dict[str, Array], words: Array) -> Array:
    """The network of jieba/lac_small/nets.py by the equations of Paddle's `dynamic_gru`."""
    a = {name: array.astype(float) for name, array in a.items()}
    x = a["word_emb"][words]
    for k in (0, 2):
        sums = [x @ a[f"fc_{n}.w_0"] + a[f"fc_{n}.b_0"] for n in (k, k + 1)]
        forward = dynamic_gru(sums[0], a[f"gru_{k}.w_0"], a[f"gru_{k}.b_0"])
        backward = dynamic_gru(sums[1][::-1], a[f"gru_{k + 1}.w_0"], a[f"gru_{k + 1}.b_0"])
        x = np.hstack([forward, backward[::-1]])
    return x @ a["fc_4.w_0"] + a["fc_4.b_0"]


def dynamic_gru(sums: Array, weight: Array, bias: Array) -> Array:
    """With u_t, r_t and c_t from x_t: h_t = (1 - u_t) h_{t-1} + u_t c_t."""
    gates, candidate = weight.ravel()[: 2 * H * H], weight.ravel()[2 * H * H :]
    h, hs = np.zeros(H), []
    for s in sums + bias:
        u, r = np.split(1 / (1 + np.exp(-s[: 2 * H] - h @ gates.reshape(H, 2 * H))), 2)
        c = np.tanh(s[2 * H :] + (r * h) @ candidate.reshape(H, H))
        h = (1 - u) * h + u * c
        hs.append(h)
    return np.array(hs)
