# SPDX-License-Identifier: MIT
"""The command line: what it prints, and that no misuse ends in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import pytest

import bptt
from bptt import cli


def bptt_command(*args, **environment):
    return subprocess.run(
        [sys.executable, "-m", "bptt", *args],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


def fails_in_one_line(done, *words):
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    for word in ("bptt", *words):
        assert word in done.stderr


def test_info():
    done = bptt_command("info")
    assert (done.returncode, done.stderr) == (0, "")
    for key, value in bptt.show_config().items():
        values = value if isinstance(value, list) else [value]
        assert any(line.split() == [key, *map(str, values)] for line in done.stdout.splitlines()), (
            key
        )


def test_version():
    assert bptt_command("--version").stdout == f"bptt {bptt.__version__}\n"


def test_help_names_every_command_and_option(capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert all(
        command in text for command in ("info", "demo", "bench", "export", "flow", "--version")
    )
    for command, options in {"demo": ("--quick", "--seed", "--out"), "info": ("--help",)}.items():
        with pytest.raises(SystemExit) as done:
            cli.main([command, "--help"])
        assert done.value.code == 0
        text = capsys.readouterr().out
        assert f"bptt {command}" in text
        assert all(option in text for option in options)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), ("no command", "info, demo, bench", "--help")),
        (("dmo",), ("dmo", "info", "demo", "bench")),
        (("--speed",), ("--speed",)),
        (("info", "extra"), ("extra", "bptt info --help")),
        (("demo", "--sed", "1"), ("--sed", "bptt demo --help")),
        (("demo", "--seed", "-1"), ("--seed", "non-negative int", "-1")),
        (("demo", "--seed", "one"), ("--seed", "non-negative int", "one")),
        (("demo", "--out", "no/such/folder/x.png"), ("--out", "folder", "no/such/folder")),
        (("demo", "--out", "."), ("--out", "expected a file")),
        (("demo", "--out", "x.xyz"), ("--out", ".xyz", "png")),
    ],
)
def test_wrong_use(args, words):
    if ".xyz" in words:
        pytest.importorskip("matplotlib")
    fails_in_one_line(bptt_command(*args), *words)


def test_unknown_instruction_set():
    fails_in_one_line(bptt_command("info", BPTT_ISA="abacus"), "abacus", bptt.show_config()["isa"])


def test_commands_are_modules(monkeypatch, capsys):
    module = types.SimpleNamespace(
        add_arguments=lambda parser: parser.add_argument("--n", type=int),
        run=lambda args: print("n is", args.n) or 7,
    )
    monkeypatch.setitem(sys.modules, "bptt.bench", module)
    assert cli.main(["bench", "--n", "3"]) == 7
    assert capsys.readouterr().out == "n is 3\n"


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (KeyboardInterrupt(), 130, "bptt: interrupted\n"),
        (ValueError("bench: n is 3, expected 4"), 2, "bptt: bench: n is 3, expected 4\n"),
        (FileNotFoundError(2, "No such file", "x"), 2, "bptt: [Errno 2] No such file: 'x'\n"),
    ],
)
def test_errors_are_one_line(monkeypatch, capsys, error, code, stderr):
    def run(args):
        raise error

    module = types.SimpleNamespace(add_arguments=lambda parser: None, run=run)
    monkeypatch.setitem(sys.modules, "bptt.bench", module)
    assert cli.main(["bench"]) == code
    assert capsys.readouterr().err == stderr


@pytest.mark.skipif(os.name != "posix", reason="closed pipes are reported differently elsewhere")
def test_closed_pipe():
    done = subprocess.run(
        f'"{sys.executable}" -m bptt info | true; exit "${{PIPESTATUS[0]}}"',
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
