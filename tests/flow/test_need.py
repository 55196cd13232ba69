# SPDX-License-Identifier: MIT
"""The memory that a task needs: its measurement, and its part in verdicts and advice."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import bptt
from bptt import init
from bptt.cli import main
from bptt.flow import needed_memory
from bptt.layers.new import make_new

T, B, SIZE, HIDDEN = 60, 5, 4, 12
RNG = np.random.default_rng(0)
X = RNG.standard_normal((T, B, SIZE)).astype(np.float32)


def linear(scale: float, **options) -> bptt.RNN:
    """One step back scales a gradient exactly."""
    rnn = bptt.RNN(SIZE, HIDDEN, activation="identity", dtype="float64", seed=0, **options)
    init.orthogonal(rnn.parameters["weight_hh_l0"], 0, scale)
    return rnn


# --- needed_memory --------------------------------------------------------------------------------


def every(k: int):
    """The sum of the last k inputs, after every step."""

    def model(x, lengths=None):
        sums = np.concatenate([np.zeros_like(x[:1]), x.cumsum(0)])
        return sums[1:] - sums[np.maximum(np.arange(1, len(x) + 1) - k, 0)]

    return model


def at_the_end(k: int):
    def model(x, lengths=None):
        y = every(k)(x)
        return y[-1] if lengths is None else y[np.maximum(lengths, 1) - 1, np.arange(x.shape[1])]

    return model


@pytest.mark.parametrize("k", [1, 2, 3, 7, 8, 9, 37])
@pytest.mark.parametrize("kind", [every, at_the_end])
@pytest.mark.parametrize("lengths", [None, [T, T - 1, 50, 45, T]])
def test_a_sum_needs_what_it_sums(k, kind, lengths):
    """Fewer inputs do not give it, since each counts for more than 1 % of the loss."""
    x = np.random.default_rng(k).choice([-1.0, 1.0], (T, 300, 1))
    ends = None if lengths is None else np.resize(lengths, 300)
    model = kind(k)
    target = model(x, ends)
    found = needed_memory(model, x, target, lengths=ends)
    assert found.steps == k
    assert found.losses[-1] == pytest.approx(0, abs=1e-20)
    assert found.learnt
    assert list(found.inputs) == sorted(found.inputs)
    assert found.inputs[-1] == T


@pytest.mark.parametrize("each", [False, True])
def test_losses_are_those_of_the_layer_on_what_is_left(each):
    """By brute force: each answer alone, from its own last k inputs."""
    lengths = np.array([T, 7, 0, 30, 1])
    gru = bptt.GRU(SIZE, HIDDEN, dtype="float64", seed=0)
    out = bptt.Linear(HIDDEN, 3, dtype="float64", seed=1)
    target = RNG.integers(0, 3, (T, B) if each else B)

    def model(x, lengths):
        y, h = gru(x, lengths=lengths)
        return out(y if each else h[-1])

    found = needed_memory(model, X, target, lengths=lengths)
    for k, loss in zip(found.inputs, found.losses):
        answers, right = [], []
        for b, n in enumerate(lengths):
            for t in range(n // 2, n) if each else range(max(n - 1, 0), n):
                _, h = gru(X[max(t + 1 - k, 0) : t + 1, b : b + 1])
                answers.append(out(h[-1])[0])
                right.append(target[t, b] if each else target[b])
        assert loss == pytest.approx(bptt.cross_entropy(answers, right)[0], rel=1e-10)
    good = found.losses[-1] + 0.01 * found.losses.max()
    assert found.losses[list(found.inputs).index(found.steps)] <= good


def test_a_trained_network_needs_what_its_task_spans():
    """Parity of the last two bits."""
    rng = np.random.default_rng(0)
    lstm, out = bptt.LSTM(1, 16, seed=0), bptt.Linear(16, 2, seed=1)
    adam = bptt.Adam(bptt.optim.join(lstm=lstm.parameters, out=out.parameters), lr=2e-2)

    def batch():
        bits = rng.integers(0, 2, (20, 32))
        return bits[..., None].astype(np.float32), bits ^ np.concatenate([bits[:1], bits[:-1]])

    def model(x):
        return out(lstm(x)[0])

    untrained = needed_memory(model, *batch())
    for _ in range(250):
        x, target = batch()
        y, _, tape = lstm.forward(x)
        logits, out_tape = out.forward(y)
        top = out.backward(out_tape, bptt.cross_entropy(logits, target)[1])
        grads = lstm.backward(tape, top.x)
        adam.step(bptt.optim.join(lstm=grads.params, out=top.params))
    found = needed_memory(model, *batch())
    assert 2 <= found.steps <= 4
    assert found.learnt
    assert not untrained.learnt
    assert "unknown" in repr(untrained)
    assert re.search(r"with a constant answer\)$", repr(untrained))
    report = bptt.gradient_flow(lstm, batch()[0], loss="every", needs=found.steps)
    assert (report.verdict, report.advice) == ("healthy", ())


def test_constant_is_the_best_answer_that_is_always_the_same():
    x = RNG.standard_normal((10, 200, 2))
    target = RNG.standard_normal((200, 3)) + [1, 2, 3]
    found = needed_memory(lambda x: np.zeros((x.shape[1], 3)), x, target)
    assert found.constant == pytest.approx(bptt.mse(target.mean(0) + 0 * target, target)[0])
    labels = RNG.integers(0, 4, 200)
    labels[:7] = -100  # these do not count
    found = needed_memory(lambda x: np.zeros((x.shape[1], 4)), x, labels)
    shares = np.bincount(labels[7:]) / 193
    logits = np.broadcast_to(np.log(shares), (200, 4))
    assert found.constant == pytest.approx(bptt.cross_entropy(logits, labels)[0])
    own = needed_memory(lambda x: x[-1], x, x[-1], loss=lambda p, t: (abs(p - t).max(), None))
    assert (own.steps, own.constant, own.learnt) == (1, None, True)


def test_a_large_batch_runs_in_parts(monkeypatch):
    x = RNG.standard_normal((30, 50, 2))
    calls = []

    def model(x):
        calls.append(x.shape)
        return every(5)(x)

    whole = needed_memory(model, x, every(5)(x))
    most = max(np.prod(shape) for shape in calls)
    monkeypatch.setattr("bptt.flow.need.MOST_VALUES", 500)
    calls.clear()
    parts = needed_memory(model, x, every(5)(x))
    np.testing.assert_array_equal(whole.losses, parts.losses)
    assert max(np.prod(shape) for shape in calls) <= 500 < most


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    x = torch.randn(20, 30, 2)
    found = needed_memory(lambda x: torch.tensor(x)[-3:].sum(0), x, x[-3:].sum(0))
    assert found.steps == 3


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"x": X[0, 0]}, ValueError, "needed_memory: x has shape (4,), expected (T, B, ...)"),
        ({"x": X[:0]}, ValueError, "needed_memory: x has shape (0, 5, 4), expected"),
        ({"target": X[0, :3]}, ValueError, "needed_memory: target has shape (3, 4), expected"),
        ({"lengths": [0] * B}, ValueError, "needed_memory: lengths has no step"),
        ({"lengths": [T + 1] * B}, ValueError, "needed_memory: lengths"),
        ({"lengths": [3]}, ValueError, "needed_memory: lengths"),
        ({"seed": -1}, ValueError, "needed_memory: seed is -1"),
        ({"x": np.ma.masked_array(X)}, TypeError, "needed_memory: x is a masked array"),
        ({"model": 3}, TypeError, "needed_memory: model is of type int, expected"),
        ({"loss": "mse"}, TypeError, "needed_memory: loss is of type str, expected"),
    ],
)
def test_what_needed_memory_refuses(how, error, words):
    arguments = {"model": lambda x, lengths=None: x[-1], "x": X, "target": X[-1], **how}
    with pytest.raises(error, match=re.escape(words)):
        needed_memory(**arguments)


def test_a_target_that_can_be_read_in_two_ways_is_refused():
    square = RNG.standard_normal((1, 1, 1))
    with pytest.raises(ValueError, match="fits only one of"):
        needed_memory(lambda x: x, square, square)


# --- verdicts and advice --------------------------------------------------------------------------


def test_a_verdict_depends_on_the_need():
    """0.6^k falls to 1 % between lags 10 and 11: eleven inputs are reached, twelve are not."""
    report = bptt.gradient_flow(linear(0.6), X)
    horizon = report.cells[0].curve.horizon
    assert 9 < horizon - 1 < 10
    assert report.verdict == "vanishing"
    assert report.verdicts[0].endswith("; a fault if the task needs more than 11 steps")
    assert report.advice[0].text.startswith("Train again, starting with") is False
    assert "f the task needs more than 11 steps, " in report.advice[0].text
    for needs in (1, 2, 11):
        fine = bptt.gradient_flow(linear(0.6), X, needs=needs)
        assert (fine.verdict, fine.advice) == ("healthy", ())
        assert fine.verdicts[0].endswith(f"10x every 4.51 steps; the task needs {needs}")
    for needs in (12, T, 3 * T):
        ill = bptt.gradient_flow(linear(0.6), X, needs=needs)
        assert ill.verdict == "vanishing"
        assert ill.verdicts[0].endswith(f"; the task needs {needs}")
        assert ill.advice
        assert "if the task" not in " ".join(a.text.lower() for a in ill.advice)
    longer = bptt.gradient_flow(linear(1.0), X, needs=3 * T)
    assert longer.verdict == "healthy"
    assert "needs 180; use a batch of longer sequences to see that" in longer.verdicts[0]
    assert "needs" not in bptt.gradient_flow(linear(1.0), X, needs=T).verdicts[0]


def test_units_that_are_off_further_back_than_the_need():
    rnn = bptt.RNN(SIZE, HIDDEN, activation="relu", seed=0)
    x = X.copy()
    x[20] = -100  # at this step all units are off: nothing gets behind it
    rnn.parameters["weight_ih_l0"][...] = np.abs(rnn.parameters["weight_ih_l0"])
    rnn.parameters["bias_ih_l0"][...] = 1
    init.orthogonal(rnn.parameters["weight_hh_l0"], 0, 0.9)
    zero = bptt.gradient_flow(rnn, x).cells[0].curve.zero_from
    verdicts = [bptt.gradient_flow(rnn, x, needs=n).verdict for n in (zero, zero + 1)]
    assert bptt.gradient_flow(rnn, x).verdict == verdicts[1] == "dead"
    assert verdicts[0] != "dead"


def test_alternatives_are_alternatives_and_starts_can_be_called():
    lstm = bptt.LSTM(SIZE, HIDDEN, seed=0)
    report = bptt.gradient_flow(lstm, X, needs=40)
    first, second = report.advice[:2]
    assert first.text == "Start with bptt.init.chrono(layer, t_max=40)"
    assert re.fullmatch(r"Or start with bptt.init.forget_bias\(layer, [\d.]+\)", second.text)
    for advice, call in ((first, init.chrono), (second, init.forget_bias)):
        layer, other = bptt.LSTM(SIZE, HIDDEN, seed=0), bptt.LSTM(SIZE, HIDDEN, seed=0)
        advice.start(layer)
        value = float(re.search(r"[\d.]+(?=\)$)", advice.text)[0])
        call(other, value, *([0] if call is init.chrono else []))
        for name, array in layer.parameters.items():
            np.testing.assert_array_equal(array, other.parameters[name])
        horizon = bptt.gradient_flow(layer, X).cells[0].curve.horizon
        assert horizon >= 39
    rest = bptt.gradient_flow(bptt.RNN(SIZE, HIDDEN, seed=0), X).advice[1:]
    assert rest
    assert all(re.match("Or[, ]", a.text) for a in rest)


def test_a_clip_is_an_alternative_to_a_start():
    texts = [a.text for a in bptt.gradient_flow(linear(1.3), X).advice]
    assert texts[0] == "Train again, starting with bptt.init.orthogonal(w) for each weight_hh"
    assert texts[1].startswith("Or keep the weights, and clip inside BPTT: step_clip=(")
    assert bptt.gradient_flow(linear(1.3), X, needs=2).verdict == "exploding"


def test_a_start_is_one_of_a_new_model():
    """For a trained model, a new one with that start is tried, not its own weights."""
    lstm = bptt.LSTM(SIZE, HIDDEN, seed=0)
    for array in lstm.parameters.values():
        array *= 0.1  # still within the bound, then beyond it
    assert bptt.gradient_flow(lstm, X, needs=T).advice[0].text.startswith("Start with ")
    lstm.parameters["weight_ih_l0"][0, 0] = 2
    (chrono, *_) = bptt.gradient_flow(lstm, X, needs=T).advice
    assert chrono.text == f"Train again, starting with bptt.init.chrono(layer, t_max={T})"
    said = re.search(r"tried on this batch with new weights: .* to (.*) steps$", chrono.reason)
    new = bptt.LSTM(SIZE, HIDDEN)
    make_new(new, np.random.default_rng(0))
    chrono.start(new)
    horizon = bptt.gradient_flow(new, X).cells[0].curve.horizon
    assert said
    assert said[1] == (f"over {T - 1}" if horizon >= T - 1 else f"{horizon:.3g}")


def saturated(layer, x) -> str:
    return bptt.gradient_flow(layer, x, needs=T).advice[0].text


def test_what_saturates_is_scaled():
    """For large x the first layer's x, otherwise the other terms of the pre-activations."""
    assert saturated(bptt.LSTM(SIZE, HIDDEN, seed=0), 30 * X) == (
        "layer 0: scale x or weight_ih_l0 down"
    )
    for name in ("weight_ih_l0", "weight_ih_l1", "bias_ih_l0", "bias_hh_l1"):
        layer = bptt.RNN(SIZE, HIDDEN, 2, seed=0)
        layer.parameters[name][...] *= 60
        k = name[-1]
        want = f"bias_ih_l{k} and bias_hh_l{k}" if "bias" in name else name
        assert saturated(layer, X) == f"layer {k}: scale {want} down"
    layer = bptt.RNN(SIZE, HIDDEN, seed=0)
    layer.parameters["weight_hh_l0"][...] = 0.4  # one sign, so that h stays at its end
    assert saturated(layer, X) == "layer 0: scale weight_hh_l0 down"


