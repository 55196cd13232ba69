# SPDX-License-Identifier: MIT
"""The trace: equal in core and reference, to unrolled gradients, to autograd; and no effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference
from bptt.reference.loop import filled, is_reset, retreat
from support.compare import DTYPES, TOLERANCE, same_bits
from support.problems import (
    BACKWARD,
    BY_ID,
    CORE,
    Case,
    backward,
    forward,
    named,
    problem,
    shapes_of,
    supported,
)

PLAIN = [Case("", cell, {}) for cell in ("rnn", "lstm", "gru")]
GRU_BEFORE = Case("gru-before", "gru", {"reset_after": False})


def traces(c: Any, **how: Any) -> list[Any]:
    pair = []
    for module in (bptt, reference):
        _, _, tape = forward(module, c)
        pair.append(backward(module, c, tape, trace="full", **how).trace)
    return pair


def arrays(trace: Any) -> dict[str, Any]:
    """All that it shows, by name."""
    found = {"norms": trace.norms[:, :, :-2], "dh": trace.dh, "valid": trace.valid * 1}
    found |= {name: a for name, a in trace.full._asdict().items() if isinstance(a, np.ndarray)}
    found |= {f"gate {name}": a for name, a in trace.full.gates.items()}
    if trace.source.plain_weights:
        for name, share in trace.shares._asdict().items():
            found |= {f"norm of {name}": share.norm, f"share of {name}": share.share}
    return found


def assert_equal(got: Any, want: Any, tolerance: float) -> None:
    got, want = arrays(got), arrays(want)
    assert got.keys() == want.keys()
    for name, b in want.items():
        largest = np.abs(b).max(initial=0) or 1
        assert np.abs(got[name] - b).max(initial=0) <= tolerance * largest, name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_core_equals_reference(isa: str, case: Case, dtype: str) -> None:
    shape = shapes_of(case, dtype)[0]
    c = problem(case, shape).cast(dtype)
    got, want = traces(c)
    # A share has the square of the gradient in its denominator.
    assert_equal(got, want, 5 * TOLERANCE[dtype])
    assert got.source.ranges == want.source.ranges
    if dtype == "float64":
        for name, fraction in want.saturated.items():
            np.testing.assert_allclose(got.saturated[name], fraction, 1e-12, err_msg=name)


@pytest.mark.parametrize("how", BACKWARD, ids=str)
@pytest.mark.parametrize("case", [*PLAIN, GRU_BEFORE], ids=lambda c: f"{c.cell}{c.id}")
def test_clip_events(case: Case, how: dict[str, Any]) -> None:
    c = problem(case, (9, 5, 4, 21))
    if supported(c, how):
        got, want = traces(c, **how)
        assert_equal(got, want, 1e-11)
        assert np.array_equal(got.clipped, want.clipped)
        if "step_clip" in how:
            assert 0 < got.clipped.sum()


@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_tracing_changes_no_bit_and_threads_change_none_of_the_trace(case: Case) -> None:
    for shape in [(70, 3, 9, 150), (33, 17, 9, 70)]:
        c = problem(case, shape)
        y, state, tape = forward(bptt, c)
        without = backward(bptt, c, tape)
        full = backward(bptt, c, tape, trace="full")
        same_bits(named(y, state, without), named(y, state, full._replace(trace=None)))
        for other in (
            backward(bptt, c, tape, trace=True, threads=2),
            backward(bptt, c, forward(bptt, c, checkpoint="sqrt")[2], trace=True, threads=3),
        ):
            same_bits(named(y, state, without), named(y, state, other._replace(trace=None)))
            assert np.array_equal(other.trace.norms, full.trace.norms)
            assert other.trace.full is None


# --- against gradients that know nothing of Gram products


def step_gradients(c: Any) -> tuple[dict[str, Any], Any]:
    """Each step's own part of the weights' gradients, (T, m, n), by the reference's loop."""
    _, _, tape = forward(reference, c)
    dqueues = filled(tape.net, c.dstate, len(tape.queues[0][0]), c.dy.shape[1], c.dy.dtype)
    parts: dict[int, Any] = {}
    for n in reversed(range(len(tape.times))):
        t = tape.times[n]
        on = tape.active[t][:, None]
        older, parts[t] = retreat(tape, n, dqueues, c.dy, None)
        end = is_reset(tape.net, t, on)
        dqueues = [np.where(on, np.where(end, 0, a), b) for a, b in zip(older, dqueues)]
    names = ("w_ih", "w_hh", "b_ih")
    return {k: np.stack([parts[t][k] for t in range(len(parts))]) for k in names}, tape


