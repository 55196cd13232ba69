# SPDX-License-Identifier: MIT
"""Gradient flossing of every cell: value and gradient by the complex step, and what it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference
from bptt.regularise import flossing
from support.compare import assert_close

STEP = 1e-30
T, B, I, H = 6, 3, 2, 3
LAYERS: dict[str, Any] = {
    "rnn": lambda: bptt.RNN(I, H, dtype="float64", seed=0),
    "rnn-leak": lambda: bptt.RNN(I, H, leak=0.3, activation="sigmoid", dtype="float64", seed=0),
    "lstm": lambda: bptt.LSTM(I, H, dtype="float64", seed=0),
    "lstm-peepholes": lambda: bptt.LSTM(I, H, peepholes=True, dtype="float64", seed=0),
    "lstm-projected": lambda: bptt.LSTM(I, H, proj_size=2, dtype="float64", seed=0),
    "gru": lambda: bptt.GRU(I, H, dtype="float64", seed=0),
    "gru-before": lambda: bptt.GRU(I, H, reset_after=False, dtype="float64", seed=0),
    "gru-dropout": lambda: bptt.GRU(
        I, H, recurrent_dropout=0.3, variational_dropout=True, dtype="float64", seed=0
    ),
    "mgu": lambda: bptt.MGU(I, H, dtype="float64", seed=0),
    "rnn-normal": lambda: bptt.RNN(I, H, layer_norm=True, leak=0.3, dtype="float64", seed=0),
    "lstm-normal": lambda: bptt.LSTM(
        I, H, layer_norm=True, peepholes=True, proj_size=2, dtype="float64", seed=0
    ),
    "gru-normal": lambda: bptt.GRU(I, H, layer_norm=True, bias=False, dtype="float64", seed=0),
    "mgu-normal": lambda: bptt.MGU(
        I, H, layer_norm=True, recurrent_dropout=0.3, dtype="float64", seed=0
    ),
}
NORM = ("g_ih", "g_hh", "g_c", "b_c")


def problem(name: str) -> tuple[Any, Any, Any]:
    layer, rng = LAYERS[name](), np.random.default_rng(1)
    for p in layer.parameters.values():
        p += 0.5 * rng.standard_normal(p.shape)
    x = rng.standard_normal((T, B, I))
    state = rng.standard_normal((1, B, layer.parameters["weight_hh_l0"].shape[1]))
    if name.startswith("lstm"):
        state = (state, rng.standard_normal((1, B, H)))
    return layer, x, state


def by_complex_step(cell: Any, n: int) -> dict[str, Any]:
    """The value, and its derivative by every array of the forward call."""
    given = {**cell.arguments, **(cell.options or {})}
    given = {name: a for name, a in given.items() if a is not None}
    names = [k for k in ("x", "w_ih", "w_hh", "b_ih", "b_hh", "peepholes", "w_hr") if k in given]
    norm = dict(zip(NORM, given.get("layer_norm", ())))
    how = {k: v for k, v in (cell.options or {}).items() if k not in (*names, "layer_norm")}
    how["lengths"] = given.get("lengths")
    state = given["state"] if cell.cell == "lstm" else (given["state"],)
    arrays = {name: given[name] for name in names} | norm
    arrays |= {f"state{q}": part for q, part in enumerate(state)}
    run = getattr(reference, f"{cell.cell}_forward")

    def value(changed: dict[str, Any]) -> Any:
        parts = tuple(changed[f"state{q}"] for q in range(len(state)))
        others = {name: changed[name] for name in names}
        if norm:
            others["layer_norm"] = tuple(changed[name] for name in norm)
        twin = run(**others, state=parts if len(parts) > 1 else parts[0], **how)[2]
        start = np.random.default_rng(0).standard_normal((sum(twin.net.sizes), n))
        return reference.flossing(twin, np.linalg.qr(start)[0])

    found = {"value": value(arrays)}
    for name, array in arrays.items():
        found[name] = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            moved = array.astype(complex)
            moved[index] += 1j * STEP
            found[name][index] = value({**arrays, name: moved}).imag / STEP
    return found


@pytest.mark.parametrize(("n", "lengths"), [(1, None), (2, [T, 0, 4])])
@pytest.mark.parametrize("name", LAYERS)
def test_value_and_gradient_are_those_of_the_complex_step(name: str, n: int, lengths: Any) -> None:
    layer, x, state = problem(name)
    _, _, tape = layer.forward(x, state, lengths)
    got, want = flossing(tape, n), by_complex_step(tape.cells[0], n)
    assert got.value == pytest.approx(want.pop("value"), rel=1e-12)
    parts = got.state if isinstance(got.state, tuple) else (got.state,)
    found = {argument: got.params[p] for argument, p in layer.structure.names(0).items()}
    found |= {"x": got.x, **{f"state{q}": part[0] for q, part in enumerate(parts)}}
    assert found.keys() == want.keys()
    largest = max(np.abs(w).max() for w in want.values())
    assert largest > 1e-3
    for argument, w in want.items():
        np.testing.assert_allclose(found[argument], w, rtol=0, atol=1e-11 * largest)


def test_many_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, state = problem("lstm")
    tape = layer.forward(x, state)[2]
    want = flossing(tape, 2)
    monkeypatch.setattr(bptt.jacobians.steps, "MOST_VALUES", 1)
    got = flossing(tape, 2)
    # Relative to the largest: where terms cancel, their order decides the last digits.
    assert_close(dict(got.params), dict(want.params), 1e-14)


def test_float32_and_batch_first() -> None:
    layer, x, state = problem("gru")
    want = flossing(layer.forward(x, state)[2], 2)
    other = bptt.GRU(I, H, batch_first=True, seed=0)
    for name, p in layer.parameters.items():
        other.parameters[name][...] = p
    got = flossing(other.forward(x.swapaxes(0, 1), state)[2], 2)
    assert got.value == pytest.approx(want.value, rel=1e-5)
    assert got.x.shape == (B, T, I)
    assert {a.dtype for a in (got.x, got.state, *got.params.values())} == {np.dtype("f4")}
    for name, p in want.params.items():
        np.testing.assert_allclose(got.params[name], p, rtol=0, atol=1e-4 * np.abs(p).max())


@pytest.mark.parametrize("kind", [bptt.RNN, bptt.LSTM, bptt.GRU], ids=lambda k: k.__name__)
def test_it_lengthens_the_horizon(kind: Any) -> None:
    x = np.random.default_rng(0).standard_normal((100, 4, 2))
    layer = kind(2, 12, dtype="float64", seed=0)
    optimiser = bptt.Adam(layer.parameters, lr=1e-2)

    def horizon() -> float:
        norms = bptt.jacobian_norms(layer.forward(x)[2].cells[0])
        return float(np.median(bptt.memory_horizon(norms)))

    before = horizon()
    assert before < 20
    for _ in range(50):
        optimiser.step(flossing(layer.forward(x[:30])[2], 4).params)
    assert horizon() > 2 * before


def test_what_it_is_not_for() -> None:
    x = np.ones((4, 2, 3))
    for layer in (bptt.GRU(3, 4, num_layers=2), bptt.SLSTM(3, 4), bptt.GRU(3, 4, zoneout=0.1)):
        with pytest.raises(
            ValueError, match=r"flossing: tape is that of .*, expected an RNN, LSTM"
        ):
            flossing(layer.forward(x)[2], 1)
    gru = bptt.GRU(3, 4)
    tape = gru.forward(x)[2]
    with pytest.raises(ValueError, match=r"n is 5, expected 1\.\.4"):
        flossing(tape, 5)
    gru.parameters["weight_hh_l0"] *= 2
    with pytest.raises(ValueError, match="an argument of gru_forward has changed since"):
        flossing(tape, 1)
