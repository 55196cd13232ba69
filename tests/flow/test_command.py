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
from bptt import load_model

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
    found = load_model(layer.parameters)
    assert repr(found) == repr(layer)
    np.testing.assert_array_equal(found(X)[0], layer(X)[0])
    assert load_model(layer) is layer


def test_what_shapes_do_not_tell_can_be_stated():
    layer = bptt.SLSTM(4, 6, heads=2, seed=0)
    found = load_model(layer.parameters, cell="slstm", heads=2)
    np.testing.assert_array_equal(found(X)[0], layer(X)[0])
    old = bptt.LSTM1997(4, 6, seed=0)
    np.testing.assert_array_equal(load_model(old.parameters, cell="lstm1997")(X)[0], old(X)[0])
    rnn = bptt.RNN(4, 6, activation="relu", batch_first=True, seed=0)
    found = load_model(rnn.parameters, activation="relu", batch_first=True)
    assert repr(found) == repr(rnn)
    coupled = bptt.LSTM(4, 6, forget_gate="coupled", seed=0)
    found = load_model(coupled.parameters, cell="lstm", forget_gate="coupled")
    np.testing.assert_array_equal(found(X)[0], coupled(X)[0])


def test_one_layer_among_others():
    parts = {"encoder": LAYERS["gru"](), "decoder": LAYERS["rnn"](), "out": bptt.Linear(6, 2)}
    both = bptt.optim.join(**{k: layer.parameters for k, layer in parts.items()})
    assert repr(load_model(both, "encoder")) == repr(parts["encoder"])
    with pytest.raises(ValueError, match=r"name is missing, expected one of .'enc"):
        bptt.gradient_flow(both, X)
    found = load_model(both)
    assert {k: repr(v) for k, v in found.items()} == {
        k: repr(parts[k]) for k in ("encoder", "decoder")
    }
    assert repr(load_model(both, "out")) == repr(parts["out"])
    with pytest.raises(ValueError, match="name is 'in', expected one of"):
        load_model(both, "in")


def test_torch_layers_and_state_dicts():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for module in (
        torch.nn.RNN(4, 6, 2, nonlinearity="relu", batch_first=True),
        torch.nn.GRU(4, 6, bidirectional=True, bias=False).double(),
        torch.nn.LSTM(4, 6, 2, dropout=0.5).eval(),
    ):
        layer = load_model(module)
        x = X.swapaxes(0, 1).copy() if module.batch_first else X
        weight = next(module.parameters())
        expected = module(torch.tensor(x, dtype=weight.dtype))[0].detach().numpy()
        np.testing.assert_allclose(layer(x)[0], expected, rtol=1e-5, atol=1e-6)
        assert layer.dtype == expected.dtype
        np.testing.assert_array_equal(layer.forward(x)[0], layer(x)[0])  # eval: drops nothing
    assert repr(load_model(module.state_dict())) == repr(layer)


