# SPDX-License-Identifier: MIT
"""``bptt convert``: what it writes is the same model, and what it would lose it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import bptt
from bptt import models
from support.command import main

X = np.random.default_rng(0).standard_normal((5, 2, 2)).astype(np.float32)


def chain(recurrent=None):
    recurrent = recurrent or bptt.GRU(2, 3, seed=0)
    return bptt.Sequential(recurrent, bptt.Dropout(0.5, seed=2), bptt.Linear(3, 1, seed=1))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "s.npz"
    chain().save(path)
    return path


def run(layers, x):
    """The layers of a file, one after the other."""
    for layer in layers:
        if isinstance(layer, (bptt.Linear, bptt.Sequential)):
            x = layer(x)
        elif layer.batch_first:
            x = layer(x.swapaxes(0, 1))[0].swapaxes(0, 1)
        else:
            x = layer(x)[0]
    return x


@pytest.mark.parametrize(
    ("suffix", "package"),
    [("npz", "numpy"), ("safetensors", "safetensors"), ("keras", "h5py"), ("h5", "h5py"),
     ("json", "numpy")],
)  # fmt: skip
def test_each_format_has_the_same_outputs(suffix, package, source, tmp_path, capsys):
    pytest.importorskip(package)
    out, back = tmp_path / f"o.{suffix}", tmp_path / "back.npz"
    code, output, error = main(capsys, "convert", source, out, "--json")
    said = json.loads(output)
    assert (code, error) == (0, "")
    assert (said["source"], said["out"], said["bytes"]) == (str(source), str(out),
                                                            out.stat().st_size)  # fmt: skip
    assert said["note"] is None
    found = bptt.load_model(out)
    layers = [found] if isinstance(found, bptt.Sequential) else [*found.values()]
    np.testing.assert_allclose(run(layers, X), chain()(X), rtol=0, atol=1e-6)
    assert main(capsys, "convert", out, back)[0] == 0
    again = bptt.load_model(back)
    x = X.swapaxes(0, 1) if again.batch_first else X
    y = again(x).swapaxes(0, 1) if again.batch_first else again(x)
    np.testing.assert_allclose(y, chain()(X), rtol=0, atol=1e-6)


def test_arrays_and_description_are_copied(source, tmp_path, capsys):
    copy = tmp_path / "copy.npz"
    code, output, _ = main(capsys, "convert", source, copy)
    assert code == 0
    assert output.split("\n")[0].split() == [
        "read",
        "7",
        "arrays",
    ]  # with the place of the random masks
    assert copy.read_bytes() == source.read_bytes()


def test_onnx(source, tmp_path, capsys):
    reference = pytest.importorskip("onnx.reference")
    out, back = tmp_path / "o.onnx", tmp_path / "b.npz"
    code, output, _ = main(capsys, "convert", source, out)
    assert code == 0
    assert "GRU(2, 3), Linear(3, 1)" in output
    evaluator = reference.ReferenceEvaluator(str(out))
    (name,) = [one.name for one in evaluator.proto_.graph.input]
    y = evaluator.run(None, {name: X})[0]
    np.testing.assert_allclose(y, chain()(X), rtol=0, atol=1e-5)
    assert main(capsys, "convert", out, back)[0] == 2  # a graph, not a chain of layers
    assert not back.exists()


def test_one_layer_of_onnx_comes_back(tmp_path, capsys):
    pytest.importorskip("onnx")
    source, out, back = (tmp_path / name for name in ("s.npz", "o.onnx", "b.npz"))
    layer = bptt.LSTM(2, 3, num_layers=2, bidirectional=True, seed=0)
    bptt.save(source, layer.parameters)
    assert main(capsys, "convert", source, out)[0] == 0
    assert main(capsys, "convert", out, back)[0] == 0
    np.testing.assert_array_equal(bptt.load_model(back)(X), layer(X)[0])


def test_torch(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    source, out, other = tmp_path / "s.pt", tmp_path / "o.npz", tmp_path / "o.keras"
    module = torch.nn.LSTM(2, 3)
    torch.save(module.state_dict(), source)
    assert main(capsys, "convert", source, out)[0] == 0
    assert {name: array.tolist() for name, array in bptt.load(out).items()} == {
        name: array.tolist() for name, array in module.state_dict().items()
    }
    pytest.importorskip("h5py")
    assert main(capsys, "convert", source, other)[0] == 0
    want = module(torch.tensor(X))[0].detach().numpy()
    np.testing.assert_allclose(run([bptt.load_model(other)], X), want, rtol=0, atol=1e-6)


def test_an_estimator_keeps_all_or_says_what_is_left(tmp_path, capsys):
    source, copy = tmp_path / "s.npz", tmp_path / "c.npz"
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 4, 2)), np.arange(20) % 2
    model = models.SequenceClassifier(hidden_size=3, epochs=1, dropout=0.3).fit(x, y)
    model.save(source)
    assert main(capsys, "convert", source, copy)[0] == 0
    assert (models.load(copy).predict_proba(x) == model.predict_proba(x)).all()
    header = tmp_path / "m.h"
    assert main(capsys, "convert", source, header)[0] == 0
    assert "m_step(" in header.read_text()
    pytest.importorskip("h5py")
    said = main(capsys, "convert", source, tmp_path / "m.keras")
    assert said[0] == 2  # Keras has no Last
    assert "Last" in said[2]


def write(path, content):
    path.write_bytes(content) if isinstance(content, bytes) else bptt.save(path, content)
    return path


GRU, LSTM = (layer(2, 3, seed=0).parameters for layer in (bptt.GRU, bptt.LSTM))
MGU = chain(bptt.MGU(2, 3, seed=0))


@pytest.mark.parametrize(
    ("content", "out", "words"),
    [
        (GRU | {"head.weight": np.ones((1, 3))}, "o.json", ("head.weight", "Sequential.save")),
        (bptt.optim.join(a=GRU, b=LSTM), "o.json", ("'a", "'b", "Sequential.save")),
        (MGU, "o.json", ("MGU",)),
        (GRU, "o.xyz", ("o.xyz", ".safetensors", ".onnx")),
        (GRU, "o", ("'o'",)),
        (GRU, "no/folder/o.npz", ("folder",)),
        (GRU, "s.npz", ("the source",)),
        (b"PK\3\4" + bytes(40), "o.json", ("s.npz",)),
        (b"", "o.npz", ("s.npz", "not a model")),
        (b"\x80\x04\x95" + bytes(40), "o.npz", ("s.npz", "pickle")),
    ],
)
def test_refused(content, out, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "s.npz"
    content.save(source) if isinstance(content, bptt.Sequential) else write(source, content)
    before = source.read_bytes()
    code, output, error = main(capsys, "convert", "s.npz", out)
    assert (code, output, error.count("\n")) == (2, "", 1)
    assert all(word in error for word in ("bptt: ", *words)), error
    assert [*tmp_path.iterdir()] == [source]
    assert source.read_bytes() == before


def test_a_missing_file(tmp_path, capsys):
    code, _, error = main(capsys, "convert", tmp_path / "none.npz", tmp_path / "o.npz")
    assert (code, "none.npz" in error, error.count("\n")) == (2, True, 1)
    assert [*tmp_path.iterdir()] == []


def test_missing_packages(source, tmp_path):
    script = """
import sys
for package in ("h5py", "onnx", "safetensors"):
    sys.modules[package] = None
from bptt import cli
for suffix in ("keras", "h5", "onnx", "safetensors"):
    print(cli.main(["convert", "s.npz", f"o.{suffix}"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["2"] * 4, done.stderr
    assert re.findall(r'pip install "bptt\[(\w+)\]"', done.stderr) == [
        "keras", "keras", "onnx", "safetensors",
    ]  # fmt: skip
    assert done.stderr.count("\n") == 4
    assert [*tmp_path.iterdir()] == [source]


def test_other_files_are_not_overwritten(source, tmp_path, capsys):
    for name in ("o.npz", "o.json", "o.h", "o.keras"):
        out = tmp_path / name
        out.write_text("mine")
        assert main(capsys, "convert", source, out)[0] == 2
        assert out.read_text() == "mine"
