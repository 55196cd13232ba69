# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from collections.abc import Iterator

# Before NumPy is imported: its threads make the small products of the reference many times slower
# when the machine has other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from bptt import _core

# BPTT_ISA narrows the whole suite to one instruction set; otherwise all that run here take part.
ISAS = [os.environ["BPTT_ISA"]] if os.environ.get("BPTT_ISA") else _core.isas()


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.isa()
    _core.use_isa(request.param)
    assert _core.isa() == request.param
    yield request.param
    _core.use_isa(before)
