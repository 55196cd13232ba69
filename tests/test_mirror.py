# SPDX-License-Identifier: MIT
"""The core's functions and the reference's: same names, same signatures, documented."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from bptt import functional, reference

NAMES = sorted(functional.__all__)


def shape_of(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_the_same_names() -> None:
    assert sorted(reference.__all__) == [*NAMES, "rtrl"]  # a second way to the gradients
    assert [f"{c}_{d}" for c in ("gru", "lstm", "rnn") for d in ("backward", "forward")] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_same_signature(name: str) -> None:
    assert shape_of(getattr(functional, name)) == shape_of(getattr(reference, name))


@pytest.mark.parametrize("name", NAMES)
def test_every_function_is_documented(name: str) -> None:
    function = getattr(functional, name)
    text = inspect.getdoc(function) or ""
    for section in ("Parameters", "Returns", "Raises", "References"):
        assert f"{section}\n{'-' * len(section)}\n" in text, section
    for parameter in inspect.signature(function).parameters:
        assert parameter in text
