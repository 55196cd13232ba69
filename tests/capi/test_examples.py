# SPDX-License-Identifier: MIT
"""The programs of examples/embed, compiled against the installed package and run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bptt
from bptt.optim import join
from support.paths import ROOT
from support.toolchain import missing, needs

EXAMPLES = ROOT / "examples" / "embed"
WARNINGS = ["-Wall", "-Wextra", "-Werror"]

Build = Callable[..., str]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Compiles an example with what `python -m bptt` says; gives the program's path."""

    def compiled(source: str, compiler: str, *options: str, output: str = "program") -> str:
        needs(compiler)
        sdk = subprocess.run(
            [sys.executable, "-m", "bptt", "--includes", "--libs"], capture_output=True, text=True
        )
        if sdk.returncode:
            missing(f"headers and library: {sdk.stderr.strip()}")
        path = str(tmp_path / output)
        command = [compiler, *WARNINGS, *options, str(EXAMPLES / source), *sdk.stdout.split()]
        subprocess.run([*command, "-o", path], check=True, timeout=300)
        return path

    return compiled


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_an_lstm_learns_xor_in_c(build: Build, compiler: str) -> None:
    """The program fails below 99 % of the bits."""
    program = build("embed.c", compiler, "-std=c89", "-pedantic", "-O2")
    assert "bits right" in run(program)


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_a_gru_learns_to_add_in_cpp(build: Build, compiler: str) -> None:
    """The program fails if the loss stays high, or a stream has other bits."""
    program = build("embed.cpp", compiler, "-std=c++17", "-pedantic", "-O2")
    assert "the same bits" in run(program)


def test_an_amplifier_is_learned_and_played(build: Build, tmp_path: Path) -> None:
    """The program fails if its samples differ from the ones that Python's layers make."""
    learned = run(
        sys.executable, EXAMPLES / "amp.py", "--epochs", "3", "--seconds", "3", "--folder", tmp_path
    )
    assert "not seen in training" in learned
    program = build("amp.cpp", "g++", "-std=c++17", "-O2", f"-I{tmp_path}")
    names = ("clean.f32", "amplified.f32", "expected.f32")
    clean, amplified, expected = (tmp_path / name for name in names)
    played = run(program, clean, amplified, expected)
    assert "1500 blocks of 64 samples" in played
    np.testing.assert_allclose(
        np.fromfile(amplified, np.float32), np.fromfile(expected, np.float32), atol=2e-5
    )
    samples = np.fromfile(clean, np.float32)
    samples[-1] = np.nan
    samples.tofile(clean)
    assert subprocess.run([program, clean, amplified, expected]).returncode == 1


@pytest.mark.parametrize("cell", [bptt.RNN, bptt.LSTM, bptt.GRU])
def test_sqlite_predicts(build: Build, tmp_path: Path, cell: type[bptt.RNN]) -> None:
    pytest.importorskip("safetensors")
    needs("sqlite3")
    if subprocess.run(
        ["gcc", "-E", "-include", "sqlite3ext.h", "-xc", "/dev/null"], capture_output=True
    ).returncode:
        missing("sqlite3ext.h")
    layer, out = cell(1, 9, seed=0), bptt.Linear(9, 1, seed=1)
    model = tmp_path / "model.safetensors"
    bptt.save(model, join(rnn=layer.parameters, out=out.parameters))
    (tmp_path / "cut.safetensors").write_bytes(model.read_bytes()[:-4])
    extension = build(
        "sqlite_bptt.c",
        "gcc",
        "-shared",
        "-fPIC",
        "-Wl,--exclude-libs,ALL",
        output="sqlite_bptt.so",
    )

    def query(expression: str, before: str = "") -> str:
        sql = f".load {extension}\n{before}SELECT {expression};\n"
        done = subprocess.run(
            ["sqlite3", ":memory:"], input=sql, capture_output=True, text=True, cwd=tmp_path
        )
        return done.stdout.strip() or done.stderr

    series = np.random.default_rng(0).standard_normal(20).astype(np.float32)
    h = layer.forward(series[:, None, None])[0][-1]
    expected = float(out.forward(h)[0][0, 0])
    read = "readfile('model.safetensors')"
    for given in (f"x'{series.tobytes().hex()}'", f"'{series.tolist()}'"):
        assert float(query(f"bptt_predict({read}, {given})")) == pytest.approx(expected, abs=1e-6)
    assert float(query(f"bptt_predict({read}, '')")) == pytest.approx(
        float(out.parameters["bias"][0])
    )
    assert query(f"bptt_predict({read}, NULL) IS NULL") == "1"
    for wrong in ("x'00'", "'text'", "readfile('cut.safetensors')"):
        assert "model is something else" in query(f"bptt_predict({wrong}, '1 2')")
    one = float(query(f"bptt_predict({read}, '[-12.5e-1]')"))
    for same in ("-1.25", " -1.25 ", "[ -.125e+1 ]", "-125000000000000000000000e-23"):
        assert float(query(f"bptt_predict({read}, '{same}')")) == pytest.approx(one, abs=1e-7)
    assert query(f"bptt_predict({read}, '0e9999')") == query(f"bptt_predict({read}, '0')")
    wrong_series = [
        "'info 0.1'", "'[1, null]'", "'[1, 2'", "'1, 2]'", "'1,,2'", "'1,'", "'0x10'", "'nan'",
        "'1;2'", "'1.2.3'", "'1e'", "'[1] 2'", "'1 2x'", "x'0011'", "'1' || char(0) || '2'",
        "'1e39'", "'1e9999'",
    ]  # fmt: skip
    for wrong in wrong_series:
        assert "series is something else" in query(f"bptt_predict({read}, {wrong})")
    rows = f"group_concat(p) FROM (SELECT bptt_predict({read}, column1) AS p FROM rows)"
    table = "CREATE TABLE rows AS VALUES ('1'), ('1 2'), ('1');\n"
    first, second, third = (float(p) for p in query(rows, table).split(","))
    assert first == third != second