@pytest.mark.parametrize("B", [1, 3, 40])
@pytest.mark.parametrize("options", [{}, {"reverse": True, "lengths": True}], ids=str)
@pytest.mark.parametrize("case", [*PLAIN, GRU_BEFORE], ids=lambda c: f"{c.cell}{c.id}")
def test_shares_equal_those_of_each_step_by_itself(case: Case, options: Any, B: int) -> None:
    c = problem(case._replace(options=case.options | options), (11, B, 4, 7))
    parts, _ = step_gradients(c)
    _, _, tape = forward(bptt, c)
    grads = backward(bptt, c, tape, trace="full")
    for name, share in zip(parts, grads.trace.shares):
        part, whole = parts[name], parts[name].sum(0)
        np.testing.assert_allclose(whole, getattr(grads, name), 1e-12, 1e-12)
        norm = np.sqrt((part**2).sum(tuple(range(1, part.ndim))))
        np.testing.assert_allclose(share.norm, norm, 1e-11, 1e-12 * norm.max())
        projection = (part * whole).reshape(len(part), -1).sum(1) / (whole**2).sum()
        np.testing.assert_allclose(share.share, projection, 1e-11, 1e-12)
        assert abs(share.share.sum() - 1) < 1e-12


@pytest.mark.parametrize("case", [*PLAIN, GRU_BEFORE], ids=lambda c: f"{c.cell}{c.id}")
def test_gradients_of_each_sequence(case: Case) -> None:
    c = problem(case._replace(options=case.options | {"lengths": True}), (11, 5, 4, 7))
    _, _, tape = forward(bptt, c)
    grads = backward(bptt, c, tape, trace="full")
    each = bptt.per_sample_gradients(grads.trace)
    for name, value in each.items():
        np.testing.assert_allclose(value.sum(0), getattr(grads, name), 1e-12, 1e-12)
    for b in range(5):
        alone = np.zeros_like(c.dy)
        alone[:, b] = c.dy[:, b]
        one = getattr(bptt, f"{c.cell}_backward")(tape, alone, only(c.dstate, b))
        for name, value in each.items():
            np.testing.assert_allclose(value[b], getattr(one, name), 1e-11, 1e-12, err_msg=name)


def only(state: Any, b: int) -> Any:
    """Zeros for all sequences but b."""
    if isinstance(state, tuple):
        return tuple(only(s, b) for s in state)
    return np.where(np.arange(len(state))[:, None] == b, state, 0)


