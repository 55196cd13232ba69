# SPDX-License-Identifier: MIT
"""The table of cells against all that has to agree with it."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import _core, functional, reference
from bptt._activations import ACTIVATIONS
from bptt._cells import CELLS, LAYER_NORM, NAMES, Option

T, B, I, H = 3, 2, 4, 6
ROWS = [(cell, option) for cell, row in CELLS.items() for option in row.options]
# The arguments of every forward call that are no options of a cell.
OTHERS = {"lengths", "reverse", "keep_tape", "threads", "checkpoint", "compute"}


def weights(cell: str, gates: int) -> dict[str, Any]:
    wide = len(CELLS[cell].operand)
    return {
        "x": np.ones((T, B, I)),
        "w_ih": np.full((gates * H, I), 0.1),
        "w_hh": np.full((gates * H, wide * H), 0.1),
    }


def test_the_core_has_the_same_cells() -> None:
    assert _core.cells() == {c: (len(row.gates), len(row.states)) for c, row in CELLS.items()}
    assert list(reference.CELLS) == list(CELLS)
    assert all(name == row.name for name, row in CELLS.items())


@pytest.mark.parametrize("cell", CELLS)
def test_the_reference_makes_the_same_states(cell: str) -> None:
    _, state, tape = getattr(reference, f"{cell}_forward")(**weights(cell, len(CELLS[cell].gates)))
    states = state if isinstance(state, tuple) else (state,)
    assert len(states) == len(CELLS[cell].states) == len(reference.CELLS[cell].zones)
    assert len(tape.net.w_ih) == len(CELLS[cell].gates) * H


@pytest.mark.parametrize("forget_gate", ["own", "coupled", "none"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_tape_has_the_gates_and_states(cell: str, forget_gate: str) -> None:
    options = {"forget_gate": forget_gate} if cell == "lstm" else {}
    if forget_gate != "own" and not options:
        return
    gates = list(CELLS[cell].activations(**options))
    tape = getattr(bptt, f"{cell}_forward")(**weights(cell, len(gates)), **options)[2]
    if cell == "rnn":  # h is the value of its gate
        assert tape.names == ["h"] == gates
        return
    given = [*gates, *CELLS[cell].states]
    assert sorted(set(tape.names) - {"f"}) == sorted(set(given) - {"f"})
    assert [name for name in tape.names if name in gates] == gates or forget_gate != "own"


@pytest.mark.parametrize(("cell", "option"), ROWS)
def test_choices_of_activations_are_known_to_the_core(cell: str, option: str) -> None:
    if "activation" not in option:
        return
    assert CELLS[cell].options[option].default in ACTIVATIONS
    forward = getattr(bptt, f"{cell}_forward")
    given = weights(cell, len(CELLS[cell].gates))
    for name, kind in ACTIVATIONS.items():
        y, *_ = forward(**given, **{option: name})
        # The defaults are the core's and the reference's.
        for twin in (forward, getattr(reference, f"{cell}_forward")):
            again = twin(**given, **{option: (name, *kind.parameters.values())})
            np.testing.assert_allclose(again[0], y, 1e-14)


def test_parameters() -> None:
    assert set(LAYER_NORM) <= set(NAMES)
    assert {name for row in CELLS.values() for name in row.layer_norm} == set(LAYER_NORM)
    for row in CELLS.values():
        assert bool(row.layer_norm) == ("layer_norm" in row.options)
        assert row.retains is None or row.retains in row.gates
        assert row.split_gate is None or row.split_gate in row.gates
        assert set(row.operand) <= set(row.states)
        assert row.bf16 is None or row.bf16 <= set(row.options)


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_a_function_has_the_options_of_its_row(cell: str) -> None:
    parameters = inspect.signature(getattr(functional, f"{cell}_forward")).parameters
    keyword = {n: p.default for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert set(keyword) >= OTHERS
    options = {name: value for name, value in keyword.items() if name not in OTHERS}
    assert list(options) == list(CELLS[cell].options)
    for name, value in options.items():
        assert value is CELLS[cell].options[name].default


@pytest.mark.parametrize(("cell", "option"), ROWS)
def test_an_option_goes_where_it_belongs(cell: str, option: str) -> None:
    """No value of an option is ignored, or taken for another option."""
    good = weights(cell, len(CELLS[cell].gates))
    with pytest.raises((TypeError, ValueError), match=f"^{cell}_forward: {option} "):
        getattr(bptt, f"{cell}_forward")(**good, **{option: object()})


@pytest.mark.parametrize("cell", CELLS)
def test_a_default_that_is_another_object_is_the_default(cell: str) -> None:
    def other(option: Option) -> Any:
        value = option.default
        if isinstance(value, str):
            return "".join([*value])
        return np.int64(value) if isinstance(value, int) and value is not True else value

    good = weights(cell, len(CELLS[cell].gates))
    given = {name: other(option) for name, option in CELLS[cell].options.items()}
    forward = getattr(bptt, f"{cell}_forward")
    (y, _, tape), (plain, _, _) = forward(**good, **given), forward(**good)
    assert tape.options is None
    assert np.array_equal(y, plain)
