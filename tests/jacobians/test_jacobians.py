# SPDX-License-Identifier: MIT
"""Jacobians of the state: of the core, of the complex step, and of PyTorch's automatic ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference
from support.problems import CASES, Case, Problem, forward, problem

SHAPE = (7, 3, 3, 4)
ALONE = [c for c in CASES if c.cell != "lstm1997" and not c.options.keys() & {"dilation", "skip"}]
STATES = {"rnn": ("h",), "lstm": ("h", "c"), "slstm": ("h", "c", "n", "m")}


def tapes(case: Case, seed: int = 0) -> tuple[Any, Any, Problem]:
    c = problem(case, SHAPE, seed=seed)
    return forward(bptt, c)[2], forward(reference, c)[2], c


def plain(cell: str, **options: Any) -> tuple[Any, Problem]:
    c = problem(Case("", cell, options), SHAPE)
    return forward(bptt, c)[2], c


def inside(c: Problem) -> Any:
    T, B, _, _ = SHAPE
    return np.arange(T)[:, None] < c.options.get("lengths", np.full(B, T))


def product(J: Any, t: int, k: int) -> Any:
    """Of the Jacobians of steps t .. k + 1, or t .. k - 1 in reverse."""
    steps = range(t, k, -1) if t >= k else range(t, k)
    result = np.broadcast_to(np.eye(J.shape[-1]), J.shape[1:])
    for step in steps:
        result = result @ J[step]
    return result


@pytest.mark.parametrize("case", ALONE, ids=lambda c: c.id)
def test_every_step_is_that_of_the_complex_step(case: Case, isa: str) -> None:
    tape, twin, c = tapes(case)
    got, want = bptt.step_jacobians(tape), reference.step_jacobians(twin)
    assert got.shape == want.shape
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * np.abs(want).max())
    assert not got[~inside(c)].any()
    if "resets" in c.options:
        assert not got[c.options["resets"]].any()
        assert got[inside(c) & ~c.options["resets"]].any()


@pytest.mark.parametrize("case", ALONE[:8], ids=lambda c: c.id)
def test_float32_stays_float32(case: Case) -> None:
    c = problem(case, SHAPE)

    def narrow(value: Any) -> Any:
        return (
            tuple(v.astype("f4") for v in value) if isinstance(value, tuple) else value.astype("f4")
        )

    c = c._replace(arrays={k: narrow(v) for k, v in c.arrays.items()})
    y, _, tape = forward(bptt, c)
    want = reference.step_jacobians(forward(reference, problem(case, SHAPE))[2])
    got = bptt.step_jacobians(tape)
    assert y.dtype == got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())
    assert bptt.jacobian(tape, 3, 3).dtype == np.float32


@pytest.mark.parametrize(
    "how", [{}, {"lengths": True}, {"lengths": True, "reverse": True}], ids=str
)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "mgu", "slstm"])
def test_a_long_jacobian_is_the_product(cell: str, how: dict[str, Any]) -> None:
    tape, c = plain(cell, **how)
    J, (T, B, _, H) = bptt.step_jacobians(tape), SHAPE
    on = inside(c)
    for t in range(T):
        for k in range(t, T) if c.options.get("reverse") else range(t + 1):
            want = np.where((on[t] & on[k])[:, None, None], product(J, t, k), 0)
            got = bptt.jacobian(tape, t, k, of="state")
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
            np.testing.assert_array_equal(bptt.jacobian(tape, t, k), got[:, :H, :H])
            if t == k:
                np.testing.assert_array_equal(
                    got[on[t]], np.eye(got.shape[1])[None].repeat(on[t].sum(), 0)
                )
    np.testing.assert_array_equal(bptt.jacobian(tape, -1, -1), bptt.jacobian(tape, T - 1, T - 1))
    assert bptt.jacobian(tape, -1, -1).shape == (B, H, H)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_it_is_what_backward_multiplies_with(cell: str) -> None:
    """dL/d(initial state) for a loss at step t, by way of every k."""
    tape, c = plain(cell, lengths=True)
    t, rng = 4, np.random.default_rng(1)
    dy = np.zeros_like(c.dy)
    dy[t] = rng.standard_normal(dy[t].shape)
    grads = getattr(bptt, f"{cell}_backward")(tape, dy)
    want = np.concatenate(grads.state if cell == "lstm" else (grads.state,), axis=1)
    J = bptt.step_jacobians(tape)
    d = np.concatenate([dy[t], np.zeros((3, J.shape[2] - 4))], axis=1)
    for k in range(t + 1):
        arrived = np.einsum("bi,bij->bj", d, bptt.jacobian(tape, t, k, of="state"))
        got = np.einsum("bi,bij,bjl->bl", arrived, product(J, k, 0), J[0])
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)


def test_chunks_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    tape, _ = plain("lstm", lengths=True, zoneout=True)
    whole = bptt.step_jacobians(tape), bptt.jacobian(tape, 5, 1)
    monkeypatch.setattr(bptt.jacobians.steps, "MOST_VALUES", 1)
    np.testing.assert_array_equal(bptt.step_jacobians(tape), whole[0])
    np.testing.assert_array_equal(bptt.jacobian(tape, 5, 1), whole[1])


def test_a_layer_gives_a_tape_for_every_direction() -> None:
    x = np.random.default_rng(0).standard_normal((6, 2, 3))
    lstm = bptt.LSTM(3, 4, num_layers=2, bidirectional=True, dtype="float64", seed=0)
    _, _, tape = lstm.forward(x, lengths=[6, 4])
    for k, cell in enumerate(tape.cells):
        J = bptt.step_jacobians(cell)
        assert J.shape == (6, 2, 8, 8)
        t, s = ((0, 5), (5, 0))[k % 2 == 0]
        np.testing.assert_allclose(
            bptt.jacobian(cell, t, s, of="state")[0], product(J, t, s)[0], rtol=0, atol=1e-13
        )


def test_bf16_runs_again_in_bf16(bf16_isa: str) -> None:
    rng = np.random.default_rng(0)
    x, w_ih, w_hh = (rng.standard_normal(s).astype("f4") for s in ((5, 3, 8), (64, 8), (64, 16)))
    _, _, tape = bptt.lstm_forward(x, w_ih, 0.2 * w_hh, compute="bf16")
    _, _, exact = bptt.lstm_forward(x, w_ih, 0.2 * w_hh)
    got, want = bptt.step_jacobians(tape), bptt.step_jacobians(exact)
    assert not np.array_equal(got, want)
    np.testing.assert_allclose(got, want, rtol=0, atol=0.03 * np.abs(want).max())


def test_checkpoints_where_the_states_are_there() -> None:
    shape = (300, 3, 3, 4)  # several segments
    c = problem(Case("", "gru", {}), shape)
    whole, pieces = forward(bptt, c)[2], forward(bptt, c, checkpoint="sqrt")[2]
    np.testing.assert_array_equal(bptt.step_jacobians(pieces), bptt.step_jacobians(whole))
    with pytest.raises(ValueError, match="expected one without checkpoint"):
        bptt.step_jacobians(
            forward(bptt, problem(Case("", "lstm", {}), shape), checkpoint="sqrt")[2]
        )


# --- PyTorch's Jacobians


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_torch_func_jacrev(cell: str) -> None:
    torch = pytest.importorskip("torch")
    tape, c = plain(cell)
    T, B, _, H = SHAPE
    a = {k: v for k, v in c.arrays.items() if k not in ("x", "state")}
    module = getattr(torch.nn, {"rnn": "RNN"}.get(cell, cell.upper()) + "Cell")(3, H).double()
    for (_, parameter), value in zip(module.named_parameters(), a.values()):
        parameter.data = torch.from_numpy(value)
    states = [getattr(tape, n) for n in STATES.get(cell, "h")]
    first = c.arrays["state"] if cell == "lstm" else (c.arrays["state"],)

    def run(state: Any, b: int, steps: range) -> Any:
        parts = [p[None] for p in torch.split(state, H)]
        for t in steps:
            x = torch.from_numpy(c.arrays["x"][t, b])[None]
            new = module(x, tuple(parts) if cell == "lstm" else parts[0])
            parts = list(new) if cell == "lstm" else [new]
        return torch.cat(parts, 1)[0]

    J = bptt.step_jacobians(tape)
    for b in range(B):
        for t in range(T):
            at = [s[t - 1, b] if t else f[b] for s, f in zip(states, first)]
            want = torch.func.jacrev(run)(torch.from_numpy(np.concatenate(at)), b, range(t, t + 1))
            np.testing.assert_allclose(J[t, b], want.detach().numpy(), rtol=0, atol=1e-13)
        at = torch.from_numpy(np.concatenate([s[1, b] for s in states]))
        want = torch.func.jacrev(run)(at, b, range(2, T)).detach().numpy()[:H, :H]
        np.testing.assert_allclose(bptt.jacobian(tape, -1, 1)[b], want, rtol=0, atol=1e-13)


# --- refusals


def test_arguments_that_changed_are_noticed() -> None:
    c = problem(Case("", "lstm", {"h_mask": True}), SHAPE)
    tape = forward(bptt, c)[2]
    before = bptt.jacobian(tape, 5, 2)
    changed = [c.arrays[n] for n in ("x", "w_ih", "w_hh", "b_ih", "b_hh")]
    for array in [*changed, c.arrays["state"][1]]:
        kept = array.copy()
        array *= 1.01
        with pytest.raises(ValueError, match="an argument of lstm_forward has changed since"):
            bptt.step_jacobians(tape)
        array[...] = kept
    c.options["h_mask"] *= 1.01  # of which the tape has its own
    np.testing.assert_array_equal(bptt.jacobian(tape, 5, 2), before)


def test_errors() -> None:
    tape, _ = plain("gru")
    other, _ = plain("lstm1997")
    layer = bptt.GRU(3, 4)
    wrong: list[tuple[Any, type[Exception], str]] = [
        (lambda: bptt.step_jacobians(None), TypeError, "tape is NoneType, expected that of a"),
        (
            lambda: bptt.jacobian(layer.forward(np.ones((2, 1, 3)))[2], 1, 0),
            TypeError,
            "jacobian: tape is RecurrentTape, .* one of tape.cells",
        ),
        (lambda: bptt.step_jacobians(other), ValueError, "tape is of lstm1997"),
        (lambda: bptt.step_jacobians(plain("rnn", dilation=2)[0]), ValueError, "has dilation = 2"),
        (lambda: bptt.step_jacobians(plain("rnn", skip=1)[0]), ValueError, "has skip = 1"),
        (lambda: bptt.jacobian(tape, 7, 0), ValueError, r"t is 7, expected -7..6"),
        (lambda: bptt.jacobian(tape, 0, -8), ValueError, r"k is -8, expected -7..6"),
        (lambda: bptt.jacobian(tape, 1.5, 0), TypeError, "t is 1.5, expected a whole number"),
        (lambda: bptt.jacobian(tape, 1, 2), ValueError, "k is 2 and t is 1, expected k <= t"),
        (
            lambda: bptt.singular_values(plain("gru", reverse=True)[0], 2, 1),
            ValueError,
            "singular_values: k is 1 and t is 2, expected k >= t",
        ),
        (lambda: bptt.jacobian(tape, 1, 0, of="c"), ValueError, "of is 'c', expected one of"),
        (lambda: bptt.lyapunov_spectrum(tape, 5), ValueError, "n is 5, expected 1..4"),
        (
            lambda: bptt.lyapunov_spectrum(tape, warmup=7),
            ValueError,
            "warmup is 7, expected fewer than the steps of the shortest sequence = 7",
        ),
        (lambda: bptt.spectral_radius(np.ones((2, 3))), ValueError, r"shape \(2, 3\), expected"),
        (lambda: bptt.spectral_radius([[np.nan]]), ValueError, "not finite"),
        (lambda: bptt.decay_bound(np.eye(2), "step"), ValueError, "activation is 'step'"),
        (lambda: bptt.decay_bound(np.eye(2), "tanh", -1), ValueError, "k has minimum -1.0"),
        (lambda: bptt.memory_horizon(1.0), ValueError, "norms is a number"),
        (lambda: bptt.memory_horizon([1.0, -1.0]), ValueError, "norms has minimum -1.0"),
    ]
    for function, kind, message in wrong:
        with pytest.raises(kind, match=message):
            function()
