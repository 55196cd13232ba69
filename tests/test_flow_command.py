# SPDX-License-Identifier: MIT
"""Models from files and dicts, and ``bptt flow`` from end to end."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import bptt
from bptt.flow import layer_of

X = np.random.default_rng(0).standard_normal((30, 3, 4)).astype(np.float32)
LAYERS = {
    "rnn": lambda: bptt.RNN(4, 6, seed=0),
    "lstm": lambda: bptt.LSTM(4, 6, 2, bidirectional=True, dtype="float64", seed=0),
    "projected": lambda: bptt.LSTM(4, 6, 2, proj_size=3, bias=False, seed=0),
    "peepholes": lambda: bptt.LSTM(4, 6, peepholes=True, seed=0),
    "gru": lambda: bptt.GRU(4, 6, bias=False, seed=0),
    "mgu": lambda: bptt.MGU(4, 6, seed=0),
}


def flow(*args, **environment):
    return subprocess.run(
        [sys.executable, "-m", "bptt", "flow", *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


@pytest.fixture
def files(tmp_path):
    bptt.save(tmp_path / "model.npz", bptt.optim.join(rnn=LAYERS["rnn"]().parameters))
    np.save(tmp_path / "x.npy", X)
    return tmp_path


# --- models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_names_and_shapes_tell_the_layer(name):
    layer = LAYERS[name]()
    found = layer_of(layer.parameters)
    assert repr(found) == repr(layer)
    np.testing.assert_array_equal(found(X)[0], layer(X)[0])
    assert layer_of(layer) is layer


def test_what_shapes_do_not_tell_can_be_stated():
    layer = bptt.SLSTM(4, 6, heads=2, seed=0)
    found = layer_of(layer.parameters, cell="slstm", heads=2)
    np.testing.assert_array_equal(found(X)[0], layer(X)[0])
    old = bptt.LSTM1997(4, 6, seed=0)
    np.testing.assert_array_equal(layer_of(old.parameters, cell="lstm1997")(X)[0], old(X)[0])
    rnn = bptt.RNN(4, 6, activation="relu", batch_first=True, seed=0)
    found = layer_of(rnn.parameters, activation="relu", batch_first=True)
    assert repr(found) == repr(rnn)
    coupled = bptt.LSTM(4, 6, forget_gate="coupled", seed=0)
    found = layer_of(coupled.parameters, cell="lstm", forget_gate="coupled")
    np.testing.assert_array_equal(found(X)[0], coupled(X)[0])


def test_one_layer_among_others():
    parts = {"encoder": LAYERS["gru"](), "decoder": LAYERS["rnn"](), "out": bptt.Linear(6, 2)}
    both = bptt.optim.join(**{k: layer.parameters for k, layer in parts.items()})
    assert repr(layer_of(both, "encoder")) == repr(parts["encoder"])
    with pytest.raises(ValueError, match=r"name is missing, expected one of .'enc"):
        layer_of(both)
    with pytest.raises(ValueError, match="name is 'out', expected one of"):
        layer_of(both, "out")


def test_torch_layers_and_state_dicts():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for module in (
        torch.nn.RNN(4, 6, 2, nonlinearity="relu", batch_first=True),
        torch.nn.GRU(4, 6, bidirectional=True, bias=False).double(),
        torch.nn.LSTM(4, 6, 2, dropout=0.5).eval(),
    ):
        layer = layer_of(module)
        x = X.swapaxes(0, 1).copy() if module.batch_first else X
        weight = next(module.parameters())
        expected = module(torch.tensor(x, dtype=weight.dtype))[0].detach().numpy()
        np.testing.assert_allclose(layer(x)[0], expected, rtol=1e-5, atol=1e-6)
        assert layer.dtype == expected.dtype
        np.testing.assert_array_equal(layer.forward(x)[0], layer(x)[0])  # eval: drops nothing
    assert repr(layer_of(module.state_dict())) == repr(layer)


@pytest.mark.parametrize(
    ("arrays", "how", "error", "words"),
    [
        ({}, {}, ValueError, "model has the names []"),
        ({"w": np.eye(2)}, {}, ValueError, "model has the names ['w'], expected weight_ih_l0"),
        ({"weight_hh_l0": np.eye(2)}, {}, ValueError, "no matrix weight_ih_l0"),
        (
            {"weight_hh_l0": np.ones((7, 3)), "weight_ih_l0": np.ones((7, 2))},
            {},
            ValueError,
            "weight_hh_l0 has shape (7, 3), expected (G*H, H)",
        ),
        (
            {"weight_hh_l0": np.ones((12, 3)), "weight_ih_l0": np.ones((8, 2))},
            {},
            ValueError,
            "weight_ih_l0 has shape (8, 2)",
        ),
        ({"weight_hh_l0": np.eye(2, dtype=complex)}, {}, TypeError, "expected real numbers"),
        (
            {"weight_hh_l0": np.eye(3), "weight_ih_l0": np.eye(3)},
            {"cell": "rrn"},
            ValueError,
            "cell is 'rrn', expected one of ('rnn', 'lstm'",
        ),
        (
            {"weight_hh_l0": np.eye(3), "weight_ih_l0": np.eye(3)},
            {"cell": "lstm"},
            ValueError,
            "expected the parameter's shape",
        ),
    ],
)
def test_what_is_no_layer(arrays, how, error, words):
    with pytest.raises(error, match=re.escape(words)):
        layer_of(arrays, **how)


def test_a_layer_states_its_own():
    with pytest.raises(TypeError, match="name, cell or options are given"):
        layer_of(LAYERS["rnn"](), cell="rnn")


# --- the command ----------------------------------------------------------------------------------


def test_from_end_to_end(files):
    pytest.importorskip("matplotlib")
    page, picture = files / "report.html", files / "report.png"
    args = (files / "model.npz", "--data", files / "x.npy", "--html", page, "--plot", picture)
    done = flow(*args)
    assert (done.returncode, done.stderr) == (0, "")
    report = bptt.gradient_flow(LAYERS["rnn"](), X)
    assert done.stdout == f"{report}\n"
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert {p.name for p in files.iterdir()} == {"model.npz", "x.npy", "report.html", "report.png"}


def test_options_reach_the_report(files):
    np.save(files / "lengths.npy", [30, 10, 20])
    np.save(files / "first.npy", X.swapaxes(0, 1))
    done = flow(
        files / "model.npz", "--data", files / "first.npy", "--batch-first", "--activation", "relu",
        "--lengths", files / "lengths.npy", "--loss", "every", "--seed", "3", "--cell", "rnn",
        "--layer", "rnn",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    layer = layer_of(LAYERS["rnn"]().parameters, activation="relu")
    report = bptt.gradient_flow(layer, X, loss="every", lengths=[30, 10, 20], seed=3)
    text = str(report).replace("RNN(4, 6, a", "RNN(4, 6, batch_first=True, a")
    assert done.stdout.split() == f"{text}\n".split()


def test_safetensors(files):
    pytest.importorskip("safetensors")
    bptt.save(files / "model.safetensors", LAYERS["lstm"]().parameters)
    done = flow(files / "model.safetensors", "--data", files / "x.npy")
    assert done.returncode == 0
    assert "LSTM(4, 6, num_layers=2, bidirectional=True, dtype='float64'), float64" in done.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "model"),
        (("model.npz",), "--data"),
        (("no.npz", "--data", "x.npy"), "No such file"),
        (("x.npy", "--data", "x.npy"), "damaged or not a safetensors or npz file"),
        (("model.npz", "--data", "no.npy"), "No such file"),
        (("model.npz", "--data", "text"), "text is no array in npy format"),
        (("model.npz", "--data", "model.npz"), "is an archive, expected one array"),
        (("model.npz", "--data", "wide.npy"), "x has shape (30, 3, 5)"),
        (("model.npz", "--data", "words.npy"), "expected real numbers"),
        (("model.npz", "--data", "x.npy", "--cell", "gru"), "expected"),
        (("model.npz", "--data", "x.npy", "--layer", "lstm"), "name is 'lstm'"),
        (("model.npz", "--data", "x.npy", "--activation", "softmax"), "activation is 'softmax'"),
        (("model.npz", "--data", "x.npy", "--seed", "-1"), "--seed"),
        (("model.npz", "--data", "x.npy", "--html", "no/such/folder"), "existing folder"),
        (("model.npz", "--data", "x.npy", "--plot", "p.xyz"), "expected a name in"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_no_file(files, monkeypatch, args, words):
    if "p.xyz" in args:
        pytest.importorskip("matplotlib")
    (files / "text").write_text("hello")
    np.save(files / "wide.npy", np.ones((30, 3, 5)))
    np.save(files / "words.npy", np.array([["a"]]))
    before = {p.name for p in files.iterdir()}
    monkeypatch.chdir(files)
    page = () if "--html" in args else ("--html", "report.html")
    done = flow(*args, *(page if args else ()))
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert words in done.stderr
    assert {p.name for p in files.iterdir()} == before


def test_a_picture_without_matplotlib(files, monkeypatch):
    (files / "hidden").mkdir()
    hook = "import sys; sys.modules['matplotlib'] = None\n"
    code = f"{hook}import importlib.util as u\nfind = u.find_spec\n"
    code += "u.find_spec = lambda name: None if name == 'matplotlib' else find(name)\n"
    code += "from bptt.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "flow", "model.npz", "--data", "x.npy"]
    monkeypatch.chdir(files)
    done = subprocess.run([*command, "--html", "r.html"], capture_output=True, text=True)
    assert done.returncode == 2
    assert 'pip install "bptt[plot]"' in done.stderr
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert "vanishing" in done.stdout
