# SPDX-License-Identifier: MIT
"""docs/nine_jobs.md: both sides of each job run, agree, and have the lines that the page counts."""

from __future__ import annotations

import copy
import csv
import os
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import bptt
from bptt import cli
from support.paths import ROOT
from support.toolchain import needs, needs_installed_package, options, run

os.environ.setdefault("KERAS_BACKEND", "torch")

PAGE = (ROOT / "docs" / "nine_jobs.md").read_text("utf-8")
SIDES = ("bptt", "PyTorch")
Names = dict[str, Any]


class Job(NamedTuple):
    """The blocks of a section: what is given, and the two sides, each a list of language, code."""

    given: list[tuple[str, str]]
    bptt: list[tuple[str, str]]
    torch: list[tuple[str, str]]

    def lines(self) -> tuple[int, int]:
        return lines_of(self.bptt), lines_of(self.torch)


def blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def lines_of(code: list[tuple[str, str]]) -> int:
    """The lines that are neither blank nor a comment."""
    lines = [line.strip() for _, text in code for line in text.splitlines()]
    return sum(bool(line) and not line.startswith(("# ", "//")) for line in lines)


def jobs() -> dict[str, Job]:
    found = {}
    for section in PAGE.split("\n## ")[1:]:
        parts = re.split(r"^\*\*(bptt|PyTorch)\*\*$", section, flags=re.MULTILINE)
        assert parts[1::2] == [*SIDES], section
        found[section.splitlines()[0]] = Job(*map(blocks, parts[::2]))
    return found


JOBS = jobs()


def test_no_job_takes_more_lines_than_in_pytorch() -> None:
    table = re.findall(r"^\| \[(.*?)\]\(#.*?\) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert {name: (int(ours), int(theirs)) for name, ours, theirs in table} == {
        name: job.lines() for name, job in JOBS.items()
    }
    assert len(table) == 9
    assert all(int(ours) <= int(theirs) for _, ours, theirs in table)


def test_neither_side_saves_lines_by_their_length() -> None:
    for job in JOBS.values():
        for _, code in (*job.given, *job.bptt, *job.torch):
            assert max(map(len, code.splitlines())) <= 100
            assert not re.search(r"; \w", code) or "int main" in code


# --- running them ---------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the code writes its files."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def execute(code: list[tuple[str, str]], names: Names) -> Names:
    """Run the blocks of Python, as one program, after the names that it is given."""
    names = dict(names)
    exec("\n".join(text for language, text in code if language == "python"), names)
    return names


def given(title: str, names: Names | None = None) -> tuple[Job, Names]:
    job = JOBS[title]
    imports = {"np": np, "bptt": bptt}
    return job, execute(job.given, imports | (names or {}))


def last_number(capsys: pytest.CaptureFixture[str]) -> float:
    return float(re.findall(r"\d+\.\d+|\d+", capsys.readouterr().out)[-1])


def torch_or_skip() -> Any:
    return pytest.importorskip("torch")


def test_character_lstm(capsys: pytest.CaptureFixture[str]) -> None:
    job, names = given("Character LSTM with carried state")
    execute(job.bptt, names)
    ours = last_number(capsys)
    share = np.bincount(names["ids"].ravel()) / names["ids"].size
    assert ours < 0.75 * -(share * np.log2(share)).sum()
    torch_or_skip()
    execute(job.torch, names)
    assert last_number(capsys) == pytest.approx(ours, abs=0.1)


def test_classifier(capsys: pytest.CaptureFixture[str]) -> None:
    job, names = given("Classifier of sequences of different lengths")
    execute(job.bptt, names)
    ours = last_number(capsys)
    assert ours > 0.93
    torch_or_skip()
    execute(job.torch, names)
    assert last_number(capsys) == pytest.approx(ours, abs=0.04)


def test_forecast(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas")
    source = Path(bptt.__file__).parent / "data" / "co2.csv"
    (folder / "co2.csv").write_bytes(source.read_bytes())
    job, names = given("Forecast from a CSV file")
    ppm = bptt.datasets.load_co2().ppm
    naive = float(np.sqrt(np.mean((ppm[-26:] - ppm[-78:-52]) ** 2)))
    execute(job.bptt, names)
    ours = last_number(capsys)
    assert ours < naive / 2
    torch_or_skip()
    execute(job.torch, names)
    assert abs(last_number(capsys) - ours) < naive / 4


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("side", SIDES)
def test_pytorch_model(side: str) -> None:
    torch = torch_or_skip()
    job, names = given("PyTorch model made faster")
    before = copy.deepcopy(names["model"])
    after = execute(job.bptt if side == "bptt" else job.torch, names)["model"]
    ids, target = torch.randint(100, (7, 3)), torch.randint(5, (21,))
    for model in (before, after):
        torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), target).backward()
    for one, other in zip(before.parameters(), after.parameters()):
        torch.testing.assert_close(one.grad, other.grad)
    if side == "bptt":
        assert after.lstm.backend == "bptt"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras
