# SPDX-License-Identifier: MIT
"""``bptt fit``, ``predict`` and ``generate``: from files to files, and every error."""

from __future__ import annotations

import json

import numpy as np
import pytest

import bptt
from bptt import models
from support.command import main

QUICK = ("--epochs", "30", "--hidden-size", "8", "--lr", "0.02")


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """A table with a row for each step: 40 recordings, a class and a number for each."""
    rng, lines = np.random.default_rng(0), ["rec,x,z,number,label"]
    for k in range(40):
        sign = 1 if k % 2 else -1
        for x in rng.normal(sign, 0.5, rng.integers(5, 9)):
            lines.append(f"r{k},{x:.4f},{rng.normal():.4f},{3 * sign},{'up' if k % 2 else 'down'}")
    path = tmp_path_factory.mktemp("data") / "steps.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_sequences(task, steps, tmp_path, capsys):
    out, target = tmp_path / "m.npz", {"classify": "label", "regress": "number"}[task]
    text = steps.read_text().splitlines()
    drop = 3 if task == "classify" else 4  # one target gives the other away
    rows = [",".join(cell for k, cell in enumerate(line.split(",")) if k != drop) for line in text]
    data = tmp_path / "d.csv"
    data.write_text("\n".join(rows))
    code, output, _ = main(capsys, "fit", data, "--task", task, "--group-column", "rec", "--target",
                           target, "--out", out, "--json", *QUICK)  # fmt: skip
    said = json.loads(output)
    assert code == 0
    assert said["score"]["better"]
    assert said["epochs"] == 30
    assert (said["task"], said["out"], said["bytes"]) == (task, str(out), out.stat().st_size)
    assert said["parameters"] == sum(a.size for a in models.load(out).model_.parameters.values())

    code, output, error = main(capsys, "predict", out, data)
    table = [line.split(",") for line in output.splitlines()]
    assert (code, len(table), table[1][0]) == (0, 41, "r0")
    assert "on 40 sequences" in error
    wanted = models.load(out)
    x = [np.array([row.split(",")[1:3] for row in rows[1:] if row.startswith(f"r{k},")], float)
         for k in range(40)]  # fmt: skip
    if task == "classify":
        assert [row[1] for row in table[1:]] == wanted.predict(x).tolist()
        np.testing.assert_allclose(
            [[float(p) for p in row[2:]] for row in table[1:]], wanted.predict_proba(x), rtol=1e-4
        )
    else:
        np.testing.assert_allclose([float(row[1]) for row in table[1:]], wanted.predict(x), 1e-4)
    bare = tmp_path / "bare.csv"  # without the target
    bare.write_text("\n".join(",".join(row.split(",")[:3]) for row in rows))
    assert main(capsys, "predict", out, bare) == (0, output, "")


def test_texts_and_the_unknown_baseline(tmp_path, capsys):
    data, out = tmp_path / "d.tsv", tmp_path / "m.npz"
    data.write_text("text\tmood\n" + "a good, good day\tyes\n" * 20 + '"a bad\nday"\tno\n' * 20)
    code, output, _ = main(
        capsys, "fit", data, "--task", "classify", "--out", out, *QUICK
    )  # fmt: skip
    assert code == 0
    assert "40 texts, 2 classes" in output
    assert "always answering" in output
    assert f"bptt predict {out} {data}" in output
    assert main(capsys, "predict", out, data)[1].splitlines()[-1].startswith("40,no,")


def test_npz_with_lengths_and_a_score_no_better_than_the_baseline(tmp_path, capsys):
    rng, data, out = np.random.default_rng(0), tmp_path / "d.npz", tmp_path / "m.npz"
    y = np.repeat([0, 1], [18, 2])
    np.savez(data, x=rng.normal(size=(20, 4, 2)), y=y, lengths=rng.integers(1, 5, 20))
    code, output, _ = main(capsys, "fit", data, "--task", "classify", "--epochs", "1", "--out", out)
    assert code == 1  # nothing to learn
    assert "no worse than the model" in output
    assert "20 sequences of 1 to 4 steps, 2 features" in output
    assert len(main(capsys, "predict", out, data)[1].splitlines()) == 21


