# SPDX-License-Identifier: MIT
"""Letters to sounds: g2p_en for English, g2pM for Chinese characters with several readings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import bptt
from bptt._types import Array
from support.zoo import assert_outputs, file_of, module_of
from support.zoo_formats import arrays_of_pickle

START, END = 2, 3  # <s> and </s> of the decoder


def test_g2p_en(tmp_path: Path) -> None:
    with np.load(file_of("g2p_en", "g2p_en/checkpoint20.npz", tmp_path)) as file:
        a = dict(file)
    encoder, decoder = (
        bptt.layer_from_arrays("gru", *(a[f"{part}_{n}"] for n in ("w_ih", "w_hh", "b_ih", "b_hh")))
        for part in ("enc", "dec")
    )
    out = bptt.load_model({"fc.weight": a["fc_w"], "fc.bias": a["fc_b"]}, "fc")

    found: list[Array] = []
    wanted: list[Array] = []
    for word in ("backpropagation", "through", "time", "recurrent", "gradient"):
        letters = [*(ord(c) - ord("a") + 3 for c in word), 2]
        _, h = encoder(a["enc_emb"][letters][:, None])
        sound, want_h = START, equations(a, "enc", a["enc_emb"][letters])[-1]
        for _ in range(20):
            y, h = decoder(a["dec_emb"][[sound]][None], h)
            found.append(out(y)[0, 0])
            want_h = equations(a, "dec", a["dec_emb"][[sound]], want_h)[-1]
            wanted.append(a["fc_w"] @ want_h + a["fc_b"])
            sound = int(found[-1].argmax())
            if sound == END:
                break
        assert sound == END
    assert_outputs("g2p_en", found, wanted)


def equations(a: dict[str, Array], part: str, x: Array, h: Array | None = None) -> Array:
    """The GRU of g2p_en: gates r z n, h' = (1 - z) n + z h, r after the product."""
    w_ih, w_hh, b_ih, b_hh = (
        a[f"{part}_{n}"].astype(float) for n in ("w_ih", "w_hh", "b_ih", "b_hh")
    )
    h = np.zeros(w_hh.shape[1]) if h is None else h
    hs = []
    for x_t in x.astype(float):
        (r_x, z_x, n_x), (r_h, z_h, n_h) = (
            np.split(v, 3) for v in (w_ih @ x_t + b_ih, w_hh @ h + b_hh)
        )
        r, z = 1 / (1 + np.exp(-r_x - r_h)), 1 / (1 + np.exp(-z_x - z_h))
        h = (1 - z) * np.tanh(n_x + r * n_h) + z * h
        hs.append(h)
    return np.array(hs)


def test_g2pm(tmp_path: Path) -> None:
    arrays = arrays_of_pickle(file_of("g2pM", "g2pM/np_ckpt.pkl", tmp_path).read_bytes())
    lstm = bptt.load_model(arrays, "lstm", batch_first=True)
    hidden, out = (bptt.load_model(arrays, f"logit_layer.{k}") for k in (0, 2))
    embedding = bptt.load_model(arrays, "embedding", cell="embedding")

    kind = module_of("g2pM", ["g2pM/g2pM.py"], tmp_path).G2pM
    theirs = kind.__new__(kind)  # its constructor runs pickles
    theirs.load_variable(arrays)
    seen: list[Array] = []
    logits = theirs.fc_layer
    theirs.fc_layer = lambda inputs: seen.append(logits(inputs)) or seen[-1]
    rng = np.random.default_rng(0)
    lengths = np.array([20, 13, 7])
    characters = rng.integers(1, len(arrays["embedding.weight"]), (3, 20)) * (
        np.arange(20) < lengths[:, None]
    )
    targets = np.array([4, 12, 0])
    chosen = theirs.predict(characters, targets)

    y, _ = lstm(embedding(characters), lengths=lengths)
    got = out(np.maximum(hidden(y[np.arange(3), targets]), 0))
    assert_outputs("g2pM", got, seen[0])
    assert (got.argmax(-1) == chosen).all()
