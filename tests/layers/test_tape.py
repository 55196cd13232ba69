# SPDX-License-Identifier: MIT
"""The tape of a layer gives gates and states by name: they fulfil the cell's equations."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from bptt import GRU, LSTM, LSTM1997, MGU, RNN, SLSTM
from bptt.layers import Recurrent
from support.problems import flat

T, B, H = 9, 3, 6
LENGTHS = np.array([9, 0, 4])
NAMES: list[tuple[Any, str]] = [
    (RNN, "h"),
    (LSTM, "i f g o c h"),
    (GRU, "r z n h"),
    (MGU, "f n h"),
    (SLSTM, "i f z o c n m h"),
    (LSTM1997, "i o g c h"),
]


def sig(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


def equations(kind: Any, t: Any, b: Any, w: dict[str, Any], x: Any) -> list[tuple[Any, Any]]:
    """The equations that connect a step's values, t, with the step before, b."""
    if kind is RNN:
        a = x @ w["ih"].T + w["b"] + b["h"] @ w["hh"].T
        return [(t["h"], np.tanh(a))]
    if kind is LSTM:
        return [
            (t["c"], t["f"] * b["c"] + t["i"] * t["g"]),
            (t["h"], t["o"] * np.tanh(t["c"])),
        ]
    if kind is GRU:
        return [(t["h"], (1 - t["z"]) * t["n"] + t["z"] * b["h"])]
    if kind is MGU:
        return [(t["h"], (1 - t["f"]) * t["n"] + t["f"] * b["h"])]
    if kind is SLSTM:
        return [
            (t["c"], t["f"] * b["c"] + t["i"] * t["z"]),
            (t["n"], t["f"] * b["n"] + t["i"]),
            (t["h"], t["o"] * t["c"] / t["n"]),
        ]
    return [
        (t["c"], b["c"] + t["i"] * (4 * t["g"] - 2)),
        (t["h"], t["o"] * (2 * sig(t["c"]) - 1)),
    ]


def run(layer: Recurrent) -> tuple[Any, Any, Any]:
    x = np.random.default_rng(0).standard_normal((T, B, layer.input_size))
    y, state, tape = layer.forward(x.swapaxes(0, 1) if layer.batch_first else x, None, LENGTHS)
    return (y.swapaxes(0, 1) if layer.batch_first else y), state, tape


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize(("kind", "names"), NAMES, ids=lambda v: getattr(v, "__name__", v))
def test_gates_and_states_by_name(
    kind: Any, names: str, num_layers: int, bidirectional: bool, batch_first: bool
) -> None:
    layer = kind(
        4, H, num_layers, bidirectional=bidirectional, batch_first=batch_first, dtype="float64",
        seed=1,
    )  # fmt: skip
    y, state, tape = run(layer)
    D = 1 + bidirectional
    values = {name: getattr(tape, name) for name in names.split()}
    beyond = np.arange(T)[:, None] >= LENGTHS
    for value in values.values():
        assert value.shape == (num_layers * D, T, B, H)
        assert value.dtype == np.float64
        assert not value[:, beyond].any()
    assert np.array_equal(np.concatenate(list(values["h"][-D:]), -1), y)
    x = np.random.default_rng(0).standard_normal((T, B, 4))
    for k in range(num_layers * D):
        reverse, suffix = k % D == 1, f"_l{k // D}" + "_reverse" * (k % D)
        p = {n: layer.parameters[n + suffix] for n in ("weight_ih", "weight_hh")}
        w = {"ih": p["weight_ih"], "hh": p["weight_hh"]}
        w["b"] = layer.parameters["bias_ih" + suffix] + layer.parameters["bias_hh" + suffix]
        below = x if k < D else np.concatenate(list(values["h"][(k // D - 1) * D :][:D]), -1)
        for b in (0, 2):
            order = range(LENGTHS[b])[::-1] if reverse else range(LENGTHS[b])
            before = dict.fromkeys(values, np.zeros(H))
            for t in order:
                now = {name: value[k, t, b] for name, value in values.items()}
                for got, want in equations(kind, now, before, w, below[t, b]):
                    np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)
                before = now
            named = zip("hcnm", flat(state)) if kind is not LSTM1997 else zip("hcio", flat(state))
            for name, final in named:
                assert np.array_equal(before[name], final[k, b])


def test_one_layer_and_direction_copies_no_h() -> None:
    y, _, tape = run(GRU(4, H))
    assert np.shares_memory(tape.h, y)
    assert not tape.h.flags.writeable
    stacked = run(GRU(4, H, 2))[2]
    for k, cell in enumerate(stacked.cells):
        assert np.array_equal(stacked.n[k], cell.n)


def test_a_forget_gate_that_is_not_its_own() -> None:
    tape = run(LSTM(4, H, forget_gate="coupled", dtype="float64"))[2]
    inside = np.arange(T)[:, None] < LENGTHS
    np.testing.assert_allclose(tape.f[:, inside], 1 - tape.i[:, inside], rtol=0, atol=1e-15)
    tape = run(LSTM(4, H, forget_gate="none"))[2]
    assert (tape.f[:, inside] == 1).all()


def test_widths_of_a_projection() -> None:
    tape = run(LSTM(4, H, 2, proj_size=2, bidirectional=True))[2]
    assert tape.h.shape == (4, T, B, 2)
    assert tape.c.shape == tape.i.shape == (4, T, B, H)


def test_names_that_a_tape_does_not_have() -> None:
    fields = "layer, shape, cells, masks, zoneout, h_masks, lengths"
    message = f"the tape of GRU has no 'c', expected one of: r, z, n, h, {fields}"
    with pytest.raises(AttributeError, match=re.escape(message)):
        run(GRU(4, H))[2].c  # noqa: B018
    tape = LSTM(4, H).forward(np.zeros((600, 4, 4)), checkpoint="sqrt")[2]
    with pytest.raises(ValueError, match="kept in segments, expected one without checkpoint"):
        tape.i  # noqa: B018
