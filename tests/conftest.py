# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Before NumPy is imported: its threads make the small products of the reference many times slower
# when the machine has other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from bptt import _core
from bptt.bench import measure

# BPTT_ISA narrows the whole suite to one instruction set; otherwise all that run here take part.
# Those that differ from another in nothing but products in bfloat16 do so in the tests of these.
_ALL = [os.environ["BPTT_ISA"]] if os.environ.get("BPTT_ISA") else _core.isas()
ISAS = _ALL if len(_ALL) == 1 else [isa for isa in _ALL if isa not in ("amx", "avx512bf16")]
BF16_ISAS = [isa for isa in _ALL if isa in ("amx", "avx512bf16")]


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"isa", "bf16_isa"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("every_isa")


@pytest.fixture(params=BF16_ISAS)
def bf16_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.isa()
    _core.use_isa(request.param)
    yield request.param
    _core.use_isa(before)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.isa()
    _core.use_isa(request.param)
    assert _core.isa() == request.param
    yield request.param
    _core.use_isa(before)


@pytest.fixture
def failing_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Workers of `bptt bench` that first run the given lines, in which `PEERS` can be changed."""

    def install(lines: str) -> None:
        script = tmp_path / "worker.py"
        script.write_text(
            "import os, sys\n"
            "from bptt.bench import worker\n"
            "from bptt.bench.worker import PEERS\n"
            f"{lines}\n"
            "worker.main(sys.argv[1:])\n"
        )
        monkeypatch.setattr(measure, "_WORKER", [sys.executable, str(script)])

    return install
