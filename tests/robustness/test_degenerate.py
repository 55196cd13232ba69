# SPDX-License-Identifier: MIT
"""Calls without a step: no steps, no sequences, lengths of 0; and looks back beyond the start.

Every function of a tape or a layer gives the right answer: nothing, zeros, or the initial state.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference, regularise
from support.compare import assert_close
from support.problems import (
    CASES,
    CORE,
    Case,
    Problem,
    backward,
    flat,
    forward,
    named,
    problem,
    state_of,
)

# T, B and, of the second of two, the lengths
NO_STEP = [(0, 2, None), (0, 0, None), (4, 0, None), (4, 2, [0, 0])]
IDS = ["no-steps", "nothing", "no-sequences", "lengths-of-0"]


def without_steps(case: Case, T: int, B: int, lengths: Any) -> Problem:
    options = {k: v for k, v in case.options.items() if k != "lengths"}
    c = problem(case._replace(options=options), (T, B, 2, 4))
    return c if lengths is None else c._replace(options=c.options | {"lengths": lengths})


@pytest.mark.parametrize("size", NO_STEP, ids=IDS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_functions_pass_the_state_through(case: Case, size: Any) -> None:
    c = without_steps(case, *size)
    for module in [bptt, reference] if case in CORE else [reference]:
        y, state, tape = forward(module, c)
        assert y.shape == c.dy.shape
        assert not y.any()
        grads = backward(module, c, tape, trace="full")
        for got, want in ((state, c.arrays["state"]), (grads.state, c.dstate)):
            assert all(np.array_equal(a, b) for a, b in zip(flat(got), flat(want)))
        for name, value in named(None, None, grads._replace(state=None, trace=None)).items():
            assert not value.any(), name
        trace = grads.trace
        T, B, G = size[0], size[1], len(trace.source.ranges)
        assert trace.norms.shape == (T, B, trace.norms.shape[2])
        assert len(trace.gates) == G
        shown = [trace.dh, trace.clipped, *trace.gates.values()]
        shown += [] if trace.dc is None else [trace.dc]
        assert all(a.shape == (T,) and not a.any() for a in shown)
        assert trace.vanished_at is trace.nonfinite is None
        for part in trace.saturated.values():
            assert part.shape == (T,)
            assert np.isnan(part).all()
        full = trace.full._replace(x=None, gates=None)
        assert all(not a.any() for a in full if a is not None)
        if trace.source.plain_weights:
            assert not any(np.any(a) for share in trace.shares for a in share)
            each = bptt.per_sample_gradients(trace)
            assert all(a.shape[0] == B and not a.any() for a in each.values())


FAR = [
    {"dilation": 9}, {"dilation": 9, "lengths": True, "reverse": True}, {"skip": 9},
    {"dilation": 6, "skip": 6}, {"dilation": 9, "zoneout": 0.3},
]  # fmt: skip


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "mgu", "slstm", "lstm1997"])
@pytest.mark.parametrize("options", FAR, ids=str)
def test_looks_back_beyond_the_start(cell: str, options: dict[str, Any]) -> None:
    for T in (1, 4):
        c = problem(Case("", cell, options), (T, 3, 2, 5))
        results = []
        for module in (bptt, reference):
            y, state, tape = forward(module, c)
            grads = backward(module, c, tape, trace="full")
            found = named(y, state, grads._replace(trace=None))
            results.append(found | {"dh": grads.trace.full.dh, "norms": grads.trace.norms})
        assert_close(*results, 1e-12)


# --- layers

LAYERS = [bptt.RNN, bptt.LSTM, bptt.GRU, bptt.MGU, bptt.SLSTM, bptt.LSTM1997]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"dilation": 2, "batch_first": True},
    {"num_layers": 2, "dilation": (1, 3)},
    {"num_layers": 2, "dilation": (2, 6), "skip": 6, "zoneout": 0.5},
    {"num_layers": 2, "dilation": (3, 1), "bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "residual": True, "dropout": 0.5},
    {"layer_norm": True},
    {"recurrent_dropout": 0.5, "skip": 2},
]


class Layered:
    """A layer's calls on a batch without a step."""

    def __init__(self, kind: Any, options: dict[str, Any], T: int, B: int, lengths: Any) -> None:
        self.layer = kind(2, 3, dtype="float64", seed=0, **options)
        shape = (B, T, 2) if self.layer.batch_first else (T, B, 2)
        self.x, self.lengths, rng = np.ones(shape), lengths, np.random.default_rng(0)
        _, state, _ = self.layer.forward(self.x)
        self.state, self.dstate = (
            state_of([rng.standard_normal(s.shape) for s in flat(state)]) for _ in range(2)
        )
        self.y, self.final, self.tape = self.layer.forward(self.x, self.state, lengths)
        self.dy = np.ones_like(self.y)

    @property
    def plain(self) -> list[Any]:
        """The tapes in which each step depends on the step before alone."""
        of_steps = max(self.layer.dilations) == 1 and not self.layer.skip
        return self.tape.cells if of_steps and self.layer.structure.kind != "lstm1997" else []


