# SPDX-License-Identifier: MIT
"""Compile against the installed package, by the options that it prints."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import pytest

import bptt
from support import embedded
from support.paths import ROOT, TESTS

CONSUMER = TESTS / "capi" / "consumer"


# As in an active environment.
PATH = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])


def run(*command: Any, cwd: Path | None = None, **environment: str) -> str:
    """Return the output of a command; a failure shows the output in the test."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=300, cwd=cwd,
        env={**os.environ, "PATH": PATH, **environment},
    )  # fmt: skip
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def missing(what: str) -> None:
    """Skip the test, or fail it where BPTT_TEST_ALL is set."""
    if os.environ.get("BPTT_TEST_ALL"):
        pytest.fail(f"BPTT_TEST_ALL is set, and there is no {what}")
    pytest.skip(f"no {what}")


def needs(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program, path=PATH):
            missing(program)


def needs_installed_package() -> None:
    package = Path(bptt.__file__).parent
    if package == ROOT / "python" / "bptt" and not any(
        (Path(folder) / "lib").is_dir() for folder in bptt.__path__
    ):
        pytest.skip("bptt is imported from its sources, without the library to embed")


def options(*which: str) -> list[str]:
    """What ``python -m bptt --which ...`` prints."""
    return shlex.split(run(sys.executable, "-m", "bptt", *(f"--{option}" for option in which)))


@functools.cache
def _shared_library() -> tuple[Any, Any]:
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "libbptt.so"
    library, *rest = options("libs")
    run(
        "cc", "-shared", "-fPIC", "-O1", CONSUMER / "parallel.c", "-o", path,
        "-Wl,--whole-archive", library, "-Wl,--no-whole-archive", *rest, "-pthread",
    )  # fmt: skip
    return embedded.load(path), folder


def shared_library() -> Any:
    """The whole static library, and `parallel.c`, as another language loads them."""
    needs("cc")
    needs_installed_package()
    return _shared_library()[0]
