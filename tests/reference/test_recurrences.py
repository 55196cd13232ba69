# SPDX-License-Identifier: MIT
"""Every option of every recurrence in the reference: gradients, and what each option equals."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from bptt import reference
from support.compare import assert_close
from support.complex_step import gradients
from support.problems import (
    CASES,
    NAMES,
    NO_BIAS,
    PLAIN,
    Case,
    Problem,
    flat,
    forward,
    problem,
    results,
    state_of,
)

EXACT = [c for c in CASES if not reference.CELLS[c.cell].kind.truncated]


@pytest.mark.parametrize("case", EXACT, ids=lambda c: c.id)
def test_backward_is_the_complex_step_derivative(case: Case) -> None:
    for seed, (shape, bias) in enumerate([((5, 2, 2, 4), True), ((7, 3, 3, 4), False)]):
        c = problem(case, shape, PLAIN if bias else NO_BIAS, seed=seed)
        got, want = results(reference, c), gradients(c)
        tolerance = 1e-11 if "layer_norm" in c.arrays else 1e-12
        assert_close({name: got[name] for name in want}, want, tolerance)
        assert {name for name in got if name.startswith("d ")} == want.keys()


def only(c: Problem, **arrays: Any) -> Problem:
    return c._replace(arrays={**c.arrays, **arrays})


def options(c: Problem, **given: Any) -> Problem:
    """The same call with other options; None takes one away."""
    merged = {**c.options, **given}
    return c._replace(options={k: v for k, v in merged.items() if v is not None})


def pieces(c: Problem, b: int, cuts: list[int]) -> list[tuple[slice, Problem]]:
    """Sequence b in pieces, with zero states and no gradient from outside."""
    zero = state_of([np.zeros_like(s[:1]) for s in flat(c.arrays["state"])])
    one = slice(b, b + 1)
    found = []
    for first, end in pairwise(cuts):
        piece = only(c, x=c.arrays["x"][first:end, one], state=zero)
        found.append((slice(first, end), piece._replace(dy=c.dy[first:end, one], dstate=zero)))
    return found


def of_sequence(state: Any, b: int) -> Any:
    return state_of([s[b : b + 1] for s in flat(state)])


WEIGHTS = ["d w_ih", "d w_hh", "d b_ih", "d b_hh"]


@pytest.mark.parametrize("name", NAMES)
def test_a_reset_splits_the_sequence(name: str) -> None:
    T, B = 9, 4
    c = problem(Case("", name, {"resets": True}), (T, B, 3, 4), seed=1)
    c.options["resets"][0, :2] = [True, False]
    got, plain = results(reference, c), options(c, resets=None)
    want = {key: np.zeros_like(value) for key, value in got.items()}
    for b in range(B):
        inner = [t for t in range(1, T) if c.options["resets"][t, b]]
        parts = pieces(plain, b, [0, *inner, T])
        if not c.options["resets"][0, b]:
            parts[0] = (parts[0][0], only(parts[0][1], state=of_sequence(c.arrays["state"], b)))
        parts[-1] = (parts[-1][0], parts[-1][1]._replace(dstate=of_sequence(c.dstate, b)))
        for n, (times, piece) in enumerate(parts):
            found = results(reference, piece)
            for key in ("y", "d x"):
                want[key][times, b] = found[key][:, 0]
            for key in WEIGHTS:
                want[key] += found[key]
            for k in range(reference.CELLS[name].states):
                if n == 0 and not c.options["resets"][0, b]:
                    want[f"d state[{k}]"][b] = found[f"d state[{k}]"][0]
                want[f"state[{k}]"][b] = found[f"state[{k}]"][0]
    assert_close(got, want, 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_dilation_interleaves(name: str) -> None:
    T, d = 8, 3
    c = problem(Case("", name, {"dilation": d}), (T, 2, 3, 4))
    got, plain = results(reference, c), options(c, dilation=None)
    want = {key: np.zeros_like(value) for key, value in got.items()}
    for j in range(d):
        last = (j - T) % d  # the entry of the final state that ends this sub-sequence
        part = only(
            plain,
            x=c.arrays["x"][j::d],
            state=state_of([s[j] for s in flat(c.arrays["state"])]),
        )._replace(dy=c.dy[j::d], dstate=state_of([s[last] for s in flat(c.dstate)]))
        found = results(reference, part)
        for key in ("y", "d x"):
            want[key][j::d] = found[key]
        for key in WEIGHTS:
            want[key] += found[key]
        for k in range(reference.CELLS[name].states):
            want[f"d state[{k}]"][j] = found[f"d state[{k}]"]
            want[f"state[{k}]"][last] = found[f"state[{k}]"]
    assert_close(got, want, 1e-12)


@pytest.mark.parametrize(("T", "cut"), [(9, 4), (8, 4), (3, 5), (4, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_a_cut_is_a_detached_state(name: str, T: int, cut: int) -> None:
    c = problem(Case("", name, {}), (T, 1, 3, 4))
    got = results(reference, c, cut=cut)
    starts = sorted({0, *range(T, 0, -cut)} | {T})
    state, want = c.arrays["state"], {k: np.zeros_like(v) for k, v in got.items()}
    for times, piece in pieces(c, 0, starts):
        last = times.stop == T
        piece = only(piece, state=state)._replace(dstate=c.dstate if last else piece.dstate)
        found = results(reference, piece)
        for key in ("y", "d x"):
            want[key][times] = found[key]
        for key in WEIGHTS:
            want[key] += found[key]
        parts = [found[f"state[{k}]"] for k in range(len(flat(state)))]
        for k, part in enumerate(parts):
            want[f"state[{k}]"] = part
            if times.start == 0 and T % cut:
                want[f"d state[{k}]"] = found[f"d state[{k}]"]
        state = state_of(parts)
    assert_close(got, want, 1e-12)


def test_a_loss_at_the_last_step_reaches_as_many_steps_as_the_cut() -> None:
    c = problem(Case("", "gru", {"lengths": True}), (9, 5, 3, 4), seed=2)
    _, _, tape = forward(reference, c)
    grads = reference.gru_backward(tape, dstate=c.dstate, cut=3)
    for b, n in enumerate(c.options["lengths"]):
        reached = np.flatnonzero(np.abs(grads.x[:, b]).max(-1))
        assert reached.tolist() == list(range(max(0, n - 3), n))


SAME: list[tuple[str, str, dict[str, Any]]] = [
    ("leak", "rnn", {"leak": 1.0}),
    *(("zoneout", name, {"zoneout": 0.0}) for name in ("rnn", "gru", "mgu")),
    *(("zoneout", name, {"zoneout": (0.0, 0.0)}) for name in ("lstm", "slstm", "lstm1997")),
    *(("clip", name, {"preact_clip": np.inf}) for name in ("rnn", "lstm", "gru", "mgu")),
    ("cell_clip", "lstm", {"cell_clip": np.inf}),
    *(("mask", name, {"h_mask": np.ones((3, 4))}) for name in NAMES[:-1]),
    *(("resets", name, {"resets": np.zeros((5, 3), bool)}) for name in NAMES),
    *(("heads", name, {"heads": 1}) for name in ("slstm",)),
]


@pytest.mark.parametrize(("label", "name", "given"), SAME, ids=lambda v: str(v)[:9])
def test_an_option_that_changes_nothing(label: str, name: str, given: dict[str, Any]) -> None:
    c = problem(Case("", name, {}), (5, 3, 3, 4))
    assert_close(results(reference, options(c, **given)), results(reference, c), 0.0)


def test_neutral_parameters_change_nothing() -> None:
    c = problem(Case("", "lstm", {}), (5, 3, 3, 4))
    plain = results(reference, c)
    for name, neutral in {"peepholes": np.zeros((3, 4)), "w_hr": np.eye(4)}.items():
        got = results(reference, only(c, **{name: neutral}))
        assert_close({key: got[key] for key in plain}, plain, 1e-14)


@pytest.mark.parametrize("name", ["rnn", "gru", "mgu"])
def test_full_zoneout_keeps_the_state(name: str) -> None:
    c = problem(Case("", name, {"zoneout": 1.0}), (5, 3, 3, 4))
    got, h = results(reference, c), c.arrays["state"]
    assert np.array_equal(got["y"], np.broadcast_to(h, (5, 3, 4)))
    assert_close({"d": got["d state[0]"]}, {"d": c.dstate + c.dy.sum(0)}, 1e-14)
    assert not any(got[key].any() for key in ["d x", *WEIGHTS])


def split_gates(a: Any) -> list[Any]:
    return list(np.split(a, 3))


def test_a_coupled_forget_gate_is_one_with_the_opposite_weights() -> None:
    c = problem(Case("", "lstm", {"forget_gate": "coupled"}), (6, 3, 3, 4))
    names = ["w_ih", "w_hh", "b_ih", "b_hh"]
    wide = {}
    for name in names:
        i, g, o = split_gates(c.arrays[name])
        wide[name] = np.concatenate([i, -i, g, o])  # 1 - sig(a) = sig(-a)
    got, want = (
        results(reference, c),
        results(reference, options(only(c, **wide), forget_gate=None)),
    )
    for name in names:
        i, f, g, o = np.split(want[f"d {name}"], 4)
        want[f"d {name}"] = np.concatenate([i - f, g, o])
    assert_close(got, want, 1e-12)


def test_no_forget_gate_is_an_open_one() -> None:
    c = problem(Case("", "lstm", {"forget_gate": "none"}), (6, 3, 3, 4))
    names = ["w_ih", "w_hh", "b_ih", "b_hh"]
    wide = {}
    for name in names:
        i, g, o = split_gates(c.arrays[name])
        wide[name] = np.concatenate([i, np.full_like(i, 100.0 if name == "b_ih" else 0.0), g, o])
    got, want = (
        results(reference, c),
        results(reference, options(only(c, **wide), forget_gate=None)),
    )
    for name in names:
        i, f, g, o = np.split(want[f"d {name}"], 4)
        assert not f.any()
        want[f"d {name}"] = np.concatenate([i, g, o])
    assert_close(got, want, 1e-12)


def test_heads_are_zero_blocks() -> None:
    c = problem(Case("", "slstm", {"heads": 2}), (6, 3, 3, 6))
    H, size = 6, 3
    dense = np.zeros((4 * H, H))
    for gate in range(4):
        for head in range(2):
            rows = gate * H + head * size + np.arange(size)
            dense[rows, head * size : (head + 1) * size] = c.arrays["w_hh"][rows]
    got, want = results(reference, c), results(reference, options(only(c, w_hh=dense), heads=None))
    full = want["d w_hh"].reshape(4, 2, size, 2, size)
    want["d w_hh"] = np.stack([full[:, k, :, k] for k in range(2)], 1).reshape(4 * H, size)
    assert_close(got, want, 1e-12)


def test_the_stabiliser_of_an_slstm_changes_no_output() -> None:
    """With it exp cannot overflow; without it the equations are those of the paper's section 2.2"""
    c = problem(Case("", "slstm", {}), (6, 3, 3, 4))
    x, w_ih, w_hh, b_ih, b_hh, _ = c.arrays.values()
    y, _, _ = reference.slstm_forward(x, w_ih, w_hh, b_ih, b_hh)
    h, cell, n = (np.zeros((3, 4)) for _ in range(3))
    for t in range(6):
        i, f, z, o = np.split(x[t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, axis=-1)
        i, f, o = np.exp(i), 1 / (1 + np.exp(-f)), 1 / (1 + np.exp(-o))
        cell, n = f * cell + i * np.tanh(z), f * n + i
        h = o * cell / n
        assert_close({"h": y[t]}, {"h": h}, 1e-13)


@pytest.mark.parametrize("shift", [3000.0, -400.0])
def test_an_slstm_bears_large_sums(shift: float) -> None:
    """exp would overflow; the square of the first n would vanish."""
    c = problem(Case("", "slstm", {}), (6, 3, 3, 4))
    c = only(c, b_ih=c.arrays["b_ih"] + np.repeat([shift, 0, 0, 0], 4), state=None)
    got = results(reference, c)
    assert all(np.isfinite(value).all() for value in got.values())
    assert got["d x"].any()


def test_at_a_tie_of_the_stabiliser_the_forget_branch_has_the_gradient() -> None:
    zeros = np.zeros((1, 1, 1))
    state = (zeros[0], zeros[0], np.ones((1, 1)), np.full((1, 1), np.log(2.0)))  # log f + m = 0 = i
    _, _, tape = reference.slstm_forward(zeros, np.zeros((4, 1)), np.zeros((4, 1)), state=state)
    dstate = (None, None, None, np.ones((1, 1)))
    grads = reference.slstm_backward(tape, dstate=dstate)
    assert grads.state[3].item() == 1.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 3, 4)])
