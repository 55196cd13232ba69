# SPDX-License-Identifier: MIT
"""Layers and the table of cells; options that stay, parameters that are live; what help shows."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import LSTM, RNN, SLSTM, Attention, Embedding, Linear
from bptt._cells import CELLS
from bptt.layers import Recurrent
from bptt.layers.cells import LAYERS
from bptt.layers.structure import own_options
from support.problems import flat

CHANGED = {  # a value of each option that is not its default
    "activation": "relu",
    "leak": 0.5,
    "preact_clip": 0.7,
    "proj_size": 2,
    "peepholes": True,
    "forget_gate": "coupled",
    "gate_activation": "hard_sigmoid",
    "output_activation": "identity",
    "cell_clip": 0.3,
    "layer_norm": True,
    "reset_after": False,
    "heads": 2,
}
X = np.random.default_rng(0).standard_normal((7, 2, 3)).astype("f4")
DOCUMENTED = [*LAYERS.values(), Recurrent, Embedding, Linear, Attention]


def defaults(kind: type) -> dict[str, Any]:
    return {n: p.default for n, p in inspect.signature(kind).parameters.items()}


def test_every_cell_has_a_layer() -> None:
    assert LAYERS.keys() == CELLS.keys()
    assert all(LAYERS[name] is getattr(bptt, kind.__name__) for name, kind in LAYERS.items())


@pytest.mark.parametrize("name", CELLS)
def test_a_layer_has_the_options_of_the_table_with_their_defaults(name: str) -> None:
    shared, signature = defaults(Recurrent), defaults(LAYERS[name])
    own = {n: option.default for n, option in own_options(name).items()}
    if "h_mask" not in CELLS[name].options:
        del shared["recurrent_dropout"]
    if name in ("slstm", "lstm1997"):
        del shared["learn_state"]
    assert {n: v for n, v in signature.items() if n in shared} == shared
    assert {n: v for n, v in signature.items() if n not in shared} == own
    layer = LAYERS[name](4, 4)
    assert {n: getattr(layer, n) for n in own} == own


@pytest.mark.parametrize("name", CELLS)
def test_every_option_reaches_the_cell(name: str) -> None:
    plain = LAYERS[name](3, 4, seed=0)
    for option in own_options(name):
        layer = LAYERS[name](3, 4, seed=0, **{option: CHANGED[option]})
        assert layer.structure != plain.structure
        for array in layer.parameters.values():
            array *= 3  # so that clips are met
        expected = copy.deepcopy(plain)
        for array in expected.parameters.values():
            array *= 3
        same = layer(X)[0].shape == expected(X)[0].shape
        assert not same or not np.allclose(layer(X)[0], expected(X)[0], atol=1e-3), option


def test_options_are_fixed() -> None:
    lstm = LSTM(3, 4, 2, dropout=0.5)
    message = "LSTM: dropout is fixed at construction, expected a new layer: LSTM(..., dropout=0.1)"
    with pytest.raises(AttributeError, match=re.escape(message)):
        lstm.dropout = 0.1
    with pytest.raises(AttributeError, match="hidden_size is fixed"):
        lstm.hidden_size = 5
    assert (lstm.dropout, lstm.hidden_size) == (0.5, 4)
    for note in ("encoder", "decoder"):
        lstm.note = note  # type: ignore[attr-defined]
        assert lstm.note == note  # type: ignore[attr-defined]


def test_options_of_derived_classes_are_fixed_and_their_own_attributes_free() -> None:
    class Passing(bptt.GRU):  # type: ignore[misc]
        def __init__(self, *sizes: int, rate: float = 0.1, **options: Any) -> None:
            self.note = "set before the options"
            super().__init__(*sizes, **options)
            self.rate = rate

    layer = Passing(3, 4, dropout=0.0)
    for name in ("dropout", "zoneout", "residual", "reset_after", "dilations"):
        with pytest.raises(AttributeError, match=f"Passing: {name} is fixed"):
            setattr(layer, name, 0.5)
    layer.rate = 0.2
    bptt.GRU.__init__(layer, 3, 5)
    assert layer(X)[0].shape == (7, 2, 5)


def test_changes_of_a_tape_do_not_reach_the_layer() -> None:
    for layer in (LSTM(3, 4, peepholes=True, seed=0), SLSTM(3, 4, heads=2, seed=0)):
        y, _, tape = layer.forward(X)
        before = layer.backward(tape, y).params
        tape.cells[0].options.clear()
        tape.cells[0].arguments["options"].clear()
        assert np.array_equal(layer(X)[0], y)
        after = layer.backward(tape, y).params
        assert all(np.array_equal(before[name], after[name]) for name in before)


def equal(first: Any, second: Any) -> bool:
    (y, state), (other_y, other_state) = first, second
    return all(
        np.array_equal(a, b) for a, b in zip([y, *flat(state)], [other_y, *flat(other_state)])
    )


LIVE: list[tuple[Any, dict[str, Any]]] = [
    (RNN, {"leak": 0.5}),
    (LSTM, {"bidirectional": True, "num_layers": 2}),
    (LSTM, {"peepholes": True, "layer_norm": True}),
    (LSTM, {"proj_size": 2, "zoneout": 0.2}),
    (SLSTM, {"heads": 2}),
]


@pytest.mark.parametrize(("kind", "options"), LIVE, ids=str)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_calls_compute_with_the_parameters_of_now(kind: Any, options: Any, duplicate: Any) -> None:
    """Writes by name, in place and by an optimiser; in a copy as in the original."""
    layer = kind(3, 4, seed=0, **options)
    before = layer(X)
    twin = duplicate(layer)
    for name, array in twin.parameters.items():
        twin.parameters[name] = array * 0.5
        array += 0.1
    assert equal(layer(X), before)
    fresh = kind(3, 4, seed=1, **options)
    fresh.load(twin.parameters)
    assert equal(twin(X), fresh(X))
    assert not np.array_equal(twin(X)[0], before[0])


@pytest.mark.parametrize("kind", DOCUMENTED, ids=lambda kind: kind.__name__)
def test_help_describes_every_argument(kind: type) -> None:
    text = inspect.getdoc(kind) or ""
    section = re.search(r"Parameters\n-{10}\n(.*?)(\n\n|$)", text, re.DOTALL)
    assert section
    entries = re.findall(r"^(\w[\w, ]*) : .*\n    +\S", section[1], re.MULTILINE)
    described = [name for entry in entries for name in entry.split(", ")]
    assert described == list(inspect.signature(kind).parameters)
    assert "\nAttributes\n----------\nparameters : dict of str to ndarray\n    " in text
    assert kind is Recurrent or "\nExamples\n--------\n>>> " in text
