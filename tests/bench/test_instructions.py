# SPDX-License-Identifier: MIT
"""The instructions of a step stay within the bounds of benchmarks/instructions.py."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from support.toolchain import needs

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "instructions.py"


@pytest.fixture(scope="module")
def instructions():
    spec = importlib.util.spec_from_file_location("instructions", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_case_has_a_bound_above_what_it_needs(instructions):
    assert set(instructions.BOUNDS) == set(instructions.CASES)
    for case, bound in instructions.BOUNDS.items():
        assert instructions.needed(*case) < bound


def test_without_valgrind_it_says_how_to_install_it(instructions, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert instructions.main([]) == 2
    assert "apt-get install valgrind" in capsys.readouterr().err


@pytest.mark.slow
def test_no_count_is_above_its_bound():
    needs("valgrind")
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
