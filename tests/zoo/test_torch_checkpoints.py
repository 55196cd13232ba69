# SPDX-License-Identifier: MIT
"""Checkpoints of PyTorch: a speaker's voice, beats of music, and the parts of Uzbek words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from support.zoo import assert_outputs, file_of, module_of

torch = pytest.importorskip("torch")


def checkpoint(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def test_resemblyzer(tmp_path: Path) -> None:
    path = file_of("Resemblyzer", "resemblyzer/pretrained.pt", tmp_path)
    lstm = bptt.load_model(path, "model_state.lstm", batch_first=True)
    linear = bptt.load_model(path, "model_state.linear")

    # The package's VoiceEncoder, whose module imports librosa.
    state = checkpoint(path)["model_state"]
    theirs = torch.nn.LSTM(40, 256, 3, batch_first=True)
    head = torch.nn.Linear(256, 256)
    theirs.load_state_dict({k[5:]: v for k, v in state.items() if k.startswith("lstm.")})
    head.load_state_dict({k[7:]: v for k, v in state.items() if k.startswith("linear.")})
    mel = np.abs(np.random.default_rng(0).normal(size=(4, 160, 40))).astype(np.float32)
    with torch.no_grad():
        raw = torch.relu(head(theirs(torch.from_numpy(mel))[1][0][-1]))
        want = raw / torch.norm(raw, dim=1, keepdim=True)

    raw = np.maximum(linear(lstm(mel)[1][0][-1]), 0)
    got = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert_outputs("Resemblyzer", got, want)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_beatnet(number: int, tmp_path: Path) -> None:
    path = file_of("BeatNet", f"BeatNet/models/model_{number}_weights.pt", tmp_path)
    lstm, out = bptt.load_model(path, "lstm", batch_first=True), bptt.load_model(path, "linear")
    first = bptt.load_model(path, "linear0")

    theirs = module_of("BeatNet", ["BeatNet/model.py"], tmp_path).BDA(272, 150, 2, "cpu")
    theirs.load_state_dict(checkpoint(path), strict=False)
    x = np.random.default_rng(0).normal(size=(1, 50, 272)).astype(np.float32)
    with torch.no_grad():
        want = theirs(torch.from_numpy(x)).numpy()
        pooled = torch.max_pool1d(torch.relu(theirs.conv1(torch.from_numpy(x[0, :, None]))), 2)

    got = out(lstm(first(pooled.reshape(1, 50, -1).numpy()))[0])
    assert_outputs(f"BeatNet, model {number}", got.transpose(0, 2, 1), want)


def test_uzmorph_nn(tmp_path: Path) -> None:
    path = file_of("uzmorph-nn", "uzmorph_nn/data/morph_bilstm.pth", tmp_path)
    lstm, out = bptt.load_model(path, "lstm", batch_first=True), bptt.load_model(path, "hidden2tag")
    embedding = bptt.load_model(path, "char_embeddings", cell="embedding")

    theirs = module_of("uzmorph-nn", ["uzmorph_nn/model.py"], tmp_path).MorphBiLSTM(49, 746)
    theirs.load_state_dict(checkpoint(path))
    words = np.random.default_rng(0).integers(49, size=(20, 30))
    with torch.no_grad():
        want = theirs(torch.from_numpy(words)).numpy()

    got = out(lstm(embedding(words))[0])
    assert_outputs("uzmorph-nn", got, want)
    assert (got.argmax(-1) == want.argmax(-1)).all()
