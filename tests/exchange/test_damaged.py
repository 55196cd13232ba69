# SPDX-License-Identifier: MIT
"""Files of every format, cut short or with changed bits: layers, or one line with their name."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from bptt._files import hdf5

LSTM, HEAD = bptt.LSTM(3, 4, seed=0), bptt.Linear(4, 2, seed=1)


def of_torch(path: Path) -> None:
    torch = pytest.importorskip("torch")
    state = {k: torch.tensor(v) for k, v in LSTM.parameters.items()}
    torch.save({"epoch": 3, "model": state}, path)


def of_safetensors(path: Path) -> None:
    pytest.importorskip("safetensors")
    bptt.save(path, LSTM.parameters)


def of_keras(path: Path) -> None:
    pytest.importorskip("h5py")
    bptt.save_keras(path, [LSTM, HEAD])


def of_nam(path: Path) -> None:
    numbers = np.random.default_rng(0).standard_normal(4 * 3 * 4 + 12 + 6 + 4).tolist()
    config = {"input_size": 1, "hidden_size": 3, "num_layers": 1}
    path.write_text(json.dumps({"architecture": "LSTM", "config": config, "weights": numbers}))


FORMATS: dict[str, Callable[[Path], Any]] = {
    "m.npz": lambda path: bptt.save(path, LSTM.parameters),
    "m.safetensors": of_safetensors,
    "m.pt": of_torch,
    "m.keras": of_keras,
    "m.h5": of_keras,
    "m.weights.h5": of_keras,
    "m.json": lambda path: bptt.save_rtneural(path, [LSTM, HEAD]),
    "m.nam": of_nam,
}


def damaged(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 50))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.3:  # a size, or a place in the file
        at = rng.randrange(len(changed))
        changed[at : at + 8] = bytes(rng.choice((0, 255)) for _ in range(8))
    return bytes(changed)


def check(path: Path) -> None:
    """Layers with all their arrays, or a short line that names the file."""
    try:
        found = bptt.load_model(path)
    except (TypeError, ValueError) as error:
        text = str(error)
        assert path.name in text
        assert text.isprintable()
        assert len(text) < 400 + len(str(path))
        return
    for layer in found.values() if isinstance(found, dict) else [found]:
        assert all(np.isfinite(a.shape).all() for a in layer.parameters.values())


@pytest.mark.filterwarnings("ignore")  # of PyTorch, about what it reads
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "SECONDS", 3)
    path = tmp_path / name
    FORMATS[name](path)
    content, rng = path.read_bytes(), random.Random(name)
    check(path)
    for _ in range(40 if name.endswith("h5") else 150):
        path.write_bytes(damaged(content, rng))
        check(path)


@pytest.mark.parametrize("name", FORMATS)
def test_files_cut_at_any_place(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FORMATS[name](path)
    content = path.read_bytes()
    # The end of an archive by `save_keras` is a comment.
    for end in np.linspace(0, len(content) - 20, 25).astype(int):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=name):
            bptt.load_model(path)


@pytest.mark.filterwarnings("ignore")  # of PyTorch
@pytest.mark.parametrize("kind", ["to_sparse", "quantised", "meta"])
def test_tensors_without_plain_numbers(kind: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    plain = torch.ones(8, 2)
    made = {
        "to_sparse": plain.to_sparse,
        "quantised": lambda: torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8),
        "meta": lambda: plain.to("meta"),
    }[kind]()
    torch.save({"weight_ih_l0": made, "weight_hh_l0": plain}, tmp_path / "m.pt")
    words = "m.pt has 'weight_ih_l0' as a sparse, quantised or meta tensor, expected plain numbers"
    for load in (bptt.load_model, bptt.load):
        with pytest.raises(ValueError, match=words):
            load(tmp_path / "m.pt")


@pytest.mark.parametrize("fault", ["os.kill(os.getpid(), 11)", "time.sleep(60)", "1 / 0"])
def test_a_crash_or_hang_of_the_library_is_a_line(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_keras(tmp_path / "m.h5")
    reader = tmp_path / "reader.py"
    reader.write_text(f"import os, time\n{fault}\n")
    monkeypatch.setattr(hdf5, "READER", reader)
    monkeypatch.setattr(hdf5, "SECONDS", 2)
    words = "does not come to an end" if "sleep" in fault else "fails on it"
    with pytest.raises(ValueError, match=f"m.h5 is damaged or not a model.*{words}"):
        bptt.load_model(tmp_path / "m.h5")