def same(got: Any, want: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(flat(got), flat(want), strict=True))


@pytest.mark.parametrize("size", NO_STEP, ids=IDS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", LAYERS, ids=lambda k: k.__name__)
def test_all_that_takes_a_layer_or_its_tape(kind: Any, options: Any, size: Any) -> None:
    if kind is bptt.LSTM1997 and {"layer_norm", "recurrent_dropout"} & options.keys():
        return
    c, (T, B, _) = Layered(kind, options, *size), size
    layer, tape = c.layer, c.tape
    called = layer(c.x, c.state, c.lengths)
    for y, final in (called, (c.y, c.final)):
        assert y.shape[:2] == c.x.shape[:2]
        assert not y.any()
        assert same(final, c.state)

    grads = layer.backward(tape, c.dy, c.dstate, trace="full")
    assert same(grads.state, c.dstate)
    assert not any(a.any() for a in (grads.x, *grads.params.values()))
    assert grads.trace.dh.shape == (len(tape.cells), T)
    assert grads.trace.nonfinite is bptt.find_nonfinite(tape) is None
    for cut in [2] if max(layer.dilations) == 1 else []:
        assert same(layer.backward(tape, c.dy, c.dstate, cut=cut).state, c.dstate)
    monitor = bptt.FlowMonitor(1, on_alert=lambda alert: pytest.fail(str(alert)))
    monitor.update(0, grads.trace)
    assert [cell["verdict"] for cell in monitor.records[0]["cells"]] == ["too short"] * len(
        tape.cells
    )
    for name in tape.names if hasattr(tape, "names") else tape.cells[0].names:
        value = getattr(tape, name)
        assert value.shape[:3] == (len(tape.cells), T, B)
        assert not value.any()

    v = {name: np.ones_like(a) for name, a in layer.parameters.items()} | {"x": c.x}
    along = {"state": c.state, "dstate_tangent": c.state, "lengths": c.lengths}
    for tangents in (v, {"state": c.dstate}):
        first, second = bptt.layer_hvp(layer, c.x, tangents, c.dy, c.dstate, **along)
        assert same(first.state, c.dstate)
        assert same(second.state, c.state)
        assert not any(a.any() for g in (first, second) for a in (g.x, *g.params.values()))
    if not layer.bidirectional and layer.skip <= min(layer.dilations):
        for chunk in bptt.tbptt(layer, c.x, 2, 4, state=c.state, lengths=c.lengths):
            assert same(chunk.state, c.state)
            assert not any(a.any() for a in chunk.backward(np.ones_like(chunk.y)).params.values())


@pytest.mark.parametrize("size", NO_STEP, ids=IDS)
@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"bidirectional": True}], ids=str)
@pytest.mark.parametrize("kind", LAYERS[:-1], ids=lambda k: k.__name__)
def test_all_that_takes_single_steps(kind: Any, options: Any, size: Any) -> None:
    c, (T, B, _) = Layered(kind, options, *size), size
    S = sum(s.shape[-1] for s in flat(c.state))
    for cell in c.plain:
        lags = bptt.by_lag(cell, np.ones(cell.h.shape))
        assert lags.dh.shape == (T,)
        assert not any(np.any(a) for a in (lags.dh, *lags.w_ih, *lags.w_hh, *lags.b_ih))
        assert bptt.step_jacobians(cell).shape == (T, B, S, S)
        assert not bptt.step_jacobians(cell).any()
        assert bptt.jacobian_norms(cell).shape == (T, B)
        assert not bptt.jacobian_norms(cell).any()
        if T:
            assert not bptt.jacobian(cell, 1, 1).any()
            assert not bptt.singular_values(cell, 1, 1).any()
        if not B:
            assert bptt.lyapunov_spectrum(cell, 2).shape == (0, 2)
    penalties = []
    if kind is bptt.RNN and not options:
        penalties += [regularise.omega(c.tape, c.dy), regularise.omega(c.tape, immediate=True)]
    if kind is not bptt.SLSTM and "bidirectional" not in options:
        penalties += [regularise.flossing(c.tape, 2)]
    for penalty in penalties:
        assert penalty.value == 0
        assert penalty.params.keys() == c.layer.parameters.keys()
        assert not any(np.any(a) for a in (penalty.x, *penalty.params.values()))
        assert same(penalty.state, state_of([np.zeros_like(s) for s in flat(c.state)]))


