# SPDX-License-Identifier: MIT
"""Programs in a new Python: for effects that show only from outside, or once in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent

from support.paths import TESTS

__all__ = ["COUNTS", "dedent", "output", "run"]

COUNTS = ("BPTT_NUM_THREADS", "OMP_NUM_THREADS")
# How many times as long a program may take: scripts/sanitize makes them slow.
PATIENCE = float(os.environ.get("BPTT_TEST_PATIENCE", 1))


def run(
    program: str, timeout: float = 60, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Run it in a folder from which it can import `support`; None takes a variable away."""
    inherited = {**os.environ, "BPTT_NUM_THREADS": None}
    changed = {k: v for k, v in {**inherited, **environment}.items() if v is not None}
    return subprocess.run(
        [sys.executable, "-c", dedent(program)],
        cwd=TESTS,
        env=changed,
        capture_output=True,
        text=True,
        timeout=timeout * PATIENCE,
    )


def output(program: str, timeout: float = 60, **environment: str | None) -> str:
    """Return the program's output; it must succeed and print no errors."""
    done = run(program, timeout, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
