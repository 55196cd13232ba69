# SPDX-License-Identifier: MIT
"""Run a command of ``bptt`` in this process."""

from __future__ import annotations

from typing import Any

import pytest

from bptt import cli


def main(capsys: pytest.CaptureFixture[str], *args: Any) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of a command."""
    try:
        code = cli.main([str(arg) for arg in args])
    except SystemExit as done:  # of argparse
        code = int(done.code or 0)
    output = capsys.readouterr()
    return code, output.out, output.err
