# SPDX-License-Identifier: MIT
"""Where gradients go back, with dilation, skip, cut, resets, lengths, directions: by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import init, reference
from bptt.flow.curves import curve

T, B, SIZE, HIDDEN = 17, 4, 3, 6
RNG = np.random.default_rng(0)
X = RNG.standard_normal((T, B, SIZE))
LENGTHS = np.array([17, 11, 0, 6])
RESETS = RNG.random((T, B)) < 0.2
CELLS = {"rnn": bptt.RNN, "lstm": bptt.LSTM, "gru": bptt.GRU, "mgu": bptt.MGU,
         "slstm": bptt.SLSTM, "lstm1997": bptt.LSTM1997}  # fmt: skip
WAYS: list[dict[str, Any]] = [
    *({"dilation": d, "skip": s} for d, s in ((1, 0), (2, 0), (5, 0), (1, 4), (2, 4), (3, 3))),
    {"cut": 4},
    {"cut": 3, "skip": 2},
    {"resets": RESETS},
    {"resets": RESETS, "cut": 5, "skip": 2},
]
CASES = [
    pytest.param(cell, way, lengths, reverse, id=f"{cell}-{n}-{lengths is not None}-{reverse}")
    for cell in CELLS
    for n, way in enumerate(WAYS)
    for lengths, reverse in itertools.product((None, LENGTHS), (False, True))
]


def traced(
    cell: str, way: dict[str, Any], lengths: Any, reverse: bool, dy: np.ndarray, module: Any = bptt
) -> Any:
    """The trace of one backward call, in float64."""
    layer = CELLS[cell](SIZE, HIDDEN, dtype="float64", seed=0)
    forward = {k: v for k, v in way.items() if k != "cut"}
    run = getattr(module, f"{cell}_forward")
    options = {"lengths": lengths, "reverse": reverse, **forward}
    if module is reference:
        options |= {"keep_tape": True}
    tape = run(X, *layer.parameters.values(), None, **options)[2]
    how = {"step_clip": None, "dstate": None} if module is reference else {}
    back = getattr(module, f"{cell}_backward")
    return back(tape, dy, cut=way.get("cut"), trace="full", **how).trace


def way_back(n: int, reverse: bool) -> list[int]:
    """The steps of a sequence of n, the last processed first."""
    return list(range(n)) if reverse else list(range(n))[::-1]


def borders(way: dict[str, Any], b: int, back: list[int]) -> list[bool]:
    """For each step on the way back: whether the gradient ends there."""
    resets, cut = way.get("resets"), way.get("cut")
    return [
        bool((resets is not None and resets[t, b]) or (cut and (j + 1) % cut == 0))
        for j, t in enumerate(back)
    ]


def links(cell: str, way: dict[str, Any], state: str) -> list[int]:
    own = [] if (cell, state) == ("lstm1997", "h") else [way.get("dilation", 1)]
    return own + ([way["skip"]] if state == "h" and way.get("skip") else [])


def ends_of(lengths: Any) -> list[int]:
    return [T] * B if lengths is None else lengths.tolist()


def at_last(lengths: Any, reverse: bool) -> np.ndarray:
    dy = np.zeros((T, B, HIDDEN))
    for b, n in enumerate(ends_of(lengths)):
        if n:
            dy[way_back(n, reverse)[0], b] = RNG.standard_normal(HIDDEN)
    return dy


def chains_by_hand(
    cell: str, way: dict[str, Any], lengths: Any, reverse: bool, state: str
) -> list[list[tuple[int, int]]]:
    chains = []
    every = min(links(cell, way, state), default=T)
    for b, n in enumerate(ends_of(lengths)):
        back = way_back(n, reverse)
        closed, seen = borders(way, b, back), set()
        for start in range(n):
            chain, j = [], start
            while j < n and j not in seen:
                seen.add(j)
                chain.append((back[j], b))
                if any(closed[j : j + every]):
                    break
                j += every
            if chain:
                chains.append(chain)
    return chains


def curve_by_hand(trace: Any, chains: list[list[tuple[int, int]]], state: str) -> np.ndarray:
    """Norms along the chains, each from where a gradient is; linked where a chain ends."""
    dh = trace.full.dh
    own = dh if state == "h" else trace.full.dc
    kept = []
    for chain in chains:
        norms = [float(np.linalg.norm(own[at])) for at in chain]
        entered = [dh[at].any() or own[at].any() for at in chain]
        if any(entered):
            kept.append(norms[entered.index(True) :])
    if not kept:
        return np.zeros(0)
    result = [math.sqrt(np.mean([n[0] ** 2 for n in kept]))]
    for k in range(1, max(map(len, kept))):
        longer = [n for n in kept if len(n) > k]
        before = math.sqrt(sum(n[k - 1] ** 2 for n in longer))
        now = math.sqrt(sum(n[k] ** 2 for n in longer))
        result.append(result[-1] * now / before if before else now)
    return np.array(result)


@pytest.mark.parametrize(("cell", "way", "lengths", "reverse"), CASES)
def test_a_gradient_is_where_links_lead_and_nowhere_else(cell, way, lengths, reverse):
    trace = traced(cell, way, lengths, reverse, at_last(lengths, reverse))
    states = ("h", "c") if trace.source.states > 1 else ("h",)
    for b, n in enumerate(ends_of(lengths)):
        back = way_back(n, reverse)
        closed = borders(way, b, back)
        there = {s: np.zeros(n, bool) for s in states}
        for j in range(n):
            there["h"][j] |= j == 0
            if "c" in there:
                there["c"][j] |= there["h"][j]  # h is made of c
            for s in states:
                for k in links(cell, way, s):
                    if there[s][j] and j + k < n and not any(closed[j : j + k]):
                        there[s][j + k] = True
            # The gates of a step reach h and c of the one before.
            k = way.get("dilation", 1)
            if cell != "lstm1997" and j + k < n and not any(closed[j : j + k]):
                for s in states:
                    there[s][j + k] |= any(there[q][j] for q in states)
        for s in states:
            norms = trace.dh_by_sequence if s == "h" else trace.dc_by_sequence
            np.testing.assert_array_equal(norms[back, b] > 0, there[s])
    # So nothing that could arrive is missing.
    assert trace.vanished_at is None


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_the_reference_knows_the_same_links(cell, way):
    for lengths, reverse in ((None, True), (LENGTHS, False)):
        dy = at_last(lengths, reverse)
        a, b = (traced(cell, way, lengths, reverse, dy, module) for module in (bptt, reference))
        for state in ("h", "c")[: a.source.states]:
            for own, other in zip(a.source.paths.chains(state), b.source.paths.chains(state)):
                np.testing.assert_array_equal(own, other)
            np.testing.assert_allclose(curve(a, state).norms, curve(b, state).norms, rtol=1e-9)


@pytest.mark.parametrize(("cell", "way", "lengths", "reverse"), CASES)
def test_curves_are_those_of_the_full_traces(cell, way, lengths, reverse):
    everywhere = RNG.standard_normal((T, B, HIDDEN))
    some = everywhere * (np.arange(T)[:, None] % 6 == 2)[..., None]  # a loss at some steps
    for dy in (at_last(lengths, reverse), everywhere, some, 0 * some):
        trace = traced(cell, way, lengths, reverse, dy)
        for state in ("h", "c")[: trace.source.states]:
            chains = chains_by_hand(cell, way, lengths, reverse, state)
            found = curve(trace, state)
            expected = curve_by_hand(trace, chains, state)
            np.testing.assert_allclose(found.norms, expected, rtol=1e-9)
            every = min(links(cell, way, state), default=1)
            assert found.every == every
            skip = way.get("skip", 0)
            used = 0 < skip < len(expected) * every
            assert found.period == (skip // every if used else 1)


def arrives_by_hand(trace: Any, cell: str, way: dict[str, Any], lengths: Any, reverse: bool) -> Any:
    """All steps where the gradient of h is 0 though it is not at a step that passes it on."""
    found, norms = [], trace.dh_by_sequence
    for b, n in enumerate(ends_of(lengths)):
        back = way_back(n, reverse)
        closed = borders(way, b, back)
        for j in range(n):
            for k in links(cell, way, "h"):
                if j + k < n and not any(closed[j : j + k]):
                    if norms[back[j], b] > 0 and norms[back[j + k], b] == 0:
                        found.append((back[j + k], b))
    return min(found, key=lambda at: (at[0] if reverse else -at[0], at[1]), default=None)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("reverse", [False, True])
def test_where_it_vanishes(way, lengths, reverse):
    """In float32 1e-18, 1e-36, 0: the third link, unless there is none."""
    w = [RNG.standard_normal((HIDDEN, SIZE)), 1e-18 * np.eye(HIDDEN), None, None]
    given = [None if a is None else a.astype(np.float32) for a in (X, *w)]
    options = {k: v for k, v in way.items() if k != "cut"}
    tape = bptt.rnn_forward(
        *given, lengths=lengths, reverse=reverse, activation="identity", **options
    )[2]
    trace = bptt.rnn_backward(
        tape, at_last(lengths, reverse).astype(np.float32), cut=way.get("cut"), trace=True
    ).trace
    expected = arrives_by_hand(trace, "rnn", way, lengths, reverse)
    assert trace.vanished_at == expected
    if way == {"dilation": 2, "skip": 0} and lengths is None:
        assert expected == ((6, 0) if reverse else (T - 1 - 6, 0))
    if way == {"cut": 3, "skip": 2}:
        assert expected is None


@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_report_and_monitor_agree_on_a_loss_at_the_end(dilation, bidirectional):
    x = np.random.default_rng(0).standard_normal((120, 8, 4))
    how = {"dilation": dilation, "bidirectional": bidirectional, "seed": 0}
    orthogonal, open_gates = bptt.RNN(4, 16, activation="identity", **how), bptt.LSTM(4, 16, **how)
    for name, array in orthogonal.parameters.items():
        if name.startswith("weight_hh"):
            init.orthogonal(array, 0)
    init.forget_bias(open_gates, 5.0)
    layers = (orthogonal, open_gates, bptt.GRU(4, 16, **how))
    for layer, verdict in zip(layers, ("healthy", "healthy", "vanishing")):
        report, monitor = bptt.gradient_flow(layer, x), bptt.FlowMonitor(1, on_alert=lambda a: None)
        y, _, tape = layer.forward(x)
        dy = np.zeros_like(y)
        for r in range(1 + bidirectional):
            own = slice(16 * r, 16 * (r + 1))
            u = np.random.default_rng((0, r)).standard_normal((8, 16))
            dy[0 if r else -1, :, own] = u / np.linalg.norm(u, axis=1, keepdims=True)
        trace = layer.backward(tape, dy, trace=True).trace
        monitor.update(0, trace)
        for cell, sample in zip(report.cells, monitor.records[0]["cells"], strict=True):
            assert sample["name"] == cell.name
            assert sample["verdict"] == report.verdict == verdict
            assert sample["growth"] == pytest.approx(cell.curve.growth)
            if verdict == "vanishing":
                assert sample["horizon"] == pytest.approx(cell.curve.horizon)
        assert all(cell.vanished_at is None for cell in trace.cells)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_ragged_batches_with_a_dilation(kind, reverse):
    """Each sequence alone, at multiples of the dilation from its own end."""
    x = np.random.default_rng(1).standard_normal((60, 5, 4))
    lengths = np.array([60, 33, 0, 17, 2])
    layer = getattr(bptt, kind)(4, 8, dilation=3, bidirectional=True, dtype="float64", seed=0)
    cell = bptt.gradient_flow(layer, x, lengths=lengths).cells[reverse]
    u = np.random.default_rng((0, int(reverse))).standard_normal((5, 8))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    norms, firsts = [], []
    for b, n in enumerate(lengths):
        if n:
            y, _, tape = layer.forward(x[:n, b : b + 1])
            dy = np.zeros_like(y)
            dy[0 if reverse else -1, 0, 8 * reverse : 8 * reverse + 8] = u[b]
            trace = layer.backward(tape, dy, trace=True).trace.cells[reverse]
            own = trace.dh if kind != "LSTM" else trace.dc
            norms.append((own if reverse else own[::-1])[::3])
            firsts.append(trace.dh[-3:] if reverse else trace.dh[:3])
    expected = [math.sqrt(np.mean([n[0] ** 2 for n in norms]))]
    for k in range(1, 20):
        both = [n for n in norms if len(n) > k]
        ratio = sum(n[k] ** 2 for n in both) / sum(n[k - 1] ** 2 for n in both)
        expected.append(expected[-1] * math.sqrt(ratio))
    np.testing.assert_allclose(cell.curve.norms, expected, rtol=1e-9)
    assert cell.first == pytest.approx(np.linalg.norm(np.concatenate(firsts)))
    assert cell.curve.reach == 57


# --- skips ----------------------------------------------------------------------------------------


def linear(scale: float, **how: Any) -> bptt.RNN:
    rnn = bptt.RNN(4, 8, activation="identity", dtype="float64", seed=0, **how)
    init.orthogonal(rnn.parameters["weight_hh_l0"], 0, scale)
    return rnn


def powers_by_hand(rnn: bptt.RNN, u: np.ndarray, skip: int, lags: int) -> list[float]:
    """||g_k|| of g_k = W^T g_{k-1} + g_{k-skip}, root mean square over rows."""
    w, g = rnn.parameters["weight_hh_l0"], [u]
    for k in range(1, lags):
        g.append(g[k - 1] @ w + (g[k - skip] if k >= skip else 0))
    return [math.sqrt((a**2).sum(1).mean()) for a in g]


@pytest.mark.parametrize("scale", [1e-3, 0.5])
def test_a_skip_brings_back_what_faded(scale):
    """Lag 1 is scale, lag 6 is 1: neither an explosion nor a horizon of one step."""
    rnn = linear(scale, skip=6)
    x = np.random.default_rng(0).standard_normal((40, 3, 4))
    report = bptt.gradient_flow(rnn, x)
    (cell,) = report.cells
    u = np.random.default_rng((0, 0)).standard_normal((3, 8))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    norms = np.array(powers_by_hand(rnn, u, 6, 40))
    np.testing.assert_allclose(cell.curve.norms, norms, rtol=1e-12)
    tops = np.array([norms[k : k + 6].max() for k in range(1, 35)])
    np.testing.assert_allclose(cell.curve.tops[1:], tops)
    assert cell.curve.level == pytest.approx(norms[1:7].max())
    assert cell.curve.growth == pytest.approx(norms[1:].max() / norms[1:7].max())
    assert cell.curve.horizon == math.inf
    assert report.verdict == "healthy"
    kept = tops / norms[1:7].max()
    assert f"between {kept.min():.3g} and {kept.max():.3g} of its size" in report.verdicts[0]
    slopes = (np.log(tops[12:]) - np.log(tops[:-12])) / 12  # whole periods, half of 34 at most
    assert cell.curve.factor == pytest.approx(math.exp(np.median(slopes)))
    assert cell.radius is cell.bound is None  # W_hh is not all that lies between two steps
    monitor = bptt.FlowMonitor(1, on_alert=lambda a: None)
    dy = np.zeros((40, 3, 8))
    dy[-1] = u
    tape = rnn.forward(x)[2]
    monitor.update(0, rnn.backward(tape, dy, trace=True).trace)
    (sample,) = monitor.records[0]["cells"]
    assert (sample["verdict"], sample["horizon"]) == ("healthy", None)
    assert sample["growth"] == pytest.approx(cell.curve.growth)


def test_a_skip_that_is_longer_than_the_sequences_is_none():
    x = np.random.default_rng(0).standard_normal((30, 3, 4))
    with_skip, without = (bptt.gradient_flow(linear(0.5, skip=s), x) for s in (30, 0))
    assert with_skip.verdicts == without.verdicts
    few = bptt.gradient_flow(linear(0.5, skip=28), x)
    assert few.verdict == "too short"
    assert "over 30 steps with a skip of 28 no decay can be measured" in few.verdicts[0]


def test_the_state_h_of_lstm1997_goes_by_skips_alone():
    x = np.random.default_rng(0).standard_normal((40, 3, 4))
    for skip, norms in ((0, 1), (5, 8)):
        layer = bptt.LSTM1997(4, 8, skip=skip, seed=0, dtype="float64")
        cell = bptt.gradient_flow(layer, x).cells[0]
        np.testing.assert_allclose(cell.curves["h"].norms, np.ones(norms))
        assert len(cell.curve.norms) == 40