# --- a loss at every step -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bptt.RNN, bptt.LSTM, bptt.GRU])
@pytest.mark.parametrize("lengths", [None, [T, 30, 0, 9, 1]])
def test_with_a_loss_at_every_step_shares_are_by_lag_from_it(kind, lengths):
    """By hand: the gradient that each step's loss alone sends beyond the horizon."""
    layer = kind(SIZE, HIDDEN, dtype="float64", seed=0)
    dy = np.random.default_rng(1).standard_normal((T, B, HIDDEN))
    report = bptt.gradient_flow(layer, X, dy, lengths=lengths)
    (cell,) = report.cells
    ends = np.full(B, T) if lengths is None else np.array(lengths)
    _, _, tape = layer.forward(X, lengths=lengths)
    whole, near = layer.backward(tape, dy).params["weight_hh_l0"], 0
    for t in range(T):
        one = np.zeros_like(dy)
        one[t] = dy[t] * (t < ends)[:, None]
        trace = layer.backward(tape, one, trace="full").trace.cells[0]
        G = np.concatenate(list(trace.full.gates.values()), -1)
        if trace.full.split_gate is not None:
            G[..., -HIDDEN:] = trace.full.split_gate
        some = slice(max(t - math.floor(cell.curve.horizon), 0), t + 1)
        near = near + np.einsum("tbm,tbn->mn", G[some], trace.full.operand[some])
    far = 1 - (near * whole).sum() / (whole**2).sum()
    assert cell.far == pytest.approx(far, abs=1e-10)
    said = re.search(r"; lags above (\d+) contribute (\S+) %", report.verdicts[0])
    assert said
    assert int(said[1]) == math.floor(cell.curve.horizon)
    assert float(said[2]) == pytest.approx(100 * far, rel=6e-3)
    assert "before t" not in report.verdicts[0]