def test_forecast(tmp_path, capsys):
    data, out = tmp_path / "d.csv", tmp_path / "m.npz"
    days = np.arange("2024-01-01", "2024-07-19", dtype="datetime64[s]")[::86400]
    values = np.sin(np.arange(200) * 2 * np.pi / 8).round(4)
    rows = [f"{day},{value}" for day, value in zip(days.astype("datetime64[D]"), values)]
    data.write_text("day,value\n" + "\n".join(rows))
    code, output, _ = main(capsys, "fit", data, "--task", "forecast", "--steps", "3", "--window",
                           "16", "--out", out, "--json", *QUICK)  # fmt: skip
    said = json.loads(output)
    assert code == 0
    assert said["score"]["value"] < said["score"]["baseline"]
    assert "share of values in the 80% interval" in said["score"]
    found = json.loads(main(capsys, "predict", out, data, "--json")[1])["predictions"]
    assert [row["date"] for row in found] == ["2024-07-19", "2024-07-20", "2024-07-21"]
    assert all(row["q0.1"] <= row["prediction"] <= row["q0.9"] for row in found)
    wanted = models.load(out).predict(series=[values], dates=days)[0]
    assert [row["prediction"] for row in found] == wanted.tolist()


def test_text(tmp_path, capsys):
    data, out = tmp_path / "d.txt", tmp_path / "m.npz"
    data.write_text("abcd" * 200)
    code, output, _ = main(capsys, "fit", data, "--task", "text", "--window", "16", "--batch-size",
                           "8", "--out", out, *QUICK)  # fmt: skip
    assert code == 0
    assert "perplexity" in output
    assert "bptt generate" in output
    assert main(capsys, "generate", out, "--prompt", "ab", "--length", "6", "--temperature", "0") \
        == (0, "abcdabcd\n", "")  # fmt: skip
    said = json.loads(main(capsys, "generate", out, "--prompt", "ab", "--json", "--seed", "1")[1])
    assert (said["prompt"], len(said["text"])) == ("ab", 200)
    assert main(capsys, "predict", out, data)[0] == 2
    code, _, error = main(capsys, "generate", out, "--prompt", "")
    assert (code, "prompt" in error) == (2, True)


# --- errors ---------------------------------------------------------------------------------------

TABLES = {
    b"rec,x,label\na,1,u\na,zwei,u\n": ("'zwei'", "line 3, column 2 ('x')", "a number"),
    b"rec,x,label\na,1,u\n\na,,u\n": ("nothing", "line 4, column 2 ('x')"),
    b"rec,x,label\na,nan,u\n": ("'nan'", "line 2, column 2", "number"),
    b"rec,x,label\na,1,u\na,2\n": ("2 columns in line 3", "expected 3"),
    b"rec,x,label\na,1,u\na,2,v\n": ("'v'", "line 3, column 3", "'u' as in line 2"),
    b"rec,x,label\n": ("no row",),
    b"": ("empty",),
    b"1,2,3\n4,5,6\n": ("numbers in line 1", "names"),
    b"rec,rec,label\na,1,u\n": ("'rec' twice", "column 2"),
    b"rec,,label\na,1,u\n": ("no name", "column 2"),
    b"x,label\n1,u\n": ("'x', 'label'", "'rec'"),
    b"rec,x,label\na,\xff,u\n": ("0xff in line 2", "UTF-8"),
    b"rec,x,label\na,\0,u\n": ("NUL in line 2",),
    b"\x89HDF\r\n\x1a\n" + bytes(80): ("HDF5", "table"),
    b'rec,x,label\na,"1,u\n': ("no table at line 2",),
}