def test_fewer_steps_than_a_dilation_or_a_skip(name: str, shape: tuple[int, ...]) -> None:
    T, B, _, H = shape
    c = problem(Case("", name, {"dilation": 3, "skip": 4}), shape)  # type: ignore[arg-type]
    got = results(reference, c, cut=3)
    assert got["y"].shape == (T, B, H)
    assert got["state[0]"].shape == (3, B, H)
    assert np.array_equal(got["state[0]"][: 3 - T], flat(c.arrays["state"])[0][T:])


def test_the_truncated_gradient_is_that_of_the_paper_of_1997() -> None:
    """Its appendix runs forward in time: it carries ds_c/dw along, and multiplies by the error."""
    T, B, I, H = 7, 3, 2, 4
    c = problem(Case("", "lstm1997", {}), (T, B, I, H))
    x, w_ih, w_hh, b_ih, b_hh, (h, s, i, o) = c.arrays.values()
    trace_i, trace_c = (np.zeros((B, H, I + 3 * H + 1)) for _ in range(2))
    found = np.zeros((3, H, I + 3 * H + 1))
    for t in range(T):
        source = np.concatenate([x[t], h, i, o, np.ones((B, 1))], -1)
        w = np.concatenate([w_ih, w_hh, (b_ih + b_hh)[:, None]], -1)
        i, o, g = (1 / (1 + np.exp(-a)) for a in np.split(source @ w.T, 3, axis=-1))
        s = s + i * (4 * g - 2)
        squash = 1 / (1 + np.exp(-s))
        h = o * (2 * squash - 1)
        step = source[:, None, :]
        trace_i = trace_i + ((4 * g - 2) * i * (1 - i))[:, :, None] * step
        trace_c = trace_c + (i * 4 * g * (1 - g))[:, :, None] * step
        e_out = c.dy[t] * (2 * squash - 1) * o * (1 - o)
        e_s = c.dy[t] * o * 2 * squash * (1 - squash)
        found[0] += (e_s[:, :, None] * trace_i).sum(0)
        found[1] += (e_out[:, :, None] * step).sum(0)
        found[2] += (e_s[:, :, None] * trace_c).sum(0)
    _, _, tape = forward(reference, c)
    grads = reference.lstm1997_backward(tape, c.dy)
    want = found.reshape(3 * H, -1)
    got = np.concatenate([grads.w_ih, grads.w_hh, grads.b_ih[:, None]], -1)
    assert_close({"w": got, "b": grads.b_hh}, {"w": want, "b": want[:, -1]}, 1e-12)
    assert not np.concatenate([grads.state[0], *grads.state[2:]]).any()