def test_what_is_not_known_of_lags_is_not_said():
    deep = bptt.gradient_flow(bptt.RNN(SIZE, HIDDEN, 2, seed=0), X, loss="every")
    assert "contribute" not in deep.verdicts[0]
    assert "lags above" in deep.verdicts[1]
    dilated = bptt.gradient_flow(bptt.RNN(SIZE, HIDDEN, seed=0, dilation=2), X, loss="every")
    assert "contribute" not in dilated.verdicts[0]
    assert math.isnan(dilated.cells[0].far)


def test_a_zero_is_at_a_lag_too():
    x = RNG.standard_normal((200, 2, SIZE))
    rnn = bptt.RNN(SIZE, HIDDEN, seed=0)
    every_step = bptt.gradient_flow(rnn, x, loss="every").verdicts[0]
    last = bptt.gradient_flow(rnn, x).verdicts[0]
    lag = int(re.search(r"exactly zero at lags above (\d+)", every_step)[1])
    assert f"exactly zero before t = {199 - lag}" in last


# --- where else a need is known -------------------------------------------------------------------


def test_a_monitor_alerts_on_what_the_task_needs():
    rnn = linear(0.6)
    _, h, tape = rnn.forward(X)
    trace = rnn.backward(tape, dstate=np.ones_like(h), trace=True).trace
    kinds = {}
    for needs in (None, 5, 40):
        monitor = bptt.FlowMonitor(needs=needs, on_alert=lambda alert: None)
        monitor.update(0, trace)
        kinds[needs] = [alert.kind for alert in monitor.alerts]
        assert monitor.records[0]["cells"][0]["horizon"] == pytest.approx(10, abs=1)
    assert kinds == {None: ["vanishing"], 5: [], 40: ["vanishing"]}
    with pytest.raises(ValueError, match="FlowMonitor: needs is 0"):
        bptt.FlowMonitor(needs=0)


