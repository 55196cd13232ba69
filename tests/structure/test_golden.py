# SPDX-License-Identifier: MIT
"""A refactoring changes no bit of any result; see `golden`."""

from __future__ import annotations

import pytest

import golden


def test_every_call_gives_the_recorded_bits(isa: str) -> None:
    recorded = golden.read(isa)
    if recorded is None:
        pytest.skip(f"no bits are recorded for {isa}: write them by python tests/golden.py")
    compiler, want = recorded
    if compiler != golden.compiler():
        pytest.skip(f"the bits are those of {compiler}, the core is built by {golden.compiler()}")
    got = golden.bits()
    assert got.keys() == want.keys()
    assert not [name for name in want if got[name] != want[name]]


def test_a_changed_bit_changes_the_hash() -> None:
    call = golden.of_layer(golden.bptt.GRU, {}, "float32")
    before = golden.digest(call)
    call[0].flags.writeable = True
    call[0][0, 0, 0] *= 1.0000001
    assert golden.digest(call) != before
