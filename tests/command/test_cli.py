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
        ((), ("no command", "info, fit, predict", "--help")),
        (("dmo",), ("dmo", "info", "demo", "bench")),
        (("--speed",), ("--speed",)),
        (("info", "extra"), ("extra", "bptt info --help")),
        (("demo", "--sed", "1"), ("--sed", "bptt demo --help")),
        (("demo", "--seed", "-1"), ("--seed", "whole number from 0", "-1")),
        (("demo", "--seed", "one"), ("--seed", "whole number from 0", "one")),
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
        (FileNotFoundError(2, "No such file", "x"), 2, "bptt: 'x': No such file\n"),
        (ValueError("two\nlines, \x1b[31m"), 2, "bptt: two\\nlines, \\x1b[31m\n"),
        (MemoryError(), 2, "bptt: out of memory\n"),
        (MemoryError("Unable to allocate"), 2, "bptt: out of memory: Unable to allocate\n"),
    ],
)
def test_errors_are_one_line(monkeypatch, capsys, error, code, stderr):
    def run(args):
        raise error

    module = types.SimpleNamespace(add_arguments=lambda parser: None, run=run)
    monkeypatch.setitem(sys.modules, "bptt.bench", module)
    assert cli.main(["bench"]) == code
    assert capsys.readouterr().err == stderr


BROKEN = {  # what happens to the streams, the exit code, and what standard error and output say
    ">&-": (2, "bptt: standard output is closed, expected an open file or terminal\n", ""),
    "2>&-": (0, "", "isa"),
    ">&- 2>&-": (2, "", ""),
    "> /dev/full": (2, "bptt: No space left on device\n", ""),
    "> /dev/full 2>&-": (2, "", ""),
}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs such a device and a shell")
@pytest.mark.parametrize("streams", BROKEN)
def test_streams_that_take_nothing(streams):
    code, error, output = BROKEN[streams]
    done = subprocess.run(
        f'"{sys.executable}" -m bptt info {streams}',
        shell=True, executable="/bin/bash", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, error)
    assert output in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a shell")
def test_an_error_does_not_go_to_the_output():
    done = subprocess.run(
        f'"{sys.executable}" -m bptt flow none --data none 2>&-',
        shell=True, executable="/bin/bash", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_a_name_that_the_output_cannot_show_is_escaped(monkeypatch, tmp_path):
    module = "import sys, types; sys.modules['bptt.bench'] = types.SimpleNamespace("
    module += "add_arguments=lambda p: None, run=lambda a: print('\\udcff \\u00e9'));"
    done = subprocess.run(
        [sys.executable, "-c", f"{module} from bptt.cli import main; sys.exit(main(['bench']))"],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\udcff \\xe9\n", b"")


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