# --- against torch


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_gradients_of_states_equal_those_of_autograd(cell: str) -> None:
    torch = pytest.importorskip("torch")
    c = problem(Case("", cell, {}), (12, 3, 4, 6))
    _, _, tape = forward(bptt, c)
    trace = backward(bptt, c, tape, trace="full").trace
    one = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[cell]
    net = one(4, 6, dtype=torch.float64)
    for name, array in zip(
        ("weight_ih", "weight_hh", "bias_ih", "bias_hh"), list(c.arrays.values())[1:5]
    ):
        getattr(net, name).data = torch.from_numpy(array)
    state: Any = c.arrays["state"]
    state = tuple(map(torch.from_numpy, state)) if cell == "lstm" else torch.from_numpy(state)
    hs, cs, loss = [], [], torch.zeros((), dtype=torch.float64)
    for x, dy in zip(torch.from_numpy(c.arrays["x"]), torch.from_numpy(c.dy)):
        state = net(x, state)
        h = state[0] if cell == "lstm" else state
        h.retain_grad()
        hs.append(h)
        if cell == "lstm":
            state[1].retain_grad()
            cs.append(state[1])
        loss = loss + (h * dy).sum()
    parts = zip(state, c.dstate) if cell == "lstm" else [(state, c.dstate)]
    loss = loss + sum((s * torch.from_numpy(d)).sum() for s, d in parts)
    loss.backward()
    for t, h in enumerate(hs):
        np.testing.assert_allclose(trace.full.dh[t], h.grad.numpy(), 1e-11, 1e-13)
        assert abs(trace.dh[t] - float(h.grad.norm())) < 1e-12 * trace.dh.max()
    for t, s in enumerate(cs):
        np.testing.assert_allclose(trace.full.dc[t], s.grad.numpy(), 1e-11, 1e-13)


def test_a_healthy_weight_gradient_and_a_dead_state_gradient() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.RNN(4, 16)
    x = torch.randn(200, 8, 4)
    layer = bptt.RNN(4, 16)
    layer.load({k: v.detach().numpy() for k, v in net.state_dict().items()})
    y, _, tape = layer.forward(x.numpy())
    dy = np.zeros_like(y)
    dy[-1] = 1
    grads = layer.backward(tape, dy, trace="full")
    trace = grads.trace.cells[0]
    assert np.linalg.norm(grads.params["weight_hh_l0"]) > 1
    assert not grads.state.any()
    assert not trace.dh[0]
    step, _ = trace.vanished_at
    assert 0 < step < 100
    assert trace.dh[step + 1] > 0
    assert trace.shares.w_hh.share[-20:].sum() > 0.99


# --- hidden faults


def test_norms_of_tiny_and_huge_gradients() -> None:
    c = problem(Case("", "rnn", {}), (9, 5, 4, 21))
    far = {
        "float32": (1e-30, 1e-20, 1e-15, 1e-13, 1e16, 1e30),
        "float64": (1e-200, 1e-150, 1e-144, 1e-140, 1e148, 1e200),
    }
    for dtype, factors in far.items():
        c = c.cast(dtype)
        _, _, tape = forward(bptt, c)
        want = backward(bptt, c, tape, trace=True).trace.norms[:, :, :3]
        for factor in factors:
            scaled = bptt.rnn_backward(
                tape, c.dy * np.array(factor, dtype), c.dstate * np.array(factor, dtype), trace=True
            )
            tolerance = 1e-5 if dtype == "float32" else 1e-12
            np.testing.assert_allclose(scaled.trace.norms[:, :, :3] / factor, want, tolerance)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_first_gradient_that_is_not_finite(value: float) -> None:
    c = problem(Case("", "lstm", {}), (9, 5, 4, 21))
    for module in (bptt, reference):
        _, _, tape = forward(module, c)
        assert backward(module, c, tape, trace=True).trace.nonfinite is None
        dy = c.dy.copy()
        dy[6, 3, 17] = value
        with np.errstate(invalid="ignore"):
            trace = module.lstm_backward(tape, dy, c.dstate, trace=True).trace
        assert trace.nonfinite == ("backward", 0, 6, 3, "h", 17)
        dc = c.dstate[1].copy()
        dc[2, 20] = value
        with np.errstate(invalid="ignore"):
            trace = module.lstm_backward(tape, c.dy, (c.dstate[0], dc), trace=True).trace
        assert trace.nonfinite == ("backward", 0, 8, 2, "c", 20)


