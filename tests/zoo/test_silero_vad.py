# SPDX-License-Identifier: MIT
"""silero-vad, which finds speech: TorchScript against PyTorch, ONNX against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bptt
from bptt._types import Array
from support.zoo import assert_outputs, file_of

T = 50
RNG = np.random.default_rng(0)


def audio(length: int) -> Array:
    x = np.cumsum(RNG.normal(size=(T, length)), axis=1).astype(np.float32)
    return np.asarray(x / np.abs(x).max())


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.*:DeprecationWarning")
@pytest.mark.parametrize(("part", "length"), [("_model", 576), ("_model_8k", 288)])
def test_torchscript(part: str, length: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    program = torch.jit.load(file_of("silero-vad", "silero_vad/data/silero_vad.jit", tmp_path))
    lstm = bptt.load_model(program.state_dict(), f"{part}.decoder.rnn")

    theirs = getattr(program, part)
    state, codes, want = torch.zeros(0), [], []
    with torch.no_grad():
        for chunk in torch.from_numpy(audio(length)):
            codes.append(theirs.encoder(theirs.run_extractors(chunk[None]))[..., 0].numpy())
            speech, state = theirs.forward(chunk[None], state)
            want.append(speech.item())
        y, (h, c) = lstm(np.array(codes))
        got = theirs.decoder.decoder(torch.from_numpy(y).transpose(1, 2))[:, 0, 0].numpy()
    assert_outputs(f"silero-vad, {part}, state", np.stack([h[0], c[0]]), state.numpy())
    assert_outputs(f"silero-vad, {part}", got, want)


def test_onnx(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("bptt.onnx")
    pytest.importorskip("onnx")
    path = file_of("silero-vad", "silero_vad/data/silero_vad_16k_sequence.onnx", tmp_path)
    model = bptt.load_model(path)

    zeros = np.zeros((1, 1, 128), np.float32)
    feed = {"input": audio(576), "h": zeros, "c": zeros}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    want = session.run(None, feed)
    got = model(**feed)
    assert list(got) == ["speech_probs", "hn", "cn"]
    for name, value in zip(got, want):
        assert_outputs(f"silero-vad in ONNX, {name}", got[name], value)
