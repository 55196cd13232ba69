# SPDX-License-Identifier: MIT
"""The instruction set in use can be named, listed, forced, and is what was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

import bptt
from bptt import _core


def run(isa: str | None, code: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "BPTT_ISA"}
    if isa is not None:
        environment["BPTT_ISA"] = isa
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("isa", _core.isas())
def test_the_environment_forces_one(isa: str) -> None:
    result = run(isa, "import bptt; print(bptt.show_config()['isa'])")
    assert (result.stdout.strip(), result.stderr) == (isa, "")


@pytest.mark.parametrize("isa", [None, ""])
def test_the_best_is_the_default(isa: str | None) -> None:
    result = run(isa, "import bptt; print(bptt.show_config()['isa'])")
    assert result.stdout.strip() == _core.isas()[0]


def test_an_unknown_name_is_refused_with_the_choices() -> None:
    result = run("avx9", "import bptt, numpy as np; bptt.rnn_forward([[[1.0]]], [[1.0]], [[1.0]])")
    choices = ", ".join(_core.isas())
    wanted = f"ValueError: BPTT_ISA is 'avx9', expected one that runs here: {choices}"
    assert result.stderr.strip().splitlines()[-1] == wanted
    with pytest.raises(ValueError, match=f"isa is 'mmx', expected one that runs here: {choices}"):
        _core.use_isa("mmx")


def test_a_tape_stays_with_the_kernels_that_wrote_it() -> None:
    before = _core.isa()
    try:
        for isa in _core.isas():
            _core.use_isa(isa)
            _, _, tape = bptt.rnn_forward([[[1.0]]] * 3, [[0.5]], [[0.9]], activation="identity")
            for other in _core.isas():
                _core.use_isa(other)
                assert bptt.rnn_backward(tape, dstate=[[1.0]]).state.item() == pytest.approx(0.729)
    finally:
        _core.use_isa(before)


def test_multiply_adds_take_their_time(isa: str) -> None:
    """If the compiler dropped them, the rate would be many times higher than any core's."""
    start = time.perf_counter()
    rate = _core.fma_gflops(0.01)
    assert time.perf_counter() - start >= 0.01
    assert 0 < rate < 1024, "four units of sixteen lanes, two operations, 8 GHz"


def test_show_config() -> None:
    config = bptt.show_config()
    assert config["version"] == bptt.__version__
    assert set(config["isas"]) <= set(config["isas_compiled"])
    assert config["isa"] in config["isas"]
    assert config["threads"] == 1
    for word in ("version", "isa", "threads", "numpy", config["isa"]):
        assert word in repr(config)