@pytest.mark.parametrize("n", [1, 3])
def test_flossing_counts_only_sequences_with_steps(n: int) -> None:
    """Sequences without a step change no bit of the others' results."""
    gru, x = (
        bptt.GRU(2, 3, dtype="float64", seed=0),
        np.random.default_rng(0).normal(size=(5, 3, 2)),
    )
    some = regularise.flossing(gru.forward(x, lengths=[5, 0, 3])[2], n)
    alone = regularise.flossing(gru.forward(x[:, [0, 2]], lengths=[5, 3])[2], n)
    assert some.value == pytest.approx(alone.value, rel=1e-14)
    assert not some.x[:, 1].any()
    for name, a in alone.params.items():
        np.testing.assert_allclose(some.params[name], a, rtol=1e-12)


@pytest.mark.parametrize("kind", [bptt.GRU, bptt.LSTM, bptt.SLSTM], ids=lambda k: k.__name__)
@pytest.mark.parametrize("dilation", [2, 9, (1, 2), (3, 3)], ids=str)
def test_layer_hvp_takes_the_states_of_dilations(kind: Any, dilation: Any) -> None:
    """Compared with differences of the gradients."""
    layers = len(dilation) if isinstance(dilation, tuple) else 1
    layer = kind(2, 3, layers, dilation=dilation, dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 2, 2))
    y, final, _ = layer.forward(x)
    state, dstate, v, u = (
        [np.abs(rng.standard_normal(s.shape)) + 0.5 for s in flat(final)] for _ in range(4)
    )
    dy = rng.standard_normal(y.shape)
    got, along = bptt.layer_hvp(
        layer, x, {"state": state_of(v)}, dy, state_of(dstate), state=state_of(state),
        dstate_tangent=state_of(u),
    )  # fmt: skip

    def gradients(e: float) -> Any:
        _, _, tape = layer.forward(x, state_of([s + e * d for s, d in zip(state, v)]))
        return layer.backward(tape, dy, state_of([s + e * d for s, d in zip(dstate, u)]))

    ahead, back, here = gradients(1e-5), gradients(-1e-5), gradients(0.0)
    for name in layer.parameters:
        np.testing.assert_allclose(got.params[name], here.params[name], 1e-10, 1e-12)
        difference = (ahead.params[name] - back.params[name]) / 2e-5
        np.testing.assert_allclose(along.params[name], difference, 1e-5, 1e-6)
    for a, b, c in zip(flat(along.state), flat(ahead.state), flat(back.state)):
        np.testing.assert_allclose(a, (b - c) / 2e-5, 1e-5, 1e-6)
    wrong = np.zeros((1, 1, 1, 1, 1))
    with pytest.raises(
        ValueError, match=r"layer_hvp: state.* has 5 dimensions, expected at most 4"
    ):
        bptt.layer_hvp(layer, x, {}, dy, state=state_of([wrong] * len(state)))


@pytest.mark.parametrize("size", NO_STEP, ids=IDS)
@pytest.mark.parametrize(
    "case", [c for c in CASES if c.id.endswith(("plain", "-layer_norm"))], ids=lambda c: c.id
)
def test_derivatives_pass_the_state_through(case: Case, size: Any) -> None:
    c = without_steps(case, *size)
    v = state_of([np.ones_like(s) for s in flat(c.arrays["state"])])
    run = getattr(bptt, f"{c.cell}_forward")
    y, state, dy, dstate = bptt.jvp(run, c.arrays, {"state": v, "x": c.arrays["x"]}, **c.options)
    assert y.shape == dy.shape == c.dy.shape
    assert not y.any()
    assert not dy.any()
    assert same(state, c.arrays["state"])
    assert same(dstate, v)
    tangents = {"state": v, "w_hh": c.arrays["w_hh"]}
    first, second = bptt.hvp(run, c.arrays, tangents, c.dy, c.dstate, dstate_tangent=v, **c.options)
    assert same(first.state, c.dstate)
    assert same(second.state, v)
    for grads in (first, second):
        assert not any(a.any() for a in named(None, None, grads._replace(state=None)).values())
