# SPDX-License-Identifier: MIT
"""A change of the public interface is meant: `tests/api.txt` changes with it."""

from __future__ import annotations

import difflib

import api


def test_the_public_interface_is_the_recorded_one() -> None:
    recorded, found = api.recorded(), api.interface().splitlines()
    changes = "\n".join(difflib.unified_diff(recorded, found, "recorded", "found", lineterm=""))
    assert not changes, f"{changes}\nIf this is meant, write the file anew: python tests/api.py"


def test_an_argument_is_seen() -> None:
    def function(a: int, *, b: float = 0.5) -> None: ...

    assert api.signature(function) == "(a, *, b=0.5)"
    assert "bptt.LSTM(input_size, hidden_size, num_layers=1, bias=True" in api.interface()
    assert "$ bptt flow --data" in api.interface()
