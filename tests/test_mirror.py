# SPDX-License-Identifier: MIT
"""The functions and the reference's: same names, same signatures, documented."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import bptt
from bptt import functional, functional_attention, reference

CELLS, ATTENTION = sorted(functional.__all__), sorted(functional_attention.__all__)
NAMES = sorted(CELLS + ATTENTION)


def shape_of(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_the_same_names() -> None:
    directions = ("backward", "forward")
    assert sorted(reference.__all__) == [*NAMES, "rtrl"]  # a second way to the gradients
    assert [f"{c}_{d}" for c in ("gru", "lstm", "rnn") for d in directions] == CELLS
    assert [f"{k}_attention_{d}" for k in ("additive", "dot") for d in directions] == ATTENTION


@pytest.mark.parametrize("name", NAMES)
def test_the_same_signature(name: str) -> None:
    assert shape_of(getattr(bptt, name)) == shape_of(getattr(reference, name))


@pytest.mark.parametrize("name", NAMES)
def test_every_function_is_documented(name: str) -> None:
    function = getattr(bptt, name)
    text = inspect.getdoc(function) or ""
    for section in ("Parameters", "Returns", "Raises", "References"):
        assert f"{section}\n{'-' * len(section)}\n" in text, section
    for parameter in inspect.signature(function).parameters:
        assert parameter in text
