# SPDX-License-Identifier: MIT
"""The functions and the reference: same names, same arguments, documented."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import functional, reference
from bptt._cells import CELLS

NAMES = sorted(functional.__all__)


def shape_of(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_the_same_names() -> None:
    directions = ("backward", "forward")
    # the second are another way to the gradients, and what the core has in other modules
    others = {"rtrl", "step_jacobians", "flossing", "omega", "jvp", "hvp", "quantise", "dequantise"}
    assert set(reference.__all__) == {*NAMES, *others}
    kinds = ("additive_attention", "dot_attention", *CELLS)
    assert {f"{kind}_{d}" for kind in kinds for d in directions} == {*NAMES}


RECURRENCES = [name for name in NAMES if "attention" not in name]


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(RECURRENCES)))
def test_the_same_signature(name: str) -> None:
    assert shape_of(getattr(bptt, name)) == shape_of(getattr(reference, name))


@pytest.mark.parametrize("name", RECURRENCES)
def test_the_same_arguments(name: str) -> None:
    """The reference takes every argument of its twin, in the same order, and refuses others."""
    parameters = list(inspect.signature(getattr(bptt, name)).parameters.values())
    given = {p.name: p.default for p in parameters if p.default is not p.empty}
    cell, direction = name.split("_")
    rows = len(CELLS[cell].gates) * 2
    columns = len(CELLS[cell].operand) * 2
    arrays = (np.ones((3, 1, 2)), np.ones((rows, 2)), np.ones((rows, columns)))
    forward, call = getattr(reference, f"{cell}_forward"), getattr(reference, name)
    required: tuple[Any, ...] = arrays if direction == "forward" else (forward(*arrays)[2],)
    assert len(required) == len(parameters) - len(given)
    positional = [p.default for p in parameters if p.kind is not p.KEYWORD_ONLY][len(required) :]
    by_name = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    call(*required, **given)
    call(*required, *positional, **by_name)
    with pytest.raises(TypeError):
        call(*required, *positional, None, **by_name)
    with pytest.raises(TypeError, match=rf"{direction}.* unexpected keyword argument 'other'"):
        call(*required, other=None)


@pytest.mark.parametrize("name", NAMES)
def test_every_function_is_documented(name: str) -> None:
    function = getattr(bptt, name)
    text = inspect.getdoc(function) or ""
    for section in ("Parameters", "Returns", "Raises", "References"):
        assert f"{section}\n{'-' * len(section)}\n" in text, section
    for parameter in inspect.signature(function).parameters:
        assert parameter in text