@pytest.mark.parametrize("content", TABLES)
def test_wrong_tables(content, tmp_path, capsys):
    data, out = tmp_path / "d.csv", tmp_path / "m.npz"
    data.write_bytes(content)
    code, output, error = main(capsys, "fit", data, "--task", "classify", "--group-column", "rec",
                               "--out", out)  # fmt: skip
    assert (code, output, error.count("\n"), out.exists()) == (2, "", 1, False)
    for word in ("bptt: fit: ", "d.csv", *TABLES[content]):
        assert word in error, error


def test_a_table_of_steps_without_a_group_column(steps, tmp_path, capsys):
    code, _, error = main(capsys, "fit", steps, "--task", "classify", "--out", tmp_path / "m.npz")
    assert (code, error.count("\n")) == (2, 1)
    assert error.endswith(": without --group-column, a row is a sequence of 4 steps\n"), error


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--task", "paint"), ("--task", "classify", "bptt fit --help")),
        (("--task", "classify", "--steps", "2"), ("--steps", "classify")),
        (("--task", "forecast"), ("--steps is missing",)),
        (("--task", "text", "--target", "x"), ("--target", "text")),
        (("--task", "classify", "--target", "no"), ("'no'", "'rec', 'x'")),
        (("--task", "classify", "--test", "1"), ("--test",)),
        (("--task", "classify", "--out", "m.pt"), ("--out", ".npz")),
        (("--task", "classify", "--lr", "nan", "--group-column", "rec"), ("lr",)),
    ],
)
def test_wrong_options(args, words, steps, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = () if "--out" in args else ("--out", "m.npz")
    code, output, error = main(capsys, "fit", steps, *args, *out)
    assert (code, output, error.count("\n"), [*tmp_path.iterdir()]) == (2, "", 1, [])
    assert all(word in error for word in words), error


def test_other_files_are_not_overwritten(steps, tmp_path, capsys):
    out = tmp_path / "m.npz"
    out.write_text("mine")
    assert main(capsys, "fit", steps, "--task", "classify", "--out", out)[0] == 2
    assert main(capsys, "predict", out, steps)[0] == 2
    model = tmp_path / "s.npz"
    bptt.Sequential(bptt.GRU(2, 3, seed=0), bptt.Linear(3, 1, seed=1)).save(model)
    assert main(capsys, "convert", model, out)[0] == 2
    assert out.read_text() == "mine"
    for name in ("mine.npz", "mine.safetensors"):
        arrays = tmp_path / name
        bptt.save(arrays, {"x": np.ones(3)})
        before = arrays.read_bytes()
        fit = ("fit", steps, "--task", "classify", "--group-column", "rec", "--epochs", "1")
        for words in ((*fit, "--out", arrays), ("convert", model, arrays)):
            code, _, error = main(capsys, *words)
            assert (code, error.count("\n")) == (2, 1)
            assert f"{name}', a file of arrays without a model's description, expected a" in error
            assert arrays.read_bytes() == before
    again = tmp_path / "again.npz"
    for _ in range(2):  # an earlier model is replaced
        assert main(capsys, *fit, "--out", again)[0] != 2
        assert main(capsys, "convert", model, tmp_path / "converted.npz")[0] == 0
        assert main(capsys, "convert", arrays, tmp_path / "copy.npz")[0] == 0
        assert main(capsys, *fit, "--out", tmp_path / "converted.npz")[0] != 2
    (tmp_path / "junk.npz").write_text("junk")
    assert "out has" in main(capsys, "convert", model, tmp_path / "junk.npz")[2]


def test_parquet(steps, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    data, out = tmp_path / "d.parquet", tmp_path / "m.npz"
    pandas.read_csv(steps).to_parquet(data)
    options = ("--task", "classify", "--group-column", "rec", "--epochs", "1", "--json")
    said = [json.loads(main(capsys, "fit", file, *options, "--out", out)[1])
            for file in (steps, data)]  # fmt: skip
    assert said[0]["loss"] == said[1]["loss"]
