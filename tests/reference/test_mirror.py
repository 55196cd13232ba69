# SPDX-License-Identifier: MIT
"""The functions and the reference's: same names, same signatures, documented."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import bptt
from bptt import functional, reference

NAMES = sorted(functional.__all__)


def shape_of(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_the_same_names() -> None:
    directions = ("backward", "forward")
    # the second are another way to the gradients, and what the core has in other modules
    others = {"rtrl", "step_jacobians", "flossing", "omega", "jvp", "hvp"}
    assert set(reference.__all__) == {*NAMES, *others}
    kinds = (
        "additive_attention",
        "dot_attention",
        "gru",
        "lstm1997",
        "lstm",
        "mgu",
        "rnn",
        "slstm",
    )
    assert [f"{kind}_{d}" for kind in kinds for d in directions] == NAMES


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