def test_layers_show_each_layer_and_direction() -> None:
    rng = np.random.default_rng(0)
    layer = bptt.LSTM(3, 5, num_layers=2, bidirectional=True, dtype="float64", seed=1)
    x = rng.standard_normal((7, 4, 3))
    y, _, tape = layer.forward(x, lengths=[7, 3, 0, 5])
    dy = rng.standard_normal(y.shape)
    grads = layer.backward(tape, dy, trace="full")
    assert layer.backward(tape, dy).trace is None
    assert grads.trace.dh.shape == grads.trace.dc.shape == (4, 7)
    assert [cell.source.paths.reverse for cell in grads.trace.cells] == [False, True] * 2
    top = grads.trace.cells[3]
    assert not top.norms[3:, 1].any()
    np.testing.assert_allclose(np.sqrt((top.dh_by_sequence**2).sum(1)), grads.trace.dh[3], 1e-12)
    dy[4, 0, 6] = np.nan
    assert layer.backward(tape, dy, trace=True).trace.nonfinite == ("backward", 3, 4, 0, "h", 1)


def test_empty_calls() -> None:
    for T, B in ((0, 2), (3, 0)):
        _, _, tape = bptt.gru_forward(np.zeros((T, B, 2)), np.zeros((9, 2)), np.zeros((9, 3)))
        trace = bptt.gru_backward(tape, trace="full").trace
        assert trace.dh.shape == (T,)
        assert not trace.dh.any()
        assert trace.vanished_at is trace.nonfinite is None
        assert not trace.shares.w_hh.share.any()


def test_bad_requests() -> None:
    _, _, tape = bptt.rnn_forward(np.ones((3, 2, 2)), np.ones((4, 2)), np.ones((4, 4)))
    with pytest.raises(ValueError, match="rnn_backward: trace is 'everything', expected True"):
        bptt.rnn_backward(tape, trace="everything")
    trace = bptt.rnn_backward(tape, trace=True).trace
    with pytest.raises(ValueError, match=r'shares: .* expected that of a call with trace="full"'):
        trace.shares  # noqa: B018
    assert "T=3, B=2" in repr(trace)


# --- by lag


@pytest.mark.parametrize(
    "options",
    [{}, {"reverse": True, "lengths": True}, {"resets": True, "h_mask": True}],
    ids=lambda o: "-".join(o) or "plain",
)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_lags_equal_the_losses_taken_one_by_one(cell: str, options: dict[str, Any]) -> None:
    c = problem(Case("", cell, options), (8, 3, 4, 5))
    _, _, tape = forward(bptt, c)
    back = getattr(bptt, f"{cell}_backward")
    lags = bptt.by_lag(tape, c.dy, c.dstate)
    lengths = np.broadcast_to(c.options.get("lengths", 8), 3)
    want: dict[str, Any] = {
        name: np.zeros((8, *a.shape))
        for name, a in c.arrays.items()
        if name in ("w_ih", "w_hh", "b_ih")
    }
    for s in range(8):  # the loss of step s alone; what each step gave, by the reference
        for b in range(3):
            dy, last = np.zeros_like(c.dy), 0 if c.options.get("reverse") else lengths[b] - 1
            dy[s, b] = c.dy[s, b]
            dstate = only(c.dstate, b if s == last else -1)
            parts, _ = step_gradients(c._replace(dy=dy, dstate=dstate))
            for name, part in parts.items():
                for t in range(8):
                    if part[t].any():
                        want[name][abs(s - t)] += part[t]
    for name, part in want.items():
        whole, share = part.sum(0), getattr(lags, name)
        np.testing.assert_allclose(whole, getattr(back(tape, c.dy, c.dstate), name), 1e-11, 1e-12)
        norms = np.sqrt((part**2).reshape(8, -1).sum(1))
        np.testing.assert_allclose(share.norm, norms, 1e-10, 1e-12 * norms.max())
        projections = (part * whole).reshape(8, -1).sum(1) / (whole**2).sum()
        np.testing.assert_allclose(share.share, projections, 1e-10, 1e-12)
        assert abs(share.share.sum() - 1) < 1e-12
    few = bptt.by_lag(tape, c.dy, c.dstate, max_lag=2)
    assert np.array_equal(few.w_hh.share, lags.w_hh.share[:3])
    assert np.array_equal(few.dh, lags.dh[:3])