def test_weights(folder: Path) -> None:
    torch, keras = torch_or_skip(), pytest.importorskip("keras")
    library = pytest.importorskip("onnx")
    pytest.importorskip("h5py")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras has another backend than torch")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 6, 12)).astype(np.float32)
    source = keras.Sequential([keras.Input((None, 12)), keras.layers.LSTM(16, name="lstm"),
                               keras.layers.Dense(9, name="dense")])  # fmt: skip
    source.save("speaker.keras")
    write_encoder(library, rng)

    job = JOBS["Weights from Keras and ONNX"]
    ours, theirs = execute(job.bptt, {}), execute(job.torch, {})
    with torch.no_grad():
        want, encoded = theirs["speaker"](torch.tensor(x)), theirs["encoder"](torch.tensor(x))[0]
    np.testing.assert_allclose(ours["speaker"](x), want.numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(want.numpy(), source.predict(x, verbose=0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours["encoder"](x)[0], encoded.numpy(), rtol=0, atol=1e-6)
    (read,) = library.reference.ReferenceEvaluator("encoder.onnx").run(None, {"X": x})
    np.testing.assert_allclose(read, encoded.numpy(), rtol=0, atol=1e-6)


def write_encoder(library: Any, rng: np.random.Generator) -> None:
    """An LSTM of 12 to 16 numbers in a file of ONNX."""
    make, number = library.helper, library.TensorProto.FLOAT
    shapes = {"W": (1, 64, 12), "R": (1, 64, 16), "B": (1, 128)}
    arrays = [library.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
              for name, shape in shapes.items()]  # fmt: skip
    axes = library.numpy_helper.from_array(np.array([1]), "axes")
    nodes = [make.make_node("LSTM", ["X", *shapes], ["all"], hidden_size=16),
             make.make_node("Squeeze", ["all", "axes"], ["Y"])]  # fmt: skip
    ends = (make.make_tensor_value_info(name, number, ["T", "B", size])
            for name, size in (("X", 12), ("Y", 16)))  # fmt: skip
    graph = make.make_graph(nodes, "one", *([end] for end in ends), [*arrays, axes])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 22)], ir_version=10)
    library.save(model, "encoder.onnx")


def test_reinforcement_learning(capsys: pytest.CaptureFixture[str]) -> None:
    job, names = given("Reinforcement learning: rollout and update")
    execute(job.bptt, names)
    assert last_number(capsys) > 90
    torch_or_skip()
    execute(job.torch, names)
    assert last_number(capsys) > 90


def test_gradient_flow(capsys: pytest.CaptureFixture[str]) -> None:
    torch = torch_or_skip()
    job, names = given("Report of the gradient flow", {"torch": torch, "nn": torch.nn})
    report = execute(job.bptt, names)["report"]
    assert "vanishing: the gradient shrinks" in capsys.readouterr().out
    theirs = execute(job.torch, names)
    dy = np.zeros((100, 8, 16), np.float32)
    dy[-1] = theirs["direction"]
    same = bptt.gradient_flow(names["rnn"], names["x"], dy)
    np.testing.assert_allclose(same.cells[0].dh, theirs["norms"], rtol=1e-4, atol=1e-20)
    assert report.cells[0].curve.horizon == pytest.approx(float(theirs["reached"]), abs=3)


@pytest.mark.parametrize("side", SIDES)
def test_stream_in_c(side: str, folder: Path) -> None:
    needs("cc")
    job, names = given("Stream in C")
    model = names["model"]
    if side == "bptt":
        needs_installed_package()
    else:
        torch = torch_or_skip()
        names |= {"lstm": torch.nn.LSTM(1, 16), "head": torch.nn.Linear(16, 1)}
        for module, layer in zip((names["lstm"], names["head"]), model.layers):
            module.load_state_dict({k: torch.tensor(v) for k, v in layer.parameters.items()})
    code = job.bptt if side == "bptt" else job.torch
    execute(code, names)
    ((_, source),) = [block for block in code if block[0] == "c"]
    (folder / "main.c").write_text(source)
    libraries = options("includes") + options("libs") if side == "bptt" else ["-lm"]
    run("cc", "-std=c99", "main.c", *libraries, "-o", "amp", cwd=folder)
    x = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    (folder / "x.txt").write_text("\n".join(f"{number:.9g}" for number in x))
    y = np.array(run("sh", "-c", "./amp < x.txt", cwd=folder).split(), np.float32)
    stream = model.stream()
    want = np.array([stream.step(x_t[None, None]).item() for x_t in x], np.float32)
    if side == "bptt":
        np.testing.assert_array_equal(y, want)
    else:
        np.testing.assert_allclose(y, want, rtol=0, atol=1e-6)


def test_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job, truth = JOBS["Training from the command line"], write_gestures(folder)
    found = []
    for line in job.bptt[0][1].splitlines():
        command, _, target = line.partition(" > ")
        name, *words = shlex.split(command)
        assert (name, cli.main(words)) == ("bptt", 0)
        said = capsys.readouterr().out
        if target:
            (folder / target).write_text(said)
    found.append(read_predictions(folder))
    pytest.importorskip("pandas")
    torch_or_skip()
    (folder / "predictions.csv").unlink()
    execute(job.torch, {})
    found.append(read_predictions(folder))
    for rows in found:
        assert [*rows[0]] == ["rec", "prediction", "p(falls)", "p(rises)"]
        assert [row["rec"] for row in rows] == [*truth]
        assert np.mean([row["prediction"] == truth[row["rec"]] for row in rows]) > 0.85


def write_gestures(folder: Path) -> dict[str, str]:
    """Write both files; the result is what the recordings of the second one are."""
    rng, rows = np.random.default_rng(0), ["rec,x,y,label"]
    new, truth = ["rec,x,y"], {}
    for k in range(180):
        label = "rises" if k % 2 else "falls"
        for step in rng.normal([0, 0.5 if k % 2 else -0.5], 1, (rng.integers(6, 14), 2)):
            text = f"r{k},{step[0]:.3f},{step[1]:.3f}"
            if k < 120:
                rows.append(f"{text},{label}")
            else:
                new.append(text)
                truth[f"r{k}"] = label
    (folder / "gestures.csv").write_text("\n".join(rows))
    (folder / "new.csv").write_text("\n".join(new))
    return truth


def read_predictions(folder: Path) -> list[dict[str, str]]:
    with open(folder / "predictions.csv", newline="") as file:
        return [*csv.DictReader(file)]