def test_the_command_takes_a_need(tmp_path, capsys):
    rnn = bptt.RNN(SIZE, HIDDEN, seed=0)
    bptt.save(tmp_path / "m.npz", rnn.parameters)
    np.save(tmp_path / "x.npy", X)
    args = ["flow", str(tmp_path / "m.npz"), "--data", str(tmp_path / "x.npy"), "--needs"]
    assert main([*args, "3"]) == 0
    text = str(bptt.gradient_flow(rnn, X, needs=3))
    lines = capsys.readouterr().out.splitlines()
    assert lines.pop(1).startswith("x of shape")  # what a file leaves open
    assert lines == text.splitlines()
    assert "healthy" in text
    for wrong in ("0", "-1", "x"):
        with pytest.raises(SystemExit):
            main([*args, wrong])
        assert "a whole number from 1 up" in capsys.readouterr().err
    with pytest.raises(ValueError, match="gradient_flow: needs is 0"):
        bptt.gradient_flow(rnn, X, needs=0)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            lambda x: np.full(x.shape[:2], np.nan),
            "the loss with 1 inputs is nan, expected a finite",
        ),
        (bptt.GRU(SIZE, HIDDEN, seed=0), "model returns 2 results, expected its answers alone"),
    ],
)
def test_answers_that_cannot_be_measured(model, words):
    with pytest.raises((TypeError, ValueError), match=f"needed_memory: {words}"):
        bptt.flow.needed_memory(model, X, np.zeros(X.shape[:2]))


def test_a_page_and_a_picture_are_two_files(tmp_path, capsys):
    bptt.save(tmp_path / "m.npz", bptt.RNN(SIZE, HIDDEN, seed=0).parameters)
    np.save(tmp_path / "x.npy", X)
    out = str(tmp_path / "o.svg")
    args = [
        str(tmp_path / "m.npz"),
        "--data",
        str(tmp_path / "x.npy"),
        "--html",
        out,
        "--plot",
        out,
    ]
    assert main(["flow", *args]) == 2
    assert "flow: --html and --plot have the same file" in capsys.readouterr().err
    assert not (tmp_path / "o.svg").exists()