DISTINCT = {"rnn": 1, "lstm": 4, "gru": 4, "mgu": 3, "slstm": 4, "lstm1997": 3}


@pytest.mark.parametrize("name", NAMES)
def test_clipping_the_gates_bounds_all_sums_of_a_sequence_together(name: str) -> None:
    c = problem(Case("", name, {}), (1, 1, 3, 4))
    grads = results(reference, c, step_clip=("norm", 1e-3, "gates"))
    b_ih, b_hh = grads["d b_ih"], grads["d b_hh"]
    apart = [b_hh[-4:]] if name in ("gru", "mgu") else []
    sums = np.concatenate([b_ih, *apart])
    assert len(sums) == 4 * DISTINCT[name]
    assert np.sqrt((sums * sums).sum()) == pytest.approx(1e-3, rel=1e-12)
    free = results(reference, c)["d b_ih"]
    assert_close({"": b_ih / np.abs(b_ih).max()}, {"": free / np.abs(free).max()}, 1e-12)


def test_clipping_the_gates_of_an_early_reset() -> None:
    """The gradient of r comes from the unclipped n; then all three are clipped."""
    c = problem(Case("", "gru", {"reset_after": False}), (1, 1, 3, 4))
    free, bound = results(reference, c)["d b_ih"], 1e-2
    by_value = results(reference, c, step_clip=("value", bound, "gates"))["d b_ih"]
    by_norm = results(reference, c, step_clip=("norm", bound, "gates"))["d b_ih"]
    assert np.array_equal(by_value, np.clip(free, -bound, bound))
    assert_close({"": by_norm}, {"": free * bound / np.sqrt((free * free).sum())}, 1e-12)


@pytest.mark.parametrize("target", ["h", "c", "gates"])
@pytest.mark.parametrize("kind", ["value", "norm"])
@pytest.mark.parametrize("name", NAMES)
def test_a_loose_step_clip_changes_nothing(name: str, kind: str, target: str) -> None:
    c = problem(Case("", name, {}), (5, 3, 3, 4))
    assert_close(results(reference, c, step_clip=(kind, 1e9, target)), results(reference, c), 0.0)


def test_saved_values_have_names() -> None:
    c = problem(Case("", "lstm", {}), (5, 3, 3, 4))
    y, _, tape = forward(reference, c)
    for t, (saved, after) in enumerate(zip(tape.saved, tape.queues[1:])):
        assert np.array_equal(saved["o"].value * np.tanh(after[1][-1]), y[t])