def test_lags_refuse() -> None:
    _, _, tape = bptt.rnn_forward(np.ones((3, 2, 2)), np.ones((4, 2)), np.ones((4, 4)))
    with pytest.raises(ValueError, match="by_lag: max_lag is -1, expected"):
        bptt.by_lag(tape, max_lag=-1)
    with pytest.raises(TypeError, match="by_lag: tape is list, expected that of"):
        bptt.by_lag([])  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", PLAIN, ids=lambda c: c.cell)
def test_of_few_rows_and_many_steps(isa: str, case: Case, dtype: str) -> None:
    for seed, shape in enumerate([(300, 1, 3, 17), (1, 1, 1, 1), (9, 1, 40, 65), (150, 2, 3, 34)]):
        for options in ("plain", "no-bias", "other-bias-reverse", "lengths", "lengths-reverse"):
            c = problem(case, shape, BY_ID[options], seed=seed).cast(dtype)
            got, want = traces(c)
            assert_equal(got, want, 5 * TOLERANCE[dtype])
            _, _, tape = forward(bptt, c)
            plain = backward(bptt, c, tape)
            traced = backward(bptt, c, tape, trace=True)
            same_bits(named(None, None, plain), named(None, None, traced._replace(trace=None)))
            assert np.array_equal(traced.trace.norms, got.norms)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CORE, ids=lambda c: c.id)
def test_norms_of_every_number_of_rows(isa: str, case: Case, dtype: str) -> None:
    """Steps of 1 to 17 rows, each measured at once, and of 1 to 3, which wait for their chunk."""
    for B in (3, 17):
        lengths = np.arange(17, 0, -1)[:B] - (B == 3)  # 45 rows: no multiple of a vector
        c = problem(case, (17, B, 2, 22), scale=0.3).cast(dtype)
        c = c._replace(options=c.options | {"lengths": lengths})
        if supported(c, {}):
            _, _, tape = forward(bptt, c)
            trace = backward(bptt, c, tape, trace="full").trace
            full = [trace.full.dh, trace.full.dc, *trace.full.gates.values()]
            for k, array in enumerate(full):
                want = 0 if array is None else np.linalg.norm(array.astype(np.float64), axis=-1)
                exact = 1e-6 if dtype == "float32" else 1e-13
                np.testing.assert_allclose(trace.norms[:, :, k], want, exact, 1e-30)
            norms = backward(bptt, c, tape, trace=True).trace.norms
            assert np.array_equal(norms, trace.norms)


@pytest.mark.parametrize("case", PLAIN, ids=lambda c: c.cell)
def test_norms_of_neighbours_of_any_size(isa: str, case: Case) -> None:
    """Zeros, numbers whose squares vanish or overflow, and values that are not finite."""
    for seed, (T, B, I, H) in enumerate([(40, 1, 3, 17), (7, 13, 3, 34), (6, 5, 3, 8)]):
        c = problem(case, (T, B, I, H), seed=seed, scale=0.5).cast("float32")
        sizes = np.random.default_rng(seed).choice([0, 1e-35, 1e-25, 1, 1e22, 1e33], (T, B, 1))
        c = c._replace(dy=(c.dy * sizes).astype("f"), dstate=None)
        tape = forward(bptt, c)[2]
        trace = backward(bptt, c, tape, trace="full").trace
        full = [trace.full.dh, trace.full.dc, *trace.full.gates.values()]
        for k, array in enumerate(full):
            if array is not None:
                want = np.sqrt((array.astype(np.float64) ** 2).sum(-1))
                np.testing.assert_allclose(trace.norms[:, :, k], want, 1e-6)
        dy = np.where(sizes == 1e22, np.nan, c.dy).astype("f")
        places = backward(bptt, c._replace(dy=dy), tape, trace=True).trace.norms[:, :, -1]
        assert np.all(places[sizes[:, :, 0] == 1e22] == 1)  # the first number of dh