@pytest.mark.parametrize(
    ("arrays", "how", "error", "words"),
    [
        ({}, {}, ValueError, "source has the names []"),
        ({"w": np.eye(2)}, {}, ValueError, "source has the names ['w'], expected weight_ih_l0"),
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
        load_model(arrays, **how)


def test_a_layer_states_its_own():
    with pytest.raises(TypeError, match="cell or options are given"):
        load_model(LAYERS["rnn"](), cell="rnn")


# --- what x is ------------------------------------------------------------------------------------


def test_the_reading_of_x_is_stated_where_the_model_cannot_tell_it():
    layer = LAYERS["gru"]()
    first = X.swapaxes(0, 1)
    for model, x, reading in (
        (layer, X, ""),
        (layer.parameters, X, "x of shape (30, 3, 4) is read as (T, B, I); batch_first reads (B,"),
        (layer.parameters, X[:, 0], "x of shape (30, 4) is read as (T, I), one sequence"),
    ):
        report = bptt.gradient_flow(model, x)
        assert report.reading.startswith(reading)
        assert bool(report.reading) == bool(reading)
        assert (reading in str(report).splitlines()[1]) or not reading
        assert (reading in report._repr_html_()) or not reading
    # The same numbers in the other order are other sequences: nothing but the reading tells it.
    swapped = bptt.gradient_flow(layer.parameters, first)
    assert len(swapped.lengths) == 30
    assert "(3, 30, 4) is read as (T, B, I)" in str(swapped)


def test_lengths_that_fit_the_other_reading_alone_are_refused():
    layer = LAYERS["gru"]()
    message = (
        "gradient_flow: lengths has shape (3,), expected (B,) = (30,), as x of shape (3, 30, 4) is "
        "read as (T, B, I); batch_first reads (B, T, I)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        bptt.gradient_flow(layer.parameters, X.swapaxes(0, 1), lengths=[30, 10, 20])


IDS = np.arange(1600).reshape(50, 32) % 4
HINT = "; ids become features by bptt.Embedding or one-hot rows"


@pytest.mark.parametrize(
    ("inputs", "x", "options", "message"),
    [
        (4, IDS, {}, "x has shape (50, 32), expected (T, B, 4) or (T, 4)" + HINT),
        (4, IDS.tolist(), {}, "x has shape (50, 32), expected (T, B, 4) or (T, 4)" + HINT),
        (4, IDS.astype(float), {}, "x has shape (50, 32), expected (T, B, 4) or (T, 4)"),
        (4, IDS, {"batch_first": True}, "x has shape (50, 32), expected (B, T, 4) or (T, 4)"),
        (32, IDS, {}, "x has whole numbers in two axes, (50, 32), which may be (T, I) or ids"),
        (
            4,
            IDS[..., None],
            {},
            "x has shape (50, 32, 1), expected (T, B, input_size)",
        ),
        (4, IDS[0], {}, "x has shape (32,), expected (T, B, input_size) = (T, B, 4)" + HINT),
    ],
)
def test_a_message_shows_the_shape_that_was_given(inputs, x, options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        bptt.gradient_flow(bptt.GRU(inputs, 3, **options), x)
    assert str(caught.value).endswith(HINT) == (np.asarray(x).dtype.kind == "i")


def test_whole_numbers_that_can_be_nothing_else_are_features():
    gru = bptt.GRU(4, 3, dtype="float64", seed=0)
    x = np.arange(2 * 9 * 4).reshape(9, 2, 4)
    ours, floats = bptt.gradient_flow(gru, x), bptt.gradient_flow(gru, x.astype(float))
    assert str(ours) == str(floats)


def test_a_gradient_of_another_shape_is_shown_as_given():
    message = "gradient_flow: dy has shape (30, 4), expected (T, B, 6) or (T, 6)"
    with pytest.raises(ValueError, match=re.escape(message)):
        bptt.gradient_flow(LAYERS["gru"](), X[:, 0], dy=X[:, 0])


def test_layers_and_streams_hint_at_embeddings():
    layer = bptt.GRU(4, 3)
    stream = layer.stream(32)
    for call, x in (
        (layer, IDS),
        (layer.forward, IDS),
        (stream.step, IDS[0]),
        (stream.process, IDS),
    ):
        with pytest.raises(ValueError, match=re.escape(HINT)):
            call(x)
    with pytest.raises(ValueError, match=r"= \(T, B, 4\)$"):
        layer(IDS.astype(float))


# --- the command ----------------------------------------------------------------------------------


def test_from_end_to_end(files):
    pytest.importorskip("matplotlib")
    page, picture = files / "report.html", files / "report.png"
    args = (files / "model.npz", "--data", files / "x.npy", "--html", page, "--plot", picture)
    done = flow(*args)
    assert (done.returncode, done.stderr) == (0, "")
    report = bptt.gradient_flow(LAYERS["rnn"]().parameters, X)
    assert "x of shape (30, 3, 4) is read as (T, B, I); batch_first" in str(report)
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
    layer = load_model(LAYERS["rnn"]().parameters, activation="relu")
    report = bptt.gradient_flow(layer, X, loss="every", lengths=[30, 10, 20], seed=3)
    text = str(report).replace("RNN(4, 6, a", "RNN(4, 6, batch_first=True, a")
    text = text.replace("Loss", "x of shape (3, 30, 4) is read as (B, T, I)\nLoss", 1)
    assert done.stdout.split() == f"{text}\n".split()


TABLES = {
    "commas.csv": "{a},{b}\n", "semicolons.csv": "{a};{b}\n", "tabs.tsv": "{a}\t{b}\n",
    "quotes.CSV": '"{a}" , "{b}"\r\n',
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("head", [False, True])
def test_data_from_a_table(tmp_path, name, head, capsys):
    layer = bptt.LSTM(2, 3, seed=0)
    bptt.save(tmp_path / "m.npz", layer.parameters)
    x = np.random.default_rng(0).standard_normal((12, 2)).round(3)
    line = TABLES[name]
    text = line.format(a="first", b="second") * head
    text += "".join(line.format(a=a, b=b) for a, b in x) + "\n"
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" * head + text.encode())
    (tmp_path / "lengths.csv").write_text("length\n9\n")
    from bptt.cli import main

    args = ["flow", str(tmp_path / "m.npz"), "--data", str(tmp_path / name)]
    assert main([*args, "--lengths", str(tmp_path / "lengths.csv")]) == 0
    report = bptt.gradient_flow(layer.parameters, x, lengths=[9])
    assert capsys.readouterr().out == f"{report}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no row of numbers, expected one for each step"),
        ("a,b\n", "has no row of numbers, expected one for each step"),
        ("a,b,c,d\n1,2,3,4\n1,2,3\n", "has 3 columns in line 3, expected 4"),
        ("1,2,3,4\n\n1,2,x,4\n", "has 'x' in line 3, column 3, expected a number"),
        ("1,2,,4\n", "has '' in line 1, column 3, expected a number"),
        ("1,5;2,5;3;4\n", "has '1,5' in line 1, column 1, expected a number"),
        ("1,2,3\n", "x has shape (1, 3), expected (T, B, 4) or (T, 4)"),
    ],
)
def test_a_table_that_is_none(files, text, words, capsys):
    (files / "x.csv").write_text(text)
    from bptt.cli import main

    assert main(["flow", str(files / "model.npz"), "--data", str(files / "x.csv")]) == 2
    assert words in capsys.readouterr().err


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
        (("x.npy", "--data", "x.npy"), "is one array in npy format, which numpy.load"),
        (("model.npz", "--data", "no.npy"), "No such file"),
        (("model.npz", "--data", "text"), "text is not an array in npy format"),
        (("model.npz", "--data", "model.npz"), "is an archive of arrays, expected one array"),
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
